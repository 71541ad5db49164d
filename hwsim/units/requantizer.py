"""Requantiser: accumulators to wide codes, wide codes to int8, each by one multiplication and a rounding shift.

A linear has a multiplier and a bias for every output channel; the bias is added in the output's format,
because a channel without a nonzero weight has no accumulator scale to express it in.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.fixed_point import requantize, saturate
from hwsim.units.accumulator import CODE_MAGNITUDE
from hwsim.units.actions import INT_MULTIPLY, WORD, Actions, times, total

Array = np.ndarray[Any, Any]


@compiled
def _channels(accumulators, mantissa, shift, bias, bits, half_even, out):  # type: ignore[no-untyped-def]
    # |accumulator| < 2**31 and |mantissa| < 2**31 as requantize asks; below 2**62 + 2**20 with the bias.
    events = 0
    for m in range(out.shape[0]):
        for n in range(out.shape[1]):
            c = n if mantissa.shape[0] > 1 else 0
            value = requantize(accumulators[m, n], mantissa[c], shift[c], half_even) + bias[n]
            out[m, n], event = saturate(value, bits)
            events += event
    return events


@compiled
def _values(x, mantissa, shift, bits, half_even, out):  # type: ignore[no-untyped-def]
    events = 0
    for i in range(x.shape[0]):
        out[i], event = saturate(requantize(x[i], mantissa, shift, half_even), bits)
        events += event
    return events


@compiled
def _codes(x, mantissa, shift, magnitude, half_even, out):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        code = requantize(x[i], mantissa, shift, half_even)
        out[i] = max(-magnitude, min(magnitude, code))


def requantize_channels(
    accumulators: Array, mantissa: Array, shift: Array, bias_codes: Array, *, bits: int, half_even: bool
) -> tuple[Array, int]:
    """Return (codes int32 (M, N) of `bits` bits, saturated values) of int32 sums (M, N); N multipliers or one."""
    out = np.empty(accumulators.shape, np.int32)
    events = _channels(accumulators, mantissa, shift, bias_codes, bits, half_even, out)
    return out, int(events)


def requantize_values(
    accumulators: Array, mantissa: Array, shift: Array, *, bits: int, half_even: bool
) -> tuple[Array, int]:
    """Return (codes int32 of `bits` bits, saturated values) under one multiplier, any shape."""
    out = np.empty(accumulators.shape, np.int32)
    events = _values(accumulators.reshape(-1), mantissa[0], shift[0], bits, half_even, out.reshape(-1))
    return out, int(events)


def requantize_codes(x: Array, mantissa: Array, shift: Array, *, half_even: bool) -> Array:
    """Return int8 codes in [-127, 127] of wide codes, any shape; saturating here is the contract, no event."""
    out = np.empty(x.shape, np.int8)
    _codes(x.reshape(-1), mantissa[0], shift[0], np.int64(CODE_MAGNITUDE), half_even, out.reshape(-1))
    return out


def error_bound_lsb(largest_code: float, multiplier_bits: int, *, biased: bool) -> float:
    """Return the bound on |code - real value| in LSB for results up to `largest_code`, before saturation.

    One rounding, another of the bias, and the multiplier's own error, at most 2**-(bits-1) of the result.
    """
    return 0.5 + 0.5 * biased + largest_code * 2.0 ** -(multiplier_bits - 1)


def actions(elements: int, *, biased: bool) -> Actions:
    """Return the unit's actions for `elements` values: multiply, shift and round, saturate, and the bias."""
    return times(total(INT_MULTIPLY, WORD, WORD, times(WORD, int(biased))), elements)
