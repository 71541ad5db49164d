"""Integer arithmetic against fractions and unbounded integers: ties, extreme widths, no silent wrap."""

from __future__ import annotations

from fractions import Fraction
from math import floor, isqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import fixed_point as fp

TOP = 2**63 - 1
EDGES = sorted(
    {0, TOP, -TOP - 1}
    | {s * (2**k + d) for k in range(63) for d in (-1, 0, 1) for s in (1, -1)}
    | {s * (3 * 2**k) for k in range(60) for s in (1, -1)}
)  # 3 * 2**k: a tie between an odd and an even quotient
UNTIMED = settings(deadline=None)  # the first example waits for the compiler
INT64 = st.integers(-TOP - 1, TOP)


def half_even(exact: Fraction) -> int:
    return round(exact)  # Python rounds a Fraction's ties to even


def half_away(exact: Fraction) -> int:
    magnitude = floor(abs(exact) + Fraction(1, 2))
    return magnitude if exact >= 0 else -magnitude


def test_rounding_shifts_over_edges_and_every_shift() -> None:
    for value in EDGES:
        for shift in range(63):
            exact = Fraction(value, 2**shift)
            assert fp.rounding_shift_right_half_even(value, shift) == half_even(exact), (value, shift)
            if value > -TOP - 1:
                assert fp.rounding_shift_right_half_away(value, shift) == half_away(exact), (value, shift)


@pytest.mark.parametrize(
    ("value", "even", "away"), [(1, 0, 1), (3, 2, 2), (5, 2, 3), (-1, 0, -1), (-3, -2, -2), (-5, -2, -3), (4, 2, 2)]
)
def test_worked_ties(value: int, even: int, away: int) -> None:
    assert fp.rescale_power_of_two(value, 1, True) == even
    assert fp.rescale_power_of_two(value, 1, False) == away
    assert fp.rescale_power_of_two(value, -3, True) == value * 8


@UNTIMED
@given(INT64, st.integers(1, 2**62 - 1))
def test_rounded_quotients(value: int, divisor: int) -> None:
    assert fp.rounding_divide_half_even(value, divisor) == half_even(Fraction(value, divisor))


@pytest.mark.parametrize("bits", [2, 8, 16, 31, 32, 33, 62])
def test_saturation_at_any_width(bits: int) -> None:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for value in [v for v in EDGES if abs(v) < 2**62] + [low - 1, low, high, high + 1]:
        held = min(max(value, low), high)
        assert fp.saturate(value, bits) == (held, int(held != value))


@UNTIMED
@given(st.integers(-(2**31) + 1, 2**31 - 1), st.integers(-(2**31) + 1, 2**31 - 1), st.integers(0, 62))
def test_a_product_of_the_widest_operands_does_not_wrap(value: int, mantissa: int, shift: int) -> None:
    exact = Fraction(value * mantissa, 2**shift)
    assert fp.requantize(np.int32(value), mantissa, shift, True) == half_even(exact)
    assert fp.requantize(np.int32(value), mantissa, shift, False) == half_away(exact)


def test_an_int32_operand_is_widened_before_it_is_multiplied() -> None:
    values = np.array([2**31 - 1, -(2**31) + 1], np.int32)  # as they come out of a kernel's array
    for value in values:
        assert fp.requantize(value, np.int64(2**31 - 1), np.int64(0), True) == int(value) * (2**31 - 1)


@pytest.mark.parametrize("bits", [2, 6, 16, 31, 32])
def test_a_multiplier_is_normalised_and_within_its_bound(bits: int) -> None:
    ratios = np.concatenate([np.ldexp(np.linspace(0.5, 0.99999, 97), e) for e in (-29, -8, 0, 1, 20)])
    ratios = np.concatenate([ratios, -ratios, 2.0 ** np.arange(-28, 30), [1 - 1e-12, 0.0]])
    made = fp.normalized_multiplier(ratios, bits)
    magnitude = np.abs(made.mantissa[ratios != 0])
    assert (magnitude >= 2 ** (bits - 2)).all()
    assert (magnitude < 2 ** (bits - 1)).all()
    assert (made.shift <= 62).all()
    # 1e-12 more for the float64 that the check itself computes in
    assert (np.abs(made.real - ratios) <= np.abs(ratios) * (2.0 ** -(bits - 1) + 1e-12)).all()


def test_a_ratio_beyond_any_shift_is_zero_and_a_huge_one_is_refused() -> None:
    assert fp.normalized_multiplier(1e-30, 16) == (0, 0)
    for ratio in (2.0**30, np.inf, np.nan):
        with pytest.raises(ValueError, match=r"below 2\*\*30"):
            fp.normalized_multiplier(ratio, 16)


@UNTIMED
@given(st.integers(0, 2**62 - 1))
def test_the_square_root_is_the_floor(value: int) -> None:
    for operand in (value, isqrt(value) ** 2, max(0, isqrt(value) ** 2 - 1)):
        assert fp.integer_square_root(operand) == isqrt(operand)


@UNTIMED
@given(st.integers(1, 2**62 - 1), st.integers(4, 31))
def test_a_reciprocal_keeps_its_bits(value: int, bits: int) -> None:
    mantissa, exponent = fp.reciprocal(value, bits)
    assert 2 ** (bits - 1) <= mantissa <= 2**bits
    relative = Fraction(mantissa * value, 2**exponent) - 1
    assert abs(relative) <= Fraction(1, 2 ** (bits - 2))


def test_bit_length_and_interpolation() -> None:
    assert [fp.bit_length(v) for v in (0, 1, 2, 3, 4, 2**62 - 1)] == [0, 1, 2, 2, 3, 62]
    table = np.array([0, 100, -50, 7], np.int64)
    for position in range(3 * 8):
        left, right = int(table[position >> 3]), int(table[(position >> 3) + 1])
        exact = left + half_even(Fraction((right - left) * (position & 7), 8))
        assert fp.interpolate(table, position, 3, True) == exact


@pytest.mark.parametrize("bits", [8, 16, 20])
def test_a_format_holds_the_largest_value_and_is_the_finest_that_does(bits: int) -> None:
    for largest in (1e-9, 0.3, 0.99, 1.0, 1.5, 127.0, 1000.0):
        f = fp.fraction_bits_for(largest, bits)
        assert largest * 2.0**f <= 2 ** (bits - 1) - 1
        assert f == bits + 8 or largest * 2.0 ** (f + 1) > 2 ** (bits - 1) - 1
        assert fp.saturate(int(fp.fixed_codes(largest, f, bits)), bits)[1] == 0
    assert fp.fraction_bits_for(0.0, bits) == bits - 1
    assert fp.fixed_codes([2.5, 3.5, -2.5, 1e9, -1e9], 0, 8).tolist() == [2, 4, -2, 127, -128]
    assert fp.real_values(np.array([-3, 2**40]), 1).tolist() == [-1.5, 2.0**39]
