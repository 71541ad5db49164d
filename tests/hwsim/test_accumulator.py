"""Accumulators of every width: values and overflow events against plain Python integers."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.units import int8_mac, ternary_mac
from hwsim.units.accumulator import AccumulatorRange


def add_in_order(products: list[int], bits: int, wraps: bool) -> tuple[int, int]:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    value, events = 0, 0
    for product in products:
        value += product
        if not low <= value <= high:
            events += 1
            value = (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1) if wraps else max(low, min(high, value))
    return value, events


def expected(x: np.ndarray, w: np.ndarray, bits: int, wraps: bool) -> tuple[list[list[int]], int]:
    sums = [
        [add_in_order([int(a) * int(b) for a, b in zip(row, col, strict=True)], bits, wraps) for col in w] for row in x
    ]
    return [[value for value, _ in row] for row in sums], sum(events for row in sums for _, events in row)


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 16, 32])
@pytest.mark.parametrize("wraps", [False, True])
def test_ternary_sums_and_events_are_those_of_ordered_additions(bits: int, wraps: bool) -> None:
    rng = np.random.default_rng(bits)
    x = rng.integers(-127, 128, (3, 37)).astype(np.int8)
    w = rng.integers(-1, 2, (5, 37)).astype(np.int8)
    w[0], x[0] = 1, 127  # the worst case of the row: 127 * 37
    w[1] = 0
    sums, events = ternary_mac.accumulate(x, w, AccumulatorRange.of_bits(bits, wraps=wraps))
    assert (sums.tolist(), events) == expected(x, w, bits, wraps)


def test_a_code_wider_than_the_accumulator_lands_inside_it_in_one_step() -> None:
    x, w = np.array([[127, 127]], np.int8), np.array([[-1, -1]], np.int8)
    for wraps in (False, True):
        sums, events = ternary_mac.accumulate(x, w, AccumulatorRange.of_bits(4, wraps=wraps))
        assert (sums.tolist(), events) == expected(x, w, 4, wraps)


def test_the_narrowest_width_that_cannot_overflow_reports_none() -> None:
    k = 1536
    x, w = np.full((1, k), -127, np.int8), np.full((1, k), 1, np.int8)
    bits = (127 * k).bit_length() + 1
    assert bits == 19
    assert ternary_mac.accumulate(x, w, AccumulatorRange.of_bits(bits, wraps=False))[1] == 0
    assert ternary_mac.accumulate(x, w, AccumulatorRange.of_bits(bits - 1, wraps=False))[1] > 0


@pytest.mark.parametrize("wraps", [False, True])
@pytest.mark.parametrize("bits", [14, 16, 24])
def test_attention_products_keep_the_same_rule(bits: int, wraps: bool) -> None:
    rng = np.random.default_rng(1)
    query, key = (rng.integers(-127, 128, (1, 4, 10)).astype(np.int8) for _ in range(2))
    query[0, 0] = key[0, 0] = 127
    limits, one = AccumulatorRange.of_bits(bits, wraps=wraps), np.array([1.0], np.float32)
    sums, events = expected(query[0], key[0], bits, wraps)
    scores, score_events = int8_mac.scores(query, one, key, one, 1, limits)
    factor = np.float32(1 / np.sqrt(10.0))
    assert scores[0, 0].tobytes() == (np.float32(sums) * factor).tobytes()
    assert score_events == events
    square = np.abs(query[:, :, :4])
    sums, events = expected(square[0], key[0].T, bits, wraps)
    context, context_events = int8_mac.context(square[:, None], one, key, one, 1, limits)
    assert context[0].tolist() == sums
    assert context_events == events
