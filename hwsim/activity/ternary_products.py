"""Toggles of the product wires of ternary weights, from how often which weights meet which codes.

A product w * x with w in {-1, 0, 1} changes as (w, x) changes to (w', x'). For each k there are nine pairs (w, w'):
count the columns of each, count the toggles that the rows would make under each, and multiply. What is a pair
depends on the dataflow: two neighbours along k, two along the stream, or an operand that stays, with itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.activity.operands import Passing
from hwsim.compiled_numerics import compiled
from hwsim.units.popcount import popcount

Array = np.ndarray[Any, Any]
Pairs = tuple[Array, Array]  # before and after, int8 (rows, K)


def along_k(codes: Array, shift: int = 0) -> Pairs:
    """Return the pairs that an element sees which takes k = 0, 1, ... in turn, from clear to clear (rows, K + 1)."""
    return np.pad(codes, ((0, 0), (1, 0))), np.pad(codes >> np.int8(shift), ((0, 0), (0, 1)))


def along_stream(passing: Passing) -> Pairs:
    """Return the pairs that pass the elements of each k, from clear to clear (T, K)."""
    return np.pad(passing.closing[:-1], ((1, 0), (0, 0))), passing.opening


def staying(codes: Array) -> Pairs:
    """Return each code with itself."""
    return codes, codes


@compiled
def _count(before, after, counts):  # type: ignore[no-untyped-def]
    for row in range(before.shape[0]):
        for k in range(before.shape[1]):
            counts[3 * (np.int64(before[row, k]) + 1) + np.int64(after[row, k]) + 1, k] += 1


@compiled
def _toggle(before, after, toggles):  # type: ignore[no-untyped-def]
    for row in range(before.shape[0]):
        for pair in range(9):
            w, next_w = np.int8(pair // 3 - 1), np.int8(pair % 3 - 1)
            for k in range(before.shape[1]):
                changed = np.int8(w * before[row, k]) ^ np.int8(next_w * after[row, k])
                toggles[pair, k] += np.int64(popcount(np.uint8(changed)))


def pair_counts(weights: Pairs) -> Array:
    """Return how often each pair of ternary weights occurs, int64 (9, K)."""
    counts = np.zeros((9, weights[0].shape[1]), np.int64)
    _count(*weights, counts)
    return counts


def pair_toggles(codes: Pairs) -> Array:
    """Return the toggles of all rows' products under each pair of weights, int64 (9, K)."""
    toggles = np.zeros((9, codes[0].shape[1]), np.int64)
    _toggle(*codes, toggles)
    return toggles
