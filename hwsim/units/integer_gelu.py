"""Integer GELU, by I-BERT's polynomial for erf or by a table of straight lines.

Polynomial (Kim et al., ICML 2021, section 3.4): erf(v) ~ sign(v) (1 - k (1.769 - min(|v|, 1.769))**2) with
k = 0.2888 and v = x / sqrt(2). GELU is then x * (k / 2) * (1 / k + sign(x) (1 / k - s**2)), s the
difference, and k / 2 goes into the output's multiplier.

Table: GELU(x) = max(x, 0) - d(|x|) with d(a) = a * Phi(-a), which fades away: entries over [0, 4).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.fixed_point import (
    fixed_codes,
    interpolate,
    normalized_multiplier,
    requantize,
    rescale_power_of_two,
    saturate,
)
from hwsim.units.actions import INT_MULTIPLY, TABLE_PAIR, WORD, Actions, times, total
from hwsim.widths import Approximation

Array = np.ndarray[Any, Any]

_K, _CLIP = 0.2888, 1.769
_INTEGER_BITS = 4  # the sign and values below 8: 2 / k = 6.93
_GUARD_BITS = 4
_RANGE_BITS = 2  # the table covers |x| < 4
# Largest |approximation - x * Phi(x)|, at |x| = 2.35; a grid of 1e6 points in binary64.
POLYNOMIAL_ERROR = 0.0182
_CURVATURE = 0.7979  # of d: |d''| <= 2 phi(0), at 0
_TAIL_ERROR = 1.27e-4  # d(4)


@compiled
def _polynomial(x, v_multiplier, out_multiplier, fraction_bits, clip, inverse_k, bits, half_even, out):  # type: ignore[no-untyped-def]
    # s < 2 and F <= 20: squares below 2**42. x has 20 bits, w 24, and their product 44; shifted down to
    # 4 guard bits it stays below 2**28, as requantize asks.
    events = 0
    for i in range(x.shape[0]):
        value = np.int64(x[i])
        v = requantize(abs(value), v_multiplier[0], v_multiplier[1], half_even)
        s = clip - min(v, clip)
        erf = inverse_k - rescale_power_of_two(s * s, fraction_bits, half_even)
        w = inverse_k + (erf if value >= 0 else -erf)
        product = rescale_power_of_two(value * w, fraction_bits - _GUARD_BITS, half_even)
        out[i], event = saturate(requantize(product, out_multiplier[0], out_multiplier[1], half_even), bits)
        events += event
    return events


@compiled
def _piecewise(x, table, step_bits, to_unit, to_output, fraction_bits, bits, half_even, out):  # type: ignore[no-untyped-def]
    # 20 bits brought from any format to any other need at most 36 shifts: below 2**56.
    events, limit = 0, np.int64(1) << (fraction_bits + _RANGE_BITS)
    for i in range(x.shape[0]):
        value = rescale_power_of_two(np.int64(x[i]), to_unit, half_even)
        result, magnitude = max(value, np.int64(0)), abs(value)
        if magnitude < limit:
            result -= interpolate(table, magnitude, step_bits, half_even)
        out[i], event = saturate(rescale_power_of_two(result, to_output, half_even), bits)
        events += event
    return events


def difference_table(entries: int, gelu_bits: int) -> Array:
    """Return d(a) = a * Phi(-a) at a = 0, 4/entries, ..., 4, int64 (entries + 1,)."""
    points = np.arange(entries + 1) * (2.0**_RANGE_BITS / entries)
    d = np.array([a * 0.5 * math.erfc(a / math.sqrt(2)) for a in points])
    return fixed_codes(d, gelu_bits - _INTEGER_BITS, gelu_bits)


def gelu(
    x: Array,
    input_fraction_bits: int,
    output_fraction_bits: int,
    *,
    method: Approximation,
    gelu_bits: int,
    multiplier_bits: int,
    table_entries: int,
    bits: int,
    half_even: bool,
) -> tuple[Array, int]:
    """Return (GELU of codes, int32 of `bits` bits; saturated values), any shape."""
    fraction_bits = gelu_bits - _INTEGER_BITS
    out = np.empty(x.shape, np.int32)
    if method is Approximation.TABLE:
        events = _piecewise(
            x.reshape(-1),
            difference_table(table_entries, gelu_bits),
            fraction_bits + _RANGE_BITS - int(math.log2(table_entries)),
            input_fraction_bits - fraction_bits,
            fraction_bits - output_fraction_bits,
            fraction_bits,
            bits,
            half_even,
            out.reshape(-1),
        )
        return out, int(events)
    to_v = normalized_multiplier(math.sqrt(0.5) * 2.0 ** (fraction_bits - input_fraction_bits), multiplier_bits)
    to_output = normalized_multiplier(
        _K / 2 * 2.0 ** (output_fraction_bits - input_fraction_bits - _GUARD_BITS), multiplier_bits
    )
    events = _polynomial(
        x.reshape(-1),
        np.concatenate(to_v),
        np.concatenate(to_output),
        fraction_bits,
        int(fixed_codes(_CLIP, fraction_bits, gelu_bits)),
        int(fixed_codes(1 / _K, fraction_bits, gelu_bits)),
        bits,
        half_even,
        out.reshape(-1),
    )
    return out, int(events)


def error_bound_lsb(
    largest: float,
    method: Approximation,
    input_fraction_bits: int,
    output_fraction_bits: int,
    *,
    gelu_bits: int,
    multiplier_bits: int,
    table_entries: int,
) -> float:
    """Return the bound on |code - GELU| in output LSB for |x| up to `largest`, before saturation.

    Polynomial: its own error; half an LSB of v (times 2 k s <= 1.03) and the multiplier's share of v below the
    clip; roundings of the square, 1 / k twice and the clip, all times x / 2; half an LSB of the guarded product,
    the multiplier of the output, one rounding. Table: the straight lines and the tail; half an LSB of the unit
    for x (slope <= 1.13), the entries and the interpolation; one rounding.
    """
    lsb = 2.0 ** -(gelu_bits - _INTEGER_BITS)
    output_lsb = 2.0**-output_fraction_bits
    if method is Approximation.TABLE:
        step = 2.0**_RANGE_BITS / table_entries
        unit = (1.13 * 0.5 * (input_fraction_bits > gelu_bits - _INTEGER_BITS) + 1.0) * lsb
        return 0.5 + (_CURVATURE * step**2 / 8 + _TAIL_ERROR + unit) / output_lsb
    share = 2.0 ** -(multiplier_bits - 1)
    erf = 1.03 * (lsb + _CLIP * share) + _K * 2 * lsb
    guarded = 0.5 * 2.0 ** -(input_fraction_bits + _GUARD_BITS) * _K / 2
    return 0.5 + (POLYNOMIAL_ERROR + largest * (erf / 2 + share) + guarded) / output_lsb


def actions(elements: int, method: Approximation) -> Actions:
    """Return the unit's actions for `elements` values.

    Polynomial: two multipliers with their roundings, a square, the product with x; a comparison, four additions,
    a saturation. Table: two shifts, two comparisons, a pair of entries, a product, two additions, a saturation.
    """
    if method is Approximation.TABLE:
        return times(total(TABLE_PAIR, INT_MULTIPLY, times(WORD, 8)), elements)
    return times(total(times(INT_MULTIPLY, 4), times(WORD, 10)), elements)
