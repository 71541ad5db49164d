"""Quantiser unit: float32 values to int8 codes under a static scale or one scale a token."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim import compiled_numerics as leaf
from hwsim.compiled_numerics import compiled, inverse_scale, token_scale
from hwsim.row_threads import over_rows
from hwsim.units.actions import WORD, Actions, times, total
from hwsim.units.leaf_actions import actions_of
from ti_qat.artifact import numerics
from ti_qat.artifact.numerics import ONE

Array = np.ndarray[Any, Any]

_leaf_quantize = leaf.quantize


@compiled
def _quantize(first, last, x, scale, codes):  # type: ignore[no-untyped-def]
    factor = inverse_scale(scale)
    for row in range(first, last):
        for i in range(x.shape[1]):
            codes[row, i] = np.int8(_leaf_quantize(x[row, i], factor))


@compiled
def _quantize_rows(first, last, x, scales, codes):  # type: ignore[no-untyped-def]
    for row in range(first, last):
        largest = np.float32(0)
        for i in range(x.shape[1]):
            largest = max(largest, np.abs(x[row, i]))
        scales[row] = token_scale(largest)
        factor = inverse_scale(scales[row])
        for i in range(x.shape[1]):
            codes[row, i] = np.int8(_leaf_quantize(x[row, i], factor))


def quantize(x: Array, scale: Array) -> Array:
    """Return int8 codes under one static scale, shape (1,)."""
    codes = np.empty(x.shape, np.int8)
    rows = x.reshape(-1, x.shape[-1])
    over_rows(_quantize, len(rows), rows, scale[0], codes.reshape(rows.shape))
    return codes


def quantize_per_token(x: Array) -> tuple[Array, Array]:
    """Return int8 codes and float32 scales (..., 1), one scale a token."""
    codes, scales = np.empty(x.shape, np.int8), np.empty((*x.shape[:-1], 1), np.float32)
    rows = x.reshape(-1, x.shape[-1])
    over_rows(_quantize_rows, len(rows), rows, scales.reshape(-1), codes.reshape(rows.shape))
    return codes, scales


def actions(elements: int) -> Actions:
    """Return the unit's actions for `elements` values under a static scale, its inverse kept."""
    return times(total(actions_of(numerics.quantize, ONE), WORD), elements)


def per_token_actions(tokens: int, width: int) -> Actions:
    """Return the unit's actions for `tokens` rows of `width` values with a scale each."""
    scale = total(actions_of(numerics.token_scale), actions_of(numerics.inverse_scale))
    return total(actions(tokens * width), times(WORD, tokens * width), times(scale, tokens))
