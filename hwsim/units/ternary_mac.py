"""Ternary MAC array: int8 activation codes times weights in {-1, 0, 1}, then the output stage.

A processing element decodes its 2-bit weight and adds, subtracts or skips; it has no multiplier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled, dequantize_accumulator
from hwsim.row_threads import over_rows
from hwsim.units.accumulator import CODE_MAGNITUDE, AccumulatorRange, accumulate_step
from hwsim.units.actions import ADD, MULTIPLY, WORD, Action, Actions, times, total
from hwsim.units.exact_product import TILE, exact_product

Array = np.ndarray[Any, Any]


@compiled
def _exact_columns(first, last, x, w, accumulators):  # type: ignore[no-untyped-def]
    exact_product(x, w[first:last], accumulators[:, first:last])


@compiled
def _bounded_columns(first, last, columns, x, w, low, high, wraps, accumulators):  # type: ignore[no-untyped-def]
    events = 0
    for m in range(x.shape[0]):
        for n in columns[first:last]:
            accumulator = np.int64(0)
            for k in range(x.shape[1]):
                if w[n, k] > 0:
                    addend = np.int64(x[m, k])
                elif w[n, k] < 0:
                    addend = -np.int64(x[m, k])
                else:
                    continue
                accumulator, event = accumulate_step(accumulator, addend, low, high, wraps)
                events += event
            accumulators[m, n] = accumulator
    return events


@compiled
def _output_stage(first, last, accumulators, scale, weight_scale, bias, out):  # type: ignore[no-untyped-def]
    for m in range(first, last):
        row_scale = scale[m if scale.shape[0] > 1 else 0]
        for n in range(out.shape[1]):
            combined = row_scale * weight_scale[n if weight_scale.shape[0] > 1 else 0]
            out[m, n] = dequantize_accumulator(accumulators[m, n], combined) + bias[n]


def accumulate(x_codes: Array, weight_codes: Array, limits: AccumulatorRange) -> tuple[Array, int]:
    """Return (int32 sums (M, N), overflow events) of x int8 (M, K) times weight int8 (N, K).

    A row of z nonzero weights sums to 127 z at most, so only longer rows than the accumulator
    holds are added bit by bit.
    """
    accumulators = np.empty((x_codes.shape[0], weight_codes.shape[0]), np.int32)
    # Threads share columns: each reads its part of the weights once, and all of x.
    over_rows(_exact_columns, weight_codes.shape[0], x_codes, weight_codes, accumulators, multiple=TILE)
    if limits.holds(CODE_MAGNITUDE * weight_codes.shape[1]):
        return accumulators, 0
    reach = CODE_MAGNITUDE * np.count_nonzero(weight_codes, axis=1)
    columns = np.flatnonzero(reach > limits.high)
    bounds = limits.low, limits.high, limits.wraps
    events = over_rows(_bounded_columns, len(columns), columns, x_codes, weight_codes, *bounds, accumulators)
    return accumulators, events


def linear(
    codes: Array,
    scale: Array,
    weight_codes: Array,
    weight_scale: Array,
    bias: Array,
    limits: AccumulatorRange,
    array: Callable[[Array, Array, AccumulatorRange], tuple[Array, int]] = accumulate,
) -> tuple[Array, int]:
    """Return (float32(acc) * (scale * weight_scale) + bias, shape (..., N); overflow events).

    `array` adds up the products: `accumulate`, or that of hwsim.units.serial_mac.
    """
    rows = codes.reshape(-1, codes.shape[-1])
    accumulators, events = array(rows, weight_codes, limits)
    out = np.empty(accumulators.shape, np.float32)
    over_rows(_output_stage, len(out), accumulators, scale.reshape(-1), weight_scale, bias, out)
    return out.reshape(*codes.shape[:-1], -1), events


def mac_actions(m: int, nonzero_weights: int, zero_weights: int) -> Actions:
    """Return the array's actions for `m` activation rows against one weight matrix."""
    return Counter({Action.TERNARY_MAC_NONZERO: m * nonzero_weights, Action.TERNARY_MAC_ZERO: m * zero_weights})


def output_actions(outputs: int) -> Actions:
    """Return the output stage's actions: conversion, one multiplication and the bias for each output.

    The product of the two scales is formed once a column under a static scale and not counted.
    """
    return times(total(WORD, MULTIPLY, ADD), outputs)
