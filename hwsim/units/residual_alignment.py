"""Residual alignment: two codes of different formats brought to a third, then added.

Formats differ by powers of two, so aligning is a shift. Both operands go to the finer of the two
formats, exactly, and the sum is rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.fixed_point import rescale_power_of_two, saturate
from hwsim.units.actions import WORD, Actions, times, total

Array = np.ndarray[Any, Any]

ERROR_BOUND_LSB = 0.5  # one rounding, before saturation


@compiled
def _add(x, residual, x_left, residual_left, right, bits, half_even, out):  # type: ignore[no-untyped-def]
    # Operands have at most 20 bits and formats lie within 36 shifts of each other: sums stay below 2**56.
    events = 0
    for i in range(out.shape[0]):
        value = (np.int64(x[i]) << x_left) + (np.int64(residual[i]) << residual_left)
        out[i], event = saturate(rescale_power_of_two(value, right, half_even), bits)
        events += event
    return events


def residual_add(
    x: Array,
    residual: Array,
    x_fraction_bits: int,
    residual_fraction_bits: int,
    output_fraction_bits: int,
    *,
    bits: int,
    half_even: bool,
) -> tuple[Array, int]:
    """Return (x + residual as int32 codes of `bits` bits, saturated values), any shape."""
    finest = max(x_fraction_bits, residual_fraction_bits)
    out = np.empty(x.shape, np.int32)
    events = _add(
        x.reshape(-1),
        residual.reshape(-1),
        finest - x_fraction_bits,
        finest - residual_fraction_bits,
        finest - output_fraction_bits,
        bits,
        half_even,
        out.reshape(-1),
    )
    return out, int(events)


def actions(elements: int) -> Actions:
    """Return the unit's actions for `elements` sums: align, add, round, saturate."""
    return times(total(WORD, WORD, WORD, WORD), elements)
