"""GELU unit, which serves the pooler's tanh as well: both are one exponential and a divide."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim import compiled_numerics as leaf
from hwsim.compiled_numerics import compiled
from hwsim.row_threads import over_rows
from hwsim.units.actions import Actions, times
from hwsim.units.leaf_actions import actions_of
from ti_qat.artifact import numerics

Array = np.ndarray[Any, Any]

_leaf_gelu, _leaf_tanh = leaf.gelu, leaf.tanh


@compiled
def _gelu(first, last, x, out):  # type: ignore[no-untyped-def]
    for row in range(first, last):
        for i in range(x.shape[1]):
            out[row, i] = _leaf_gelu(x[row, i])


@compiled
def _tanh(first, last, x, out):  # type: ignore[no-untyped-def]
    for row in range(first, last):
        for i in range(x.shape[1]):
            out[row, i] = _leaf_tanh(x[row, i])


def gelu(x: Array) -> Array:
    """Return x * Phi(x), float32, any shape of one or more axes."""
    out = np.empty(x.shape, np.float32)
    rows = x.reshape(-1, x.shape[-1])
    over_rows(_gelu, len(rows), rows, out.reshape(rows.shape))
    return out


def tanh(x: Array) -> Array:
    """Return tanh(x), float32, any shape of one or more axes."""
    out = np.empty(x.shape, np.float32)
    rows = x.reshape(-1, x.shape[-1])
    over_rows(_tanh, len(rows), rows, out.reshape(rows.shape))
    return out


def gelu_actions(elements: int) -> Actions:
    """Return the unit's actions for GELU of `elements` values."""
    return times(actions_of(numerics.gelu), elements)


def tanh_actions(elements: int) -> Actions:
    """Return the unit's actions for tanh of `elements` values."""
    return times(actions_of(numerics.tanh), elements)
