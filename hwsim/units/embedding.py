"""Embedding unit: gathers ternary word rows, scales them, adds type and position."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.units.actions import ADD, MULTIPLY, WORD, Actions, times, total

Array = np.ndarray[Any, Any]


@compiled
def _gather(input_ids, token_type_ids, word_codes, word_scale, position, token_type, out):  # type: ignore[no-untyped-def]
    for b in range(out.shape[0]):
        for s in range(out.shape[1]):
            word, kind = input_ids[b, s], token_type_ids[b, s]
            scale = word_scale[word if word_scale.shape[0] > 1 else 0]
            for i in range(out.shape[2]):
                out[b, s, i] = (np.float32(word_codes[word, i]) * scale + token_type[kind, i]) + position[s, i]


def embedding(
    input_ids: Array, token_type_ids: Array, word_codes: Array, word_scale: Array, position: Array, token_type: Array
) -> Array:
    """Return word + type + position embeddings, float32 (B, S, H), added in that order."""
    out = np.empty((*input_ids.shape, word_codes.shape[1]), np.float32)
    _gather(input_ids, token_type_ids, word_codes, word_scale, position, token_type, out)
    return out


def actions(elements: int) -> Actions:
    """Return the unit's actions for `elements` values of gathered rows."""
    return times(total(WORD, MULTIPLY, ADD, ADD), elements)
