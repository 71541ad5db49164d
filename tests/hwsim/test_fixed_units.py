"""Units of the fixed profile against the real functions: ReferenceOp, Op, tolerance in raw integer steps.

The reference is binary64 on the values that the codes stand for; the tolerance is the unit's own error
bound, which docs/accelerator.md states, and ones far above what is measured would be caught by the last test.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from hwsim.fixed_point import fixed_codes, normalized_multiplier, real_values
from hwsim.units import (
    integer_classifier,
    integer_gelu,
    integer_layer_norm,
    integer_softmax,
    integer_tanh,
    requantizer,
    residual_alignment,
    ternary_embedding,
)
from hwsim.widths import Approximation

Array = np.ndarray[Any, Any]
METHODS = list(Approximation)
ROUNDINGS = [True, False]


def edge_codes(bits: int, count: int = 4001) -> Array:
    """Every code of up to 12 bits; else a grid over all, both ends, the powers of two and their neighbours."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    powers = [s * (1 << k) + d for k in range(bits - 1) for s in (1, -1) for d in (-1, 0, 1)]
    grid = range(low, high + 1) if bits <= 12 else np.linspace(low, high, count).astype(int)
    return np.unique(np.clip(np.array([*grid, *powers, low, high]), low, high)).astype(np.int32)


def saturated(real: Array, bits: int) -> Array:
    return np.clip(real, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def worst(codes: Array, exact_lsb: Array, bits: int) -> float:
    return float(np.abs(codes - saturated(exact_lsb, bits)).max())


def reference_gelu(x: Array) -> Array:
    return np.array([v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x.reshape(-1)]).reshape(x.shape)


@pytest.mark.parametrize("half_even", ROUNDINGS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("bits", "f_in", "f_out", "unit", "multiplier", "entries"),
    [
        (16, 11, 12, 20, 16, 256),
        (16, 12, 11, 12, 16, 256),
        (8, 4, 4, 16, 8, 16),
        (20, 16, 28, 24, 32, 256),
        (20, -8, -8, 24, 24, 64),
        (16, 24, 24, 20, 16, 128),
    ],
)
def test_gelu(
    method: Approximation, bits: int, f_in: int, f_out: int, unit: int, multiplier: int, entries: int, half_even: bool
) -> None:
    x = edge_codes(bits)
    settings = {"gelu_bits": unit, "multiplier_bits": multiplier, "table_entries": entries}
    codes, events = integer_gelu.gelu(x, f_in, f_out, method=method, bits=bits, half_even=half_even, **settings)
    real = real_values(x, f_in)
    exact = reference_gelu(real) * 2.0**f_out
    bound = integer_gelu.error_bound_lsb(float(np.abs(real).max()), method, f_in, f_out, **settings)
    assert worst(codes, exact, bits) <= bound
    beyond = np.abs(exact - saturated(exact, bits))
    assert np.sum(beyond > bound) <= events <= np.sum(np.abs(exact) > (1 << (bits - 1)) - 1 - bound)


@pytest.mark.parametrize("half_even", ROUNDINGS)
@pytest.mark.parametrize(
    ("bits", "f_in", "unit", "entries"), [(16, 11, 20, 256), (8, 3, 12, 16), (20, 28, 24, 256), (20, -8, 24, 64)]
)
def test_tanh(bits: int, f_in: int, unit: int, entries: int, half_even: bool) -> None:
    x = edge_codes(bits)
    codes, events = integer_tanh.tanh(
        x, f_in, bits - 2, unit_bits=unit, table_entries=entries, bits=bits, half_even=half_even
    )
    exact = np.tanh(real_values(x, f_in)) * 2.0 ** (bits - 2)
    assert worst(codes, exact, bits) <= integer_tanh.error_bound_lsb(
        f_in, bits - 2, unit_bits=unit, table_entries=entries
    )
    assert events == 0
    reflected = np.where(x > -(1 << (bits - 1)), -x, x)
    mirrored, _ = integer_tanh.tanh(
        reflected, f_in, bits - 2, unit_bits=unit, table_entries=entries, bits=bits, half_even=half_even
    )
    odd = x > -(1 << (bits - 1))
    assert np.array_equal(mirrored[odd], -codes[odd])


def score_rows(bits: int, keys: int) -> Array:
    """Rows of scores: equal, one above all, both ends, a ramp, noise; (1, 1, rows, keys)."""
    rng = np.random.default_rng(keys)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    rows = [
        np.full(keys, 0),
        np.full(keys, low),
        np.full(keys, high),
        np.where(np.arange(keys) == keys // 2, high, low),
        np.where(np.arange(keys) % 2, high, high - 1),
        np.linspace(low, high, keys).astype(int),
        rng.integers(low, high + 1, keys),
        rng.integers(-(1 << (bits - 6)), 1 << (bits - 6), keys),
    ]
    return np.array(rows, np.int32)[None, None]


@pytest.mark.parametrize("half_even", ROUNDINGS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("keys", [1, 2, 7, 128])
@pytest.mark.parametrize(
    ("bits", "f", "unit", "multiplier", "entries"),
    [(16, 11, 20, 16, 256), (8, 3, 12, 8, 16), (20, 28, 24, 32, 256), (20, -8, 24, 16, 64), (16, 13, 16, 16, 32)],
)
def test_softmax(
    method: Approximation, keys: int, bits: int, f: int, unit: int, multiplier: int, entries: int, half_even: bool
) -> None:
    x = score_rows(bits, keys)
    to_base_two = integer_softmax.base_two_multiplier(f, unit, multiplier)
    codes, events = integer_softmax.softmax(
        x,
        np.array([keys], np.int32),
        *to_base_two,
        method=method,
        bits=unit,
        table_entries=entries,
        output_bits=bits,
        half_even=half_even,
    )
    real = real_values(x, f)
    exponential = np.exp(real - real.max(-1, keepdims=True))
    exact = exponential / exponential.sum(-1, keepdims=True) * 2.0 ** (bits - 2)
    bound = integer_softmax.error_bound_lsb(
        keys, method, softmax_bits=unit, multiplier_bits=multiplier, table_entries=entries, output_bits=bits
    )
    assert events == 0
    assert codes.min() >= 0
    assert worst(codes, exact, bits) <= bound
    assert np.array_equal(codes[..., 0, :], np.full((1, 1, keys), codes[0, 0, 0, 0]))  # equal scores, equal shares


@pytest.mark.parametrize("method", METHODS)
def test_keys_beyond_the_length_take_no_part(method: Approximation) -> None:
    x = np.array([[[[5, 9, 32767, 32767]]]], np.int32)
    settings = {"method": method, "bits": 20, "table_entries": 256, "output_bits": 16, "half_even": True}
    multiplier = integer_softmax.base_two_multiplier(4, 20, 16)
    padded, _ = integer_softmax.softmax(x, np.array([2], np.int32), *multiplier, **settings)
    alone, _ = integer_softmax.softmax(
        np.ascontiguousarray(x[..., :2]), np.array([2], np.int32), *multiplier, **settings
    )
    assert padded[..., :2].tolist() == alone.tolist()
    assert padded[..., 2:].tolist() == [[[[0, 0]]]]


def norm_rows(bits: int, width: int) -> Array:
    """Rows: equal, nearly equal, one outlier, both ends in turn, noise narrow and wide."""
    rng = np.random.default_rng(width)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    rows = [
        np.where(np.arange(width) == 0, 1, 0),
        np.where(np.arange(width) == 0, high, low),
        np.where(np.arange(width) % 2, high, low),
        rng.integers(low, high + 1, width),
        rng.integers(-20, 21, width) + high // 2,
        rng.normal(0, high / 8, width).clip(low, high).astype(int),
    ]
    return np.array(rows, np.int32)


@pytest.mark.parametrize("half_even", ROUNDINGS)
@pytest.mark.parametrize("width", [2, 24, 384, 768])
@pytest.mark.parametrize(
    ("bits", "unit", "multiplier", "f_out"), [(16, 22, 16, 11), (8, 12, 8, 4), (20, 24, 32, 16), (16, 17, 16, 12)]
)
def test_layer_norm(bits: int, unit: int, multiplier: int, f_out: int, width: int, half_even: bool) -> None:
    rng = np.random.default_rng(7)
    x = norm_rows(bits, width)
    gamma, beta = rng.uniform(-1.5, 1.5, width).astype(np.float32), rng.normal(0, 0.5, width)
    epsilon = np.array([0], np.int64)
    made = integer_layer_norm.gamma_multiplier(gamma, f_out, unit, multiplier)
    codes, events = integer_layer_norm.layer_norm(
        x, *made, fixed_codes(beta, f_out, bits), epsilon, layer_norm_bits=unit, bits=bits, half_even=half_even
    )
    deviation = x.std(-1, keepdims=True)
    normalised = (x - x.mean(-1, keepdims=True)) / deviation
    exact = (normalised * gamma + beta) * 2.0**f_out
    for row in range(len(x)):
        for i in range(width):
            bound = integer_layer_norm.error_bound_lsb(
                abs(float(normalised[row, i])),
                float(deviation[row, 0]),
                abs(float(gamma[i])) * 2.0**f_out,
                width,
                layer_norm_bits=unit,
                multiplier_bits=multiplier,
                input_bits=bits,
            )
            assert abs(codes[row, i] - saturated(exact[row, i], bits)) <= bound, (row, i)
    assert (events > 0) == bool((np.abs(exact) > (1 << (bits - 1)) + 2).any()) or events <= codes.size


def test_layer_norm_of_equal_values_is_beta_and_epsilon_counts() -> None:
    gamma, beta = np.full(5, 1.0, np.float32), np.arange(5) / 4
    made = integer_layer_norm.gamma_multiplier(gamma, 10, 22, 16)
    settings = {"layer_norm_bits": 22, "bits": 16, "half_even": True}
    for value in (-32768, 0, 32767):
        x = np.full((1, 5), value, np.int32)
        codes, _ = integer_layer_norm.layer_norm(x, *made, fixed_codes(beta, 10, 16), np.array([0]), **settings)
        assert codes[0].tolist() == (beta * 1024).tolist()
    one = integer_layer_norm.layer_norm(
        np.array([[7]], np.int32),
        *integer_layer_norm.gamma_multiplier(gamma[:1], 10, 22, 16),
        np.array([3]),
        np.array([0]),
        **settings,
    )
    assert one[0].tolist() == [[3]]
    # Epsilon as large as the variance: values shrink by sqrt(2).
    x = np.array([[-100, 100] * 4], np.int32)
    made = integer_layer_norm.gamma_multiplier(np.ones(8, np.float32), 10, 22, 16)
    epsilon = integer_layer_norm.epsilon_code((100 / 64) ** 2, 8, 6, integer_layer_norm.guard_bits(22, 16))
    codes, _ = integer_layer_norm.layer_norm(x, *made, np.zeros(8, np.int64), np.array([epsilon]), **settings)
    assert np.abs(codes[0] - np.array([-1, 1] * 4) * 1024 / math.sqrt(2)).max() <= 1


@pytest.mark.parametrize("bits", [8, 16, 20])
def test_embedding_adds_scales_and_saturates(bits: int) -> None:
    rng = np.random.default_rng(bits)
    f, words = bits - 4, rng.integers(-1, 2, (11, 6)).astype(np.int8)
    scale, position, kind = rng.uniform(0, 2, 11), rng.normal(0, 2, (3, 6)), rng.normal(0, 3, (2, 6))
    ids, kinds = np.array([[0, 10, 4], [7, 7, 1]], np.int32), np.array([[0, 1, 1], [0, 0, 1]], np.int32)
    tables = [fixed_codes(table, f, bits) for table in (scale, position, kind)]
    codes, events = ternary_embedding.gather(ids, kinds, words, *tables, bits=bits)
    exact = (words[ids] * scale[ids][..., None] + position[:3] + kind[kinds]) * 2.0**f
    assert worst(codes, exact, bits) <= ternary_embedding.ERROR_BOUND_LSB
    assert events == np.sum(np.abs(codes - exact) > ternary_embedding.ERROR_BOUND_LSB) > 0


@pytest.mark.parametrize("half_even", ROUNDINGS)
@pytest.mark.parametrize("formats", [(5, 5, 5), (7, 3, 4), (3, 7, 8), (28, -8, 28), (-8, 28, -8)])
def test_residuals_align_exactly_and_round_once(formats: tuple[int, int, int], half_even: bool) -> None:
    values = edge_codes(20, 65)[::3] if max(formats) > 20 else np.arange(-128, 128, dtype=np.int32)
    x, residual = (np.array(v, np.int32) for v in zip(*itertools.product(values, values), strict=True))
    codes, events = residual_alignment.residual_add(x, residual, *formats, bits=20, half_even=half_even)
    f_x, f_residual, f_out = formats
    exact = [
        int(a) * 2 ** (f_out - f_x + 40) + int(b) * 2 ** (f_out - f_residual + 40)
        for a, b in zip(x, residual, strict=True)
    ]  # whole numbers of 2**-40 LSB
    high, one, saturations = 2**19 - 1, 2**40, 0
    for code, value in zip(codes.tolist(), exact, strict=True):
        held = min(max(value, -(high + 1) * one), high * one)
        assert 2 * abs(code * one - held) <= one
        saturations += not -(high + 1) * one - one // 2 <= value <= high * one + one // 2
    assert abs(events - saturations) <= np.sum(np.abs(codes) >= high)


def test_every_pair_of_int8_code_and_multiplier_step() -> None:
    x = np.arange(-32768, 32768, 7, dtype=np.int32)
    for ratio in (1 / 256, 0.003921, 0.5, 1.0, 3e-5, 77.0):
        for half_even in ROUNDINGS:
            made = normalized_multiplier(ratio, 24)
            codes = requantizer.requantize_codes(x, *made, half_even=half_even)
            exact = np.clip(x * made.real[0], -127, 127)
            assert np.abs(codes - exact).max() <= 0.5
            ties = np.abs(exact) % 1 == 0.5
            away = np.sign(exact[ties]) * np.ceil(np.abs(exact[ties]))
            assert np.array_equal(codes[ties], np.rint(exact[ties]) if half_even else away)
    assert requantizer.requantize_codes(x, *normalized_multiplier(1 / 256, 24), half_even=True).min() == -127


@pytest.mark.parametrize("multiplier_bits", [6, 16, 32])
def test_channels_have_their_own_multiplier_and_bias(multiplier_bits: int) -> None:
    rng = np.random.default_rng(3)
    limit = 2**31 - 1
    sums = np.concatenate([rng.integers(-390144, 390145, (6, 4)), [[limit, -limit, limit, -limit]]]).astype(np.int32)
    ratio, bias = np.array([1e-3, 0.0, 0.11, 2.0**-31]), np.array([1000, -7, 0, 32767])
    made = normalized_multiplier(ratio, multiplier_bits)
    codes, events = requantizer.requantize_channels(sums, *made, bias, bits=16, half_even=True)
    exact = sums * ratio + bias
    bound = requantizer.error_bound_lsb(65536, multiplier_bits, biased=False)
    inside = np.abs(exact) < 32000
    assert np.abs(codes - exact)[inside].max() <= bound
    assert codes[:, 1].tolist() == [-7] * 7
    assert codes[6].tolist() == [32767, -7, 32767, 32766]
    assert events >= 2
    shared, _ = requantizer.requantize_channels(
        sums, *normalized_multiplier(1e-3, multiplier_bits), bias, bits=16, half_even=True
    )
    assert np.array_equal(shared[:, 0], codes[:, 0])


def test_products_of_int8_codes_are_exact_then_rounded_once() -> None:
    codes = np.arange(-127, 128)
    products = np.multiply.outer(codes, codes).astype(np.int32)  # every pair of int8 codes
    made = normalized_multiplier(0.37, 16)
    out, events = requantizer.requantize_values(products, *made, bits=16, half_even=True)
    assert np.array_equal(out, np.rint(products * made.real[0]))  # exact: 14 + 15 bits in binary64
    assert events == 0


def test_classifier_sums_are_exact_at_the_widest_codes() -> None:
    x = np.full((2, 4096), 2**19 - 1, np.int32)
    weight = np.array([[2**19 - 1] * 4096, [-(2**19)] * 4096])
    sums = integer_classifier.classify(x, weight, np.array([2**59, -1]))
    assert sums.tolist() == [[4096 * (2**19 - 1) ** 2 + 2**59, -4096 * (2**19 - 1) * 2**19 - 1]] * 2
    assert integer_classifier.error_bound_lsb(x[0]) == 0.5 * 4096 * (2**19 - 1) + 0.5


def measured_and_bound() -> dict[str, tuple[float, float]]:
    """Worst error over every 16-bit code, or over many rows, beside the bound, at the default widths."""
    widths = {"multiplier_bits": 16, "table_entries": 256}
    rng, found = np.random.default_rng(0), {}
    x = np.arange(-32768, 32768, dtype=np.int32)
    real, exact = real_values(x, 11), reference_gelu(real_values(x, 11)) * 2.0**11
    for method in METHODS:
        codes, _ = integer_gelu.gelu(x, 11, 11, method=method, gelu_bits=20, bits=16, half_even=True, **widths)
        bound = integer_gelu.error_bound_lsb(float(np.abs(real).max()), method, 11, 11, gelu_bits=20, **widths)
        found[f"gelu {method}"] = worst(codes, exact, 16), bound
        scores = np.array([[[[0, -d] for d in range(0, 16384)]]], np.int32)
        codes, _ = integer_softmax.softmax(
            scores, np.array([2], np.int32), *integer_softmax.base_two_multiplier(11, 20, 16),
            method=method, bits=20, table_entries=256, output_bits=16, half_even=True,
        )  # fmt: skip
        share = 2.0**14 / (1 + np.exp(real_values(scores[..., ::-1] - scores, 11)))
        bound = integer_softmax.error_bound_lsb(2, method, softmax_bits=20, output_bits=16, **widths)
        found[f"softmax {method}"] = worst(codes, share, 16), bound
    codes, _ = integer_tanh.tanh(x, 12, 14, unit_bits=20, table_entries=256, bits=16, half_even=True)
    bound = integer_tanh.error_bound_lsb(12, 14, unit_bits=20, table_entries=256)
    found["tanh"] = worst(codes, np.tanh(x / 4096) * 2.0**14, 16), bound
    rows, gamma = rng.normal(0, 1500, (200, 384)).round().astype(np.int32), np.full(384, 1.3, np.float32)
    made = integer_layer_norm.gamma_multiplier(gamma, 11, 22, 16)
    zero = np.zeros(384, np.int64)
    codes, _ = integer_layer_norm.layer_norm(rows, *made, zero, zero, layer_norm_bits=22, bits=16, half_even=True)
    normalised = (rows - rows.mean(-1, keepdims=True)) / rows.std(-1, keepdims=True)
    bound = integer_layer_norm.error_bound_lsb(
        float(np.abs(normalised).max()), 1400.0, 1.3 * 2048, 384,
        layer_norm_bits=22, multiplier_bits=16, input_bits=16,
    )  # fmt: skip
    found["layer norm"] = worst(codes, normalised * 1.3 * 2048, 16), bound
    return found


def test_bounds_hold_and_are_no_more_than_three_times_what_happens() -> None:
    """A bound that is far from what happens says nothing of the unit."""
    for unit, (measured, bound) in measured_and_bound().items():
        assert measured <= bound <= 3 * measured, unit
