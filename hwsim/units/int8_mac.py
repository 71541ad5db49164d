"""int8 MAC array: query times key, and attention probabilities times value.

Codes lie in [-127, 127], so K products sum to 127 * 127 * K at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.row_threads import over_rows
from hwsim.units.accumulator import CODE_MAGNITUDE, AccumulatorRange, accumulate_step
from hwsim.units.actions import MULTIPLY, WORD, Action, Actions, times, total
from hwsim.units.exact_product import TILE, exact_product
from ti_qat.artifact import numerics

Array = np.ndarray[Any, Any]
ArrayProduct = Callable[[Array, Array, int, AccumulatorRange], tuple[Array, int]]


@compiled
def _ordered_product(x, w, low, high, wraps, out):  # type: ignore[no-untyped-def]
    """Write x (M, K) times w (N, K) transposed, product by product; return the overflow events."""
    events = 0
    for m in range(x.shape[0]):
        for n in range(w.shape[0]):
            accumulator = np.int64(0)
            for k in range(x.shape[1]):
                accumulator, event = accumulate_step(
                    accumulator, np.int64(x[m, k]) * np.int64(w[n, k]), low, high, wraps
                )
                events += event
            out[m, n] = accumulator
    return events


@compiled
def _product(x, w, low, high, wraps, exact, out):  # type: ignore[no-untyped-def]
    if exact:
        exact_product(x, w, out)
        return 0
    return _ordered_product(x, w, low, high, wraps, out)


@compiled
def _scores(first, last, query, key, low, high, wraps, exact, accumulators):  # type: ignore[no-untyped-def]
    size = query.shape[2] // accumulators.shape[1]
    events = 0
    for b in range(accumulators.shape[0]):
        for h in range(accumulators.shape[1]):
            head = slice(h * size, (h + 1) * size)
            events += _product(
                query[b, first:last, head], key[b, :, head], low, high, wraps, exact, accumulators[b, h, first:last, :]
            )
    return events


@compiled
def _context(first, last, probabilities, columns, low, high, wraps, exact, accumulators):  # type: ignore[no-untyped-def]
    size = columns.shape[1] // probabilities.shape[1]
    events = 0
    for b in range(probabilities.shape[0]):
        for h in range(probabilities.shape[1]):
            head = slice(h * size, (h + 1) * size)
            events += _product(
                probabilities[b, h, first:last, :],
                columns[b, head, :],
                low,
                high,
                wraps,
                exact,
                accumulators[b, first:last, head],
            )
    return events


def _limits(limits: AccumulatorRange, k: int) -> tuple[int, int, bool, bool]:
    return limits.low, limits.high, limits.wraps, limits.holds(CODE_MAGNITUDE * CODE_MAGNITUDE * k)


def accumulate_scores(query: Array, key: Array, heads: int, limits: AccumulatorRange) -> tuple[Array, int]:
    """Return (int32 sums (B, heads, S, S), overflow events) of int8 codes (B, S, H)."""
    batch, tokens, hidden = query.shape
    accumulators = np.empty((batch, heads, tokens, tokens), np.int32)
    bounds = _limits(limits, hidden // heads)
    return accumulators, over_rows(_scores, tokens, query, key, *bounds, accumulators, multiple=TILE)


def accumulate_context(probabilities: Array, value: Array, heads: int, limits: AccumulatorRange) -> tuple[Array, int]:
    """Return (int32 sums (B, S, H), overflow events) of int8 codes (B, heads, S, S) and (B, S, H)."""
    if probabilities.shape[1] != heads:
        raise ValueError(f"probabilities have {probabilities.shape[1]} heads, expected {heads}")
    accumulators = np.empty(value.shape, np.int32)
    tokens = value.shape[1]
    columns = np.ascontiguousarray(np.swapaxes(value, 1, 2))  # (B, H, S): what is multiplied lies side by side
    bounds = _limits(limits, tokens)
    return accumulators, over_rows(_context, tokens, probabilities, columns, *bounds, accumulators, multiple=TILE)


def scores(
    query: Array,
    query_scale: Array,
    key: Array,
    key_scale: Array,
    heads: int,
    limits: AccumulatorRange,
    array: ArrayProduct = accumulate_scores,
) -> tuple[Array, int]:
    """Return (scaled scores float32 (B, heads, S, S), overflow events) of int8 codes (B, S, H).

    `array` adds up the products: `accumulate_scores`, or that of hwsim.units.serial_mac.
    """
    accumulators, events = array(query, key, heads, limits)
    scale = (query_scale[0] * key_scale[0]) * numerics.attention_scale(query.shape[2] // heads)
    return accumulators.astype(np.float32) * scale, events


def context(
    probabilities: Array,
    probabilities_scale: Array,
    value: Array,
    value_scale: Array,
    heads: int,
    limits: AccumulatorRange,
    array: ArrayProduct = accumulate_context,
) -> tuple[Array, int]:
    """Return (context float32 (B, S, H), overflow events) of codes (B, heads, S, S) and (B, S, H).

    `array` adds up the products: `accumulate_context`, or that of hwsim.units.serial_mac.
    """
    accumulators, events = array(probabilities, value, heads, limits)
    return accumulators.astype(np.float32) * (probabilities_scale[0] * value_scale[0]), events


def mac_actions(macs: int) -> Actions:
    """Return the array's actions for `macs` multiply-accumulates."""
    return Counter({Action.INT8_MAC: macs})


def output_actions(outputs: int) -> Actions:
    """Return the output stage's actions: conversion and one multiplication for each output."""
    return times(total(WORD, MULTIPLY), outputs)
