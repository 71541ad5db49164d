"""Integer tanh of the pooler: straight lines between table entries over [0, 8), odd, 1 beyond."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.fixed_point import fixed_codes, interpolate, rescale_power_of_two, saturate
from hwsim.units.actions import INT_MULTIPLY, TABLE_PAIR, WORD, Actions, times, total

Array = np.ndarray[Any, Any]

_INTEGER_BITS = 4
_RANGE_BITS = 3  # the table covers |x| < 8
_CURVATURE = 0.7699  # max |tanh''| = 4 / (3 sqrt 3)
_TAIL_ERROR = 2.3e-7  # 1 - tanh(8)


@compiled
def _tanh(x, table, step_bits, to_unit, to_output, limit, bits, half_even, out):  # type: ignore[no-untyped-def]
    # 20 bits brought from any format to the unit's need at most 28 shifts: below 2**48.
    events = 0
    for i in range(x.shape[0]):
        value = rescale_power_of_two(np.int64(x[i]), to_unit, half_even)
        magnitude = min(abs(value), limit - 1)
        result = interpolate(table, magnitude, step_bits, half_even)
        if value < 0:
            result = -result
        out[i], event = saturate(rescale_power_of_two(result, to_output, half_even), bits)
        events += event
    return events


def tanh_table(entries: int, unit_bits: int) -> Array:
    """Return tanh at 0, 8/entries, ..., 8, int64 (entries + 1,)."""
    points = np.arange(entries + 1) * (2.0**_RANGE_BITS / entries)
    return fixed_codes(np.tanh(points), unit_bits - _INTEGER_BITS, unit_bits)


def tanh(
    x: Array,
    input_fraction_bits: int,
    output_fraction_bits: int,
    *,
    unit_bits: int,
    table_entries: int,
    bits: int,
    half_even: bool,
) -> tuple[Array, int]:
    """Return (tanh of codes, int32 of `bits` bits; saturated values), any shape."""
    fraction_bits = unit_bits - _INTEGER_BITS
    out = np.empty(x.shape, np.int32)
    events = _tanh(
        x.reshape(-1),
        tanh_table(table_entries, unit_bits),
        fraction_bits + _RANGE_BITS - int(math.log2(table_entries)),
        input_fraction_bits - fraction_bits,
        fraction_bits - output_fraction_bits,
        np.int64(1) << (fraction_bits + _RANGE_BITS),
        bits,
        half_even,
        out.reshape(-1),
    )
    return out, int(events)


def error_bound_lsb(
    input_fraction_bits: int, output_fraction_bits: int, *, unit_bits: int, table_entries: int
) -> float:
    """Return the bound on |code - tanh| in output LSB.

    Straight lines and tail; half an LSB of the unit for x, where its format is finer, for the entries and for
    the interpolation; one rounding.
    """
    step, lsb = 2.0**_RANGE_BITS / table_entries, 2.0 ** -(unit_bits - _INTEGER_BITS)
    unit = (1.0 + 0.5 * (input_fraction_bits > unit_bits - _INTEGER_BITS)) * lsb
    return 0.5 + (_CURVATURE * step**2 / 8 + _TAIL_ERROR + unit) * 2.0**output_fraction_bits


def actions(elements: int) -> Actions:
    """Return the unit's actions for `elements` values: two shifts, a clip, a pair of entries and their line."""
    return times(total(TABLE_PAIR, INT_MULTIPLY, times(WORD, 6)), elements)
