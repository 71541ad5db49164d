"""int8 MAC array: query times key, and attention probabilities times value.

Codes lie in [-127, 127], so K products sum to 127 * 127 * K at most.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from hwsim.actions import MULTIPLY, WORD, Action, Actions, times, total
from hwsim.compiled_numerics import attention_scale, compiled, dequantize_accumulator
from hwsim.units.accumulator import CODE_MAGNITUDE, AccumulatorRange, accumulate_step, exact_dot

Array = np.ndarray[Any, Any]


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
def _scores(query, key, scale, low, high, wraps, exact, out):  # type: ignore[no-untyped-def]
    heads, size = out.shape[1], query.shape[2] // out.shape[1]
    combined = scale * attention_scale(size)
    events = 0
    for b in range(out.shape[0]):
        for h in range(heads):
            first = h * size
            for i in range(out.shape[2]):
                for j in range(out.shape[3]):
                    accumulator, event = _dot(
                        query[b, i, first : first + size], key[b, j, first : first + size], low, high, wraps, exact
                    )
                    events += event
                    out[b, h, i, j] = dequantize_accumulator(accumulator, combined)
    return events


@compiled
def _context(probabilities, value, scale, low, high, wraps, exact, out):  # type: ignore[no-untyped-def]
    heads = probabilities.shape[1]
    size = out.shape[2] // heads
    column = np.empty(value.shape[1], np.int8)
    events = 0
    for b in range(out.shape[0]):
        for h in range(heads):
            for d in range(h * size, (h + 1) * size):
                for k in range(column.shape[0]):
                    column[k] = value[b, k, d]
                for i in range(out.shape[1]):
                    accumulator, event = _dot(probabilities[b, h, i], column, low, high, wraps, exact)
                    events += event
                    out[b, i, d] = dequantize_accumulator(accumulator, scale)
    return events


def _limits(limits: AccumulatorRange, k: int) -> tuple[int, int, bool, bool]:
    return limits.low, limits.high, limits.wraps, limits.holds(CODE_MAGNITUDE * CODE_MAGNITUDE * k)


def scores(
    query: Array, query_scale: Array, key: Array, key_scale: Array, heads: int, limits: AccumulatorRange
) -> tuple[Array, int]:
    """Return (scaled scores float32 (B, heads, S, S), overflow events) of int8 codes (B, S, H)."""
    batch, tokens, hidden = query.shape
    out = np.empty((batch, heads, tokens, tokens), np.float32)
    events = _scores(query, key, query_scale[0] * key_scale[0], *_limits(limits, hidden // heads), out)
    return out, int(events)


def context(
    probabilities: Array,
    probabilities_scale: Array,
    value: Array,
    value_scale: Array,
    heads: int,
    limits: AccumulatorRange,
) -> tuple[Array, int]:
    """Return (context float32 (B, S, H), overflow events) of codes (B, heads, S, S) and (B, S, H)."""
    if probabilities.shape[1] != heads:
        raise ValueError(f"probabilities have {probabilities.shape[1]} heads, expected {heads}")
    out = np.empty(value.shape, np.float32)
    scale = probabilities_scale[0] * value_scale[0]
    events = _context(probabilities, value, scale, *_limits(limits, value.shape[1]), out)
    return out, int(events)


def mac_actions(macs: int) -> Actions:
    """Return the array's actions for `macs` multiply-accumulates."""
    return Counter({Action.INT8_MAC: macs})


def output_actions(outputs: int) -> Actions:
    """Return the output stage's actions: conversion and one multiplication for each output."""
    return times(total(WORD, MULTIPLY), outputs)
