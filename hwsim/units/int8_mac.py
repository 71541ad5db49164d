"""int8 MAC array: query times key, and attention probabilities times value.

Codes lie in [-127, 127], so K products sum to 127 * 127 * K at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.units.accumulator import CODE_MAGNITUDE, AccumulatorRange, accumulate_step, exact_dot
from hwsim.units.actions import MULTIPLY, WORD, Action, Actions, times, total
from ti_qat.artifact import numerics

Array = np.ndarray[Any, Any]
ArrayProduct = Callable[[Array, Array, int, AccumulatorRange], tuple[Array, int]]


@compiled
def _dot(x, w, low, high, wraps, exact):  # type: ignore[no-untyped-def]
    if exact:
        return np.int64(exact_dot(x, w)), 0
    accumulator, events = np.int64(0), 0
    for k in range(x.shape[0]):
        product = np.int64(x[k]) * np.int64(w[k])
        accumulator, event = accumulate_step(accumulator, product, low, high, wraps)
        events += event
    return accumulator, events


@compiled
def _scores(query, key, low, high, wraps, exact, accumulators):  # type: ignore[no-untyped-def]
    heads, size = accumulators.shape[1], query.shape[2] // accumulators.shape[1]
    events = 0
    for b in range(accumulators.shape[0]):
        for h in range(heads):
            first = h * size
            for i in range(accumulators.shape[2]):
                for j in range(accumulators.shape[3]):
                    accumulators[b, h, i, j], event = _dot(
                        query[b, i, first : first + size], key[b, j, first : first + size], low, high, wraps, exact
                    )
                    events += event
    return events


@compiled
def _context(probabilities, value, low, high, wraps, exact, accumulators):  # type: ignore[no-untyped-def]
    size = accumulators.shape[2] // probabilities.shape[1]
    column = np.empty(value.shape[1], np.int8)
    events = 0
    for b in range(accumulators.shape[0]):
        for d in range(accumulators.shape[2]):
            for k in range(column.shape[0]):
                column[k] = value[b, k, d]
            for i in range(accumulators.shape[1]):
                accumulators[b, i, d], event = _dot(probabilities[b, d // size, i], column, low, high, wraps, exact)
                events += event
    return events


def _limits(limits: AccumulatorRange, k: int) -> tuple[int, int, bool, bool]:
    return limits.low, limits.high, limits.wraps, limits.holds(CODE_MAGNITUDE * CODE_MAGNITUDE * k)


def accumulate_scores(query: Array, key: Array, heads: int, limits: AccumulatorRange) -> tuple[Array, int]:
    """Return (int32 sums (B, heads, S, S), overflow events) of int8 codes (B, S, H)."""
    batch, tokens, hidden = query.shape
    accumulators = np.empty((batch, heads, tokens, tokens), np.int32)
    events = _scores(query, key, *_limits(limits, hidden // heads), accumulators)
    return accumulators, int(events)


def accumulate_context(probabilities: Array, value: Array, heads: int, limits: AccumulatorRange) -> tuple[Array, int]:
    """Return (int32 sums (B, S, H), overflow events) of int8 codes (B, heads, S, S) and (B, S, H)."""
    if probabilities.shape[1] != heads:
        raise ValueError(f"probabilities have {probabilities.shape[1]} heads, expected {heads}")
    accumulators = np.empty(value.shape, np.int32)
    events = _context(probabilities, value, *_limits(limits, value.shape[1]), accumulators)
    return accumulators, int(events)


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
