"""Integer arithmetic of the fixed profile: rounding shifts, widths, multipliers, square root, tables.

A code of f fraction bits stands for code * 2**-f. Everything is an int64 inside, never an int32: each
function states the bound on its operands under which no intermediate leaves int64, and hwsim/config.py
bounds every width so that the units stay below it. The same source runs compiled and interpreted; on
Python's unbounded integers it gives the same values, which the tests use to prove that nothing wraps.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hwsim.compiled_numerics import compiled

Array = np.ndarray[Any, Any]

MAX_SHIFT = 62  # of an int64: one bit is the sign, and a tie needs one bit above the remainder
_RATIO_LIMIT = 2.0**30
_LEAST_FRACTION_BITS = -8  # values up to 2**(bits + 7): far beyond any activation of a trained encoder


@compiled
def rounding_shift_right_half_even(value, shift):  # type: ignore[no-untyped-def]
    """Return value / 2**shift rounded to nearest, ties to even; any int64, shift in [0, 62]."""
    if shift == 0:
        return value
    quotient = value >> shift
    remainder = value - (quotient << shift)  # in [0, 2**shift)
    half = 1 << (shift - 1)
    if remainder > half or (remainder == half and quotient & 1):
        quotient += 1
    return quotient


@compiled
def rounding_shift_right_half_away(value, shift):  # type: ignore[no-untyped-def]
    """Return value / 2**shift rounded to nearest, ties away from zero; |value| < 2**63, shift in [0, 62]."""
    if shift == 0:
        return value
    magnitude = -value if value < 0 else value
    quotient = magnitude >> shift
    if magnitude - (quotient << shift) >= 1 << (shift - 1):
        quotient += 1
    return -quotient if value < 0 else quotient


@compiled
def rescale_power_of_two(value, shift, half_even):  # type: ignore[no-untyped-def]
    """Return value / 2**shift, rounded; a negative shift is exact. |value| * 2**-shift < 2**63, |shift| <= 62."""
    if shift <= 0:
        return value << -shift
    if half_even:
        return rounding_shift_right_half_even(value, shift)
    return rounding_shift_right_half_away(value, shift)


@compiled
def rounding_divide_half_even(value, divisor):  # type: ignore[no-untyped-def]
    """Return value / divisor rounded to nearest, ties to even; any int64, divisor in [1, 2**62)."""
    quotient = value // divisor
    twice = 2 * (value - quotient * divisor)  # in [0, 2 * divisor)
    if twice > divisor or (twice == divisor and quotient & 1):
        quotient += 1
    return quotient


@compiled
def saturate(value, bits):  # type: ignore[no-untyped-def]
    """Return (value held within two's complement of `bits` <= 62, 1 where that changed it or else 0)."""
    high = (1 << (bits - 1)) - 1
    if value > high:
        return high, 1
    if value < -high - 1:
        return -high - 1, 1
    return value, 0


@compiled
def requantize(value, mantissa, shift, half_even):  # type: ignore[no-untyped-def]
    """Return value * mantissa / 2**shift, rounded once; |value| and |mantissa| < 2**31, shift <= 62.

    The product stays below 2**62, and so does the result of a shift to the left, since a multiplier's ratio
    is below 2**30. gemmlowp's way (Jacob et al., CVPR 2018, section 2.2), with one rounding in place of two.
    """
    return rescale_power_of_two(np.int64(value) * np.int64(mantissa), np.int64(shift), half_even)


@compiled
def bit_length(value):  # type: ignore[no-untyped-def]
    """Return the number of bits of `value` >= 0 without leading zeros."""
    length = 0
    while value > 0:
        value >>= 1
        length += 1
    return length


@compiled
def integer_square_root(value):  # type: ignore[no-untyped-def]
    """Return floor(sqrt(value)), 0 <= value < 2**62, by Newton's iteration from above.

    As I-BERT's i-sqrt (Kim et al., ICML 2021, algorithm 4); from 2**ceil(bits/2) it falls monotonically.
    """
    if value == 0:
        return value
    root = value * 0 + (1 << ((bit_length(value) + 1) // 2))
    while True:
        following = (root + value // root) >> 1
        if following >= root:
            return root
        root = following


@compiled
def reciprocal(value, bits):  # type: ignore[no-untyped-def]
    """Return (mantissa in [2**(bits-1), 2**bits], exponent) with 1 / value ~ mantissa * 2**-exponent.

    0 < value < 2**62, bits <= 31. The value is cut to `bits` bits (relative error below 2**-(bits-1), the
    reciprocal grows), the quotient is cut too (below 2**-(bits-1), it shrinks): together within 2**-(bits-1).
    """
    shift = bit_length(value) - bits
    normalised = value >> shift if shift > 0 else value << -shift
    return (1 << (2 * bits - 1)) // normalised, 2 * bits - 1 + shift


@compiled
def interpolate(table, position, step_bits, half_even):  # type: ignore[no-untyped-def]
    """Return the table's value at `position` >= 0 on straight lines between entries 2**step_bits apart.

    Entries and steps below 2**31: the product of a slope and a position stays below 2**62.
    """
    index = position >> step_bits
    left, right = np.int64(table[index]), np.int64(table[index + 1])
    offset = position - (index << step_bits)
    return left + rescale_power_of_two((right - left) * offset, step_bits, half_even)


class Multiplier(NamedTuple):
    """Integers that stand for real factors: mantissa * 2**-shift, one for each channel or one for all."""

    mantissa: Array
    shift: Array

    @property
    def real(self) -> Array:
        """The factors that the integers stand for, float64."""
        return np.ldexp(self.mantissa.astype(np.float64), -self.shift)


def normalized_multiplier(ratio: Array | float, bits: int) -> Multiplier:
    """Return integers for real ratios: |mantissa| in [2**(bits-2), 2**(bits-1)), relative error within 2**-(bits-1).

    `bits` counts the sign, 2 to 32; int64 arrays of the ratio's shape, at least one-dimensional. A ratio too
    small for a shift of 62 becomes 0. Raises ValueError for a ratio of 2**30 or more and one that is not finite.
    """
    real = np.atleast_1d(np.asarray(ratio, np.float64))
    if not np.isfinite(real).all() or np.abs(real).max(initial=0.0) >= _RATIO_LIMIT:
        raise ValueError(f"expected finite ratios below 2**30, found {real[np.argmax(np.abs(real))]}")
    fraction, exponent = np.frexp(real)  # fraction in [0.5, 1)
    mantissa = np.rint(np.ldexp(fraction, bits - 1)).astype(np.int64)
    carried = np.abs(mantissa) == 1 << (bits - 1)  # rounded up to the next power of two
    mantissa = np.where(carried, mantissa // 2, mantissa)
    shift = bits - 1 - (exponent.astype(np.int64) + carried)
    unused = (mantissa == 0) | (shift > MAX_SHIFT)
    return Multiplier(np.where(unused, 0, mantissa), np.where(unused, 0, shift))


def fixed_codes(real: Array | float, fraction_bits: int, bits: int) -> Array:
    """Return the int64 codes of real values, ties to even, saturated to `bits` bits."""
    high = (1 << (bits - 1)) - 1
    scaled = np.rint(np.ldexp(np.asarray(real, np.float64), fraction_bits))
    return np.clip(scaled, -high - 1, high).astype(np.int64)


def real_values(codes: Array, fraction_bits: int) -> Array:
    """Return what codes stand for, float64: exact for codes below 2**53."""
    return np.ldexp(codes.astype(np.float64), -fraction_bits)


def fraction_bits_for(largest: float, bits: int) -> int:
    """Return the most fraction bits at which values up to `largest` fit `bits` bits with the sign.

    From -8 to `bits + 8`: between two formats of 20 bits lie 36 shifts, and 20 + 36 bits fit an int64.
    A tensor of zeros gets `bits - 1`.
    """
    if largest <= 0.0:
        return bits - 1
    high = float((1 << (bits - 1)) - 1)
    exponent = math.floor(math.log2(high / largest))
    return max(_LEAST_FRACTION_BITS, min(bits + 8, exponent))
