"""Softmax unit: maximum, exponential, adder-tree sum, divide; float32 in the exact profile."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled, exp_nonpositive, power_of_two_at_least, tree_sum_in_place
from hwsim.row_threads import over_rows
from hwsim.units.actions import ADD, DIVIDE, WORD, Actions, times, total
from hwsim.units.leaf_actions import actions_of
from ti_qat.artifact import numerics

Array = np.ndarray[Any, Any]

PASSES = 3  # over a row: its maximum, the exponentials and their sum, the quotients


@compiled
def _softmax(first, last, x, lengths, out):  # type: ignore[no-untyped-def]
    width = x.shape[3]
    buffer = np.empty(power_of_two_at_least(width), np.float32)
    for b in range(x.shape[0]):
        valid = lengths[b]
        for h in range(x.shape[1]):
            for i in range(first, last):
                row = x[b, h, i]
                maximum = row[0]
                for j in range(1, valid):
                    maximum = max(maximum, row[j])
                buffer[:] = np.float32(0)
                for j in range(valid):
                    buffer[j] = exp_nonpositive(row[j] - maximum)
                out[b, h, i, :] = buffer[:width]
                summed = tree_sum_in_place(buffer)
                for j in range(valid):
                    out[b, h, i, j] = out[b, h, i, j] / summed


def softmax(x: Array, lengths: Array) -> Array:
    """Return the softmax of float32 (B, heads, S, S) over the first `lengths[b]` keys; zero beyond."""
    out = np.empty(x.shape, np.float32)
    over_rows(_softmax, x.shape[2], x, lengths, out)
    return out


def actions(rows: int, width: int) -> Actions:
    """Return the unit's actions for `rows` rows of `width` keys."""
    exponential = total(ADD, actions_of(numerics.exp_nonpositive))
    return total(times(total(WORD, exponential, DIVIDE), rows * width), times(ADD, rows * (width - 1)))
