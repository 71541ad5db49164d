"""LayerNorm unit: two adder-tree sums, one square root and one divide a row, a multiply-add a value."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled, power_of_two_at_least, tree_sum_in_place
from hwsim.row_threads import over_rows
from hwsim.units.actions import ADD, DIVIDE, MULTIPLY, SQUARE_ROOT, Actions, times, total
from ti_qat.artifact.numerics import ONE

Array = np.ndarray[Any, Any]

PASSES = 3  # over a row: mean, variance, normalise


@compiled
def _layer_norm(first, last, x, gamma, beta, epsilon, out):  # type: ignore[no-untyped-def]
    width = x.shape[1]
    divisor = np.float32(width)
    padded = power_of_two_at_least(width)
    buffer = np.empty(padded, np.float32)
    centred = np.empty(width, np.float32)
    for row in range(first, last):
        for i in range(padded):
            buffer[i] = x[row, i] if i < width else np.float32(0)
        mean = tree_sum_in_place(buffer) / divisor
        for i in range(padded):
            if i < width:
                centred[i] = x[row, i] - mean
                buffer[i] = centred[i] * centred[i]
            else:
                buffer[i] = np.float32(0)
        variance = tree_sum_in_place(buffer) / divisor
        inverse_deviation = ONE / np.sqrt(variance + epsilon)
        for i in range(width):
            out[row, i] = (centred[i] * inverse_deviation) * gamma[i] + beta[i]


def layer_norm(x: Array, gamma: Array, beta: Array, epsilon: Array) -> Array:
    """Return (x - mean) / sqrt(var + epsilon) * gamma + beta over the last axis, float32."""
    out = np.empty(x.shape, np.float32)
    rows, normalised = x.reshape(-1, x.shape[-1]), out.reshape(-1, x.shape[-1])
    over_rows(_layer_norm, len(rows), rows, gamma, beta, epsilon[0], normalised)
    return out


def actions(rows: int, width: int) -> Actions:
    """Return the unit's actions for `rows` rows of `width` values."""
    sums = times(ADD, 2 * (width - 1))
    values = times(total(ADD, MULTIPLY, MULTIPLY, MULTIPLY, ADD), width)
    return times(total(sums, values, DIVIDE, DIVIDE, ADD, SQUARE_ROOT, DIVIDE), rows)
