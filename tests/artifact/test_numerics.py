"""The leaf arithmetic: ties, edges, order of summation, distance from the real functions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from ti_qat.artifact import numerics, reference


def float32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("x", "code"),
    [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (126.5, 126), (127.5, 127), (300.0, 127), (-300.0, -127)],
)
def test_quantize_rounds_ties_to_even_and_saturates_short_of_minus_128(x: float, code: int) -> None:
    assert numerics.quantize(np.float32(x), np.float32(1)) == code


def test_quantize_multiplies_by_the_rounded_reciprocal_and_does_not_divide() -> None:
    # 0.3 / 0.1 would be 3.0000000 / 1; the contract's product differs from the quotient at some ties.
    scale = np.float32(1 / 11)
    x = np.arange(-1400, 1401, dtype=np.float32) * np.float32(0.5) * scale
    by_product = numerics.quantize(x, numerics.inverse_scale(scale))
    assert np.array_equal(by_product, np.clip(np.rint(x * (np.float32(1) / scale)), -127, 127))
    assert np.any(by_product != np.clip(np.rint(x / scale), -127, 127))


def test_probability_one_has_code_127() -> None:
    assert numerics.quantize(np.float32(1), numerics.inverse_scale(numerics.PROBABILITY_SCALE)) == 127


def test_token_of_zeros_gets_scale_one() -> None:
    assert numerics.token_scale(float32(0.0, 254.0)).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("function", "exact", "bound"),
    [
        # Bounds: exp is relative, half an ulp of rounding plus the polynomial; erf is dominated by
        # the published 1.5e-7 of its formula and by rounding of x * x before exp.
        (numerics.exp_nonpositive, np.exp, 1.2e-7),
        (numerics.erf, special.erf, 6e-7),
        (numerics.gelu, lambda x: x * special.ndtr(x), 6e-7),
        (numerics.tanh, np.tanh, 2e-7),
    ],
)
def test_transcendentals_stay_within_their_stated_error(function, exact, bound) -> None:
    low, high = (-86.9, 0.0) if function is numerics.exp_nonpositive else (-12.0, 12.0)
    x = np.linspace(low, high, 300_001).astype(np.float32)
    error = np.abs(function(x) - exact(x.astype(np.float64)))
    if function is numerics.exp_nonpositive:
        error /= exact(x.astype(np.float64))
    assert error.max() < bound
    assert function(x).dtype == np.float32


def test_exp_is_one_at_zero_and_normal_below_the_cut() -> None:
    assert numerics.exp_nonpositive(np.float32(-0.0)) == 1
    assert numerics.exp_nonpositive(np.float32(-1e30)) == numerics.exp_nonpositive(numerics.EXP_MIN)
    assert numerics.exp_nonpositive(numerics.EXP_MIN) > np.finfo(np.float32).tiny


def test_odd_functions_are_odd_to_the_bit() -> None:
    x = np.linspace(0, 9, 999).astype(np.float32)
    for function in (numerics.erf, numerics.tanh):
        assert np.array_equal(function(-x), -function(x))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=70), st.integers(0, 3))
def test_tree_sum_does_not_depend_on_zero_padding(values: list[float], doublings: int) -> None:
    x = np.array(values, np.float32)
    padded = np.zeros(numerics.power_of_two_at_least(len(x)) << doublings, np.float32)
    padded[: len(x)] = x
    assert reference.tree_sum(x) == reference.tree_sum(padded)
    assert math.isclose(reference.tree_sum(x), math.fsum(x), abs_tol=1e-6 * float(np.abs(x).sum()) + 1e-30)


def test_tree_sum_folds_the_upper_half_onto_the_lower() -> None:
    # 1e8 + 1 is 1e8 in float32: pairing (1e8, 1), (-1e8, 1) keeps nothing of the ones, while the
    # fold pairs (1e8, -1e8) and (1, 1).
    assert reference.tree_sum(float32(1e8, 1, -1e8, 1)) == 2
