"""Exact products: every shape beside a tile and a vector, the largest sums of int32, any number of threads."""

from __future__ import annotations

import platform

import numba
import numpy as np
import pytest

from hwsim.row_threads import over_rows, row_threads
from hwsim.units import int8_mac, ternary_mac
from hwsim.units.accumulator import AccumulatorRange
from hwsim.units.exact_product import LANES, TILE, dot_tile, exact_product

WIDE, NARROW = (AccumulatorRange.of_bits(bits, wraps=True) for bits in (32, 10))
AROUND_A_TILE = (1, TILE - 1, TILE, TILE + 1, 2 * TILE + 3)


def codes(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)


def product(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    out = np.full((len(x), len(w)), -1, np.int32)
    exact_product(x, w, out)
    return out


@pytest.mark.parametrize("k", [0, 1, LANES - 1, LANES, LANES + 1, 3 * LANES + 5])
def test_every_shape_beside_a_tile_and_a_vector(k: int) -> None:
    for m in AROUND_A_TILE:
        for n in AROUND_A_TILE:
            x, w = codes(m, m, k), codes(n, n, k)
            assert np.array_equal(product(x, w), x.astype(np.int64) @ w.T.astype(np.int64)), (m, n, k)


@pytest.mark.parametrize("k", [LANES, 131072, 131071])
@pytest.mark.parametrize("rows", [TILE, 1])  # the vectors, and the loop beside them
def test_the_largest_sums_of_int32_do_not_wrap(rows: int, k: int) -> None:
    """127 * 127 * 2**17 is the last below 2**31; a pair of products goes beyond int16."""
    high, low = np.full((rows, k), 127, np.int8), np.full((rows, k), -127, np.int8)
    assert (product(high, high) == 127 * 127 * k).all()
    assert (product(high, low) == -127 * 127 * k).all()
    assert 127 * 127 * 2**17 < 2**31


def test_rows_that_lie_apart_and_start_anywhere() -> None:
    """The heads of attention are such: columns of a wider matrix, which the product leaves alone."""
    x, w = codes(1, 9, 100), codes(2, 10, 100)
    out = np.full((9, 30), 77, np.int32)
    exact_product(x[:, 3:40], w[1:, 3:40], out[:, 7:16])
    assert np.array_equal(out[:, 7:16], x[:, 3:40].astype(np.int64) @ w[1:, 3:40].T.astype(np.int64))
    assert (out[:, :7] == 77).all()
    assert (out[:, 16:] == 77).all()


def test_a_tile_interpreted_is_the_tile_compiled() -> None:
    x, w = codes(3, TILE + 1, 2 * LANES + 1), codes(4, TILE + 2, 2 * LANES + 1)
    interpreted = np.zeros((TILE + 1, TILE + 2), np.int32)
    dot_tile(x, w, 1, 2, interpreted)
    assert np.array_equal(interpreted[1:, 2:], product(x, w)[1:, 2:])
    assert not interpreted[0].any()


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled under NUMBA_DISABLE_JIT")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names of x86 instructions")
def test_the_tile_becomes_multiply_adds() -> None:
    product(codes(0, TILE, LANES), codes(1, TILE, LANES))
    fresh = numba.njit(exact_product.py_func)  # type: ignore[attr-defined]  # what comes from the cache has no listing
    fresh(codes(0, TILE, LANES), codes(1, TILE, LANES), np.empty((TILE, TILE), np.int32))
    code = next(iter(fresh.inspect_asm().values()))
    assert code.count("vpdpwssd") + code.count("pmaddwd") >= TILE * TILE
    assert code.count("vpmulld") < TILE * TILE  # the loop beside the tiles may have some


@pytest.mark.parametrize("limits", [WIDE, NARROW])
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_change_neither_sums_nor_events(threads: int, limits: AccumulatorRange) -> None:
    x, w = codes(5, 2, 65, 36), np.sign(codes(6, 133, 36)).astype(np.int8)
    probabilities = np.abs(codes(7, 2, 3, 65, 65))

    def everything() -> list[tuple[np.ndarray, int]]:
        return [
            ternary_mac.accumulate(x.reshape(130, 36), w, limits),
            int8_mac.accumulate_scores(x, x, 3, limits),
            int8_mac.accumulate_context(probabilities, x, 3, limits),
        ]

    alone = everything()
    with row_threads(threads):
        together = everything()
    for (sums, events), (expected, expected_events) in zip(together, alone, strict=True):
        assert np.array_equal(sums, expected)
        assert events == expected_events
        assert (events > 0) == (limits is NARROW)


@pytest.mark.parametrize("rows", [0, 1, 15, 16, 33, 130])
@pytest.mark.parametrize("multiple", [1, 4])
def test_every_row_belongs_to_one_part(rows: int, multiple: int) -> None:
    seen: list[int] = []

    def kernel(first: int, last: int) -> int:
        assert first % multiple == 0
        seen.extend(range(first, last))
        return last - first

    with row_threads(3):
        assert over_rows(kernel, rows, multiple=multiple) == rows
    assert sorted(seen) == list(range(rows))


def test_an_error_in_a_part_reaches_the_caller() -> None:
    def kernel(first: int, last: int) -> None:
        if last == 99:
            raise ValueError("the last part")

    with row_threads(2), pytest.raises(ValueError, match="the last part"):
        over_rows(kernel, 99)
