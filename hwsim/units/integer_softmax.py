"""Integer softmax: distances from the row's maximum as powers of two, summed, one reciprocal a row.

exp(-d) = 2**-t with t = d * log2(e) = z + u, z whole and u in [0, 1): 2**-z is a shift, and 2**-u comes
from a polynomial or from a table. The polynomial is I-BERT's exp(p) ~ a (p + b)**2 + c on (-ln 2, 0],
a = 0.3585, b = 1.353, c = 0.344 (Kim et al., ICML 2021, section 3.5). With p = -u ln 2 it is
a ln(2)**2 * ((b / ln 2 - u)**2 + c / (a ln(2)**2)), and the leading factor cancels in the quotient.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.fixed_point import (
    MAX_SHIFT,
    Multiplier,
    fixed_codes,
    interpolate,
    normalized_multiplier,
    reciprocal,
    requantize,
    rescale_power_of_two,
    saturate,
)
from hwsim.units.actions import INT_DIVIDE, INT_MULTIPLY, TABLE_PAIR, WORD, Actions, times, total
from hwsim.widths import Approximation

Array = np.ndarray[Any, Any]

PASSES = 3  # over a row: its maximum, the exponentials and their sum, the quotients
_A, _B, _C = 0.3585, 1.353, 0.344
_INTEGER_BITS = 4  # the sign and values below 8: (1.952**2 + 1.997) = 5.807
# approximation / exp - 1 of the polynomial lies in [-3.10e-3, 2.46e-3], at p = -0.554 and -0.152; a grid of
# 1e6 points in binary64. That of straight lines over n entries lies in [0, (ln(2) / n)**2 / 8].
_POLYNOMIAL_SPREAD = 5.57e-3


@compiled
def _power(u, fraction_bits, offset, constant, table, step_bits, half_even):  # type: ignore[no-untyped-def]
    """Return 2**-u up to a constant factor; u in [0, 1), 20 fraction bits at most: squares below 2**43."""
    if table.shape[0] > 0:
        return interpolate(table, u, step_bits, half_even)
    base = offset - u
    return rescale_power_of_two(base * base, fraction_bits, half_even) + constant


@compiled
def _softmax(  # type: ignore[no-untyped-def]
    x, lengths, mantissa, shift, fraction_bits, offset, constant, table, step_bits, bits, output_bits, half_even, out
):
    # A distance of two 20-bit scores has 21 bits, times log2(e) 2**(F - f) below 2**50. An exponential has
    # F + 3 <= 23 bits, a row of 2**20 keys sums to 43; a product with the mantissa to 23 + 24 = 47.
    one = np.int64(1) << fraction_bits
    exponentials = np.empty(x.shape[3], np.int64)
    events = 0
    for b in range(x.shape[0]):
        valid = lengths[b]
        for h in range(x.shape[1]):
            for i in range(x.shape[2]):
                row = x[b, h, i]
                largest = np.int64(row[0])
                for j in range(1, valid):
                    largest = max(largest, np.int64(row[j]))
                summed = np.int64(0)
                for j in range(valid):
                    t = requantize(largest - row[j], mantissa, shift, half_even)
                    power = _power(t & (one - 1), fraction_bits, offset, constant, table, step_bits, half_even)
                    exponentials[j] = rescale_power_of_two(power, min(t >> fraction_bits, MAX_SHIFT), half_even)
                    summed += exponentials[j]
                inverse, exponent = reciprocal(summed, bits)
                for j in range(x.shape[3]):
                    out[b, h, i, j] = 0
                    if j < valid:
                        value = rescale_power_of_two(exponentials[j] * inverse, exponent - (output_bits - 2), half_even)
                        out[b, h, i, j], event = saturate(value, output_bits)
                        events += event
    return events


def base_two_multiplier(input_fraction_bits: int, softmax_bits: int, multiplier_bits: int) -> Multiplier:
    """Return the multiplier from scores to base-2 exponents: log2(e), and the unit's own format."""
    return normalized_multiplier(
        math.log2(math.e) * 2.0 ** (softmax_bits - _INTEGER_BITS - input_fraction_bits), multiplier_bits
    )


def power_table(entries: int, softmax_bits: int) -> Array:
    """Return 2**-u at u = 0, 1/entries, ..., 1, int64 (entries + 1,)."""
    return fixed_codes(np.exp2(-np.arange(entries + 1) / entries), softmax_bits - _INTEGER_BITS, softmax_bits)


def softmax(
    x: Array,
    lengths: Array,
    mantissa: Array,
    shift: Array,
    *,
    method: Approximation,
    bits: int,
    table_entries: int,
    output_bits: int,
    half_even: bool,
) -> tuple[Array, int]:
    """Return (probabilities, int32 (B, heads, S, S); saturated values) over the first `lengths[b]` keys; 0 beyond.

    A probability has `output_bits - 2` fraction bits, so that 1 is a code. `mantissa` and `shift`: as from
    `base_two_multiplier`.
    """
    fraction_bits = bits - _INTEGER_BITS
    uses_table = method is Approximation.TABLE
    out = np.empty(x.shape, np.int32)
    events = _softmax(
        x,
        lengths,
        mantissa[0],
        shift[0],
        fraction_bits,
        int(fixed_codes(_B / math.log(2), fraction_bits, bits)),
        int(fixed_codes(_C / (_A * math.log(2) ** 2), fraction_bits, bits)),
        power_table(table_entries, bits) if uses_table else np.empty(0, np.int64),
        fraction_bits - int(math.log2(table_entries)),
        bits,
        output_bits,
        half_even,
        out,
    )
    return out, int(events)


def error_bound_lsb(
    keys: int, method: Approximation, *, softmax_bits: int, multiplier_bits: int, table_entries: int, output_bits: int
) -> float:
    """Return the bound on |probability - real softmax of the same scores| in output LSB.

    With relative errors a of the exponentials, p_j moves by p_j sum_k p_k (a_j - a_k): by p (1 - p) <= 1/4 of
    their spread. The sources: the method; roundings inside it and of the exponent t; the multiplier of t, whose
    error t 2**-(bits-1) counts for p t <= 0.54 of the key's own and, as an entropy, for sum p t <= log2(keys) of
    all; half an LSB of every exponential once it is shifted, against a sum that the row's largest alone makes
    `top`; the reciprocal. 1 % more covers products of these.
    """
    lsb = 2.0 ** -(softmax_bits - _INTEGER_BITS)
    if method is Approximation.TABLE:
        spread, top = (math.log(2) / table_entries) ** 2 / 8, 1.0
        step = 2.0 * lsb  # an LSB for an entry and the line between two, of a power of at least 1/2
    else:
        spread, top = _POLYNOMIAL_SPREAD, 5.8
        step = 1.02 * lsb  # 2.95 LSB for offset, square and constant, of at least 2.9
    step += 0.5 * math.log(2) * lsb
    multiplier = math.log(2) * 2.0 ** -(multiplier_bits - 1) * (0.54 + math.log2(keys))
    shifted = (keys + 1) * 0.5 * lsb / top
    relative = (spread + 2 * step) / 4 + multiplier + shifted + 2.0 ** -(softmax_bits - 2)
    return 0.5 + 1.01 * relative * 2.0 ** (output_bits - 2)


def actions(rows: int, width: int, method: Approximation) -> Actions:
    """Return the unit's actions for `rows` rows of `width` keys.

    A key: compare, subtract, the product with log2(e) and its rounding; the square and two additions, or two
    table entries, a product and an addition; the shift, the sum; the last product, rounding, saturation.
    """
    power = total(INT_MULTIPLY, WORD, WORD, WORD)
    if method is Approximation.TABLE:
        power = total(TABLE_PAIR, INT_MULTIPLY, WORD, WORD)
    key = total(times(WORD, 4), INT_MULTIPLY, power, WORD, WORD, INT_MULTIPLY, WORD, WORD)
    return times(total(times(key, width), INT_DIVIDE), rows)
