"""Vector unit: residual additions, the choice of the first token, and the float32 classifier."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled, power_of_two_at_least, tree_sum_in_place
from hwsim.units.actions import ADD, MULTIPLY, Actions, times, total

Array = np.ndarray[Any, Any]


@compiled
def _classify(x, weight, bias, out):  # type: ignore[no-untyped-def]
    width = x.shape[1]
    buffer = np.empty(power_of_two_at_least(width), np.float32)
    for b in range(out.shape[0]):
        for label in range(out.shape[1]):
            buffer[:] = np.float32(0)
            for i in range(width):
                buffer[i] = x[b, i] * weight[label, i]
            out[b, label] = tree_sum_in_place(buffer) + bias[label]


def classifier(x: Array, weight: Array, bias: Array) -> Array:
    """Return x @ weight.T + bias, float32 (B, labels), each sum in adder-tree order."""
    out = np.empty((x.shape[0], weight.shape[0]), np.float32)
    _classify(x, weight, bias, out)
    return out


def residual_add(x: Array, residual: Array) -> Array:
    """Return x + residual."""
    return x + residual


def first_token(x: Array) -> Array:
    """Return the first token of each sequence, (B, H)."""
    return np.ascontiguousarray(x[:, 0])


def residual_actions(elements: int) -> Actions:
    """Return the unit's actions for a sum of `elements` values."""
    return times(ADD, elements)


def classifier_actions(inputs: int, labels: int) -> Actions:
    """Return the unit's actions for one row of `inputs` values: products, tree, bias."""
    return times(total(times(MULTIPLY, inputs), times(ADD, inputs)), labels)
