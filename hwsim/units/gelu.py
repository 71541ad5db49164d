"""GELU unit, which serves the pooler's tanh as well: both are one exponential and a divide."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim import compiled_numerics as leaf
from hwsim.compiled_numerics import compiled
from hwsim.units.actions import Actions, times
from hwsim.units.leaf_actions import actions_of
from ti_qat.artifact import numerics

Array = np.ndarray[Any, Any]

_leaf_gelu, _leaf_tanh = leaf.gelu, leaf.tanh


@compiled
def _gelu(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        out[i] = _leaf_gelu(x[i])


@compiled
def _tanh(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        out[i] = _leaf_tanh(x[i])


def gelu(x: Array) -> Array:
    """Return x * Phi(x), float32, any shape."""
    out = np.empty(x.shape, np.float32)
    _gelu(x.reshape(-1), out.reshape(-1))
    return out


def tanh(x: Array) -> Array:
    """Return tanh(x), float32, any shape."""
    out = np.empty(x.shape, np.float32)
    _tanh(x.reshape(-1), out.reshape(-1))
    return out


def gelu_actions(elements: int) -> Actions:
    """Return the unit's actions for GELU of `elements` values."""
    return times(actions_of(numerics.gelu), elements)


def tanh_actions(elements: int) -> Actions:
    """Return the unit's actions for tanh of `elements` values."""
    return times(actions_of(numerics.tanh), elements)
