"""Ternary embedding gather: adds, subtracts or skips a word's scale, then adds position and type.

The tables hold codes of the output's own format, so a row takes additions and no multiplication.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.fixed_point import saturate
from hwsim.units.actions import WORD, Actions, times, total

Array = np.ndarray[Any, Any]

ERROR_BOUND_LSB = 1.5  # three table entries rounded to the nearest code, before saturation


@compiled
def _gather(input_ids, token_type_ids, word_codes, word_scale, position, token_type, bits, out):  # type: ignore[no-untyped-def]
    # Table entries have at most 20 bits, so a sum has at most 22.
    events = 0
    for b in range(out.shape[0]):
        for s in range(out.shape[1]):
            word, kind = input_ids[b, s], token_type_ids[b, s]
            scale = np.int64(word_scale[word if word_scale.shape[0] > 1 else 0])
            for i in range(out.shape[2]):
                value = np.int64(word_codes[word, i]) * scale + token_type[kind, i] + position[s, i]
                out[b, s, i], event = saturate(value, bits)
                events += event
    return events


def gather(
    input_ids: Array,
    token_type_ids: Array,
    word_codes: Array,
    word_scale_codes: Array,
    position_codes: Array,
    token_type_codes: Array,
    *,
    bits: int,
) -> tuple[Array, int]:
    """Return (embeddings, int32 (B, S, H) of `bits` bits; saturated values)."""
    out = np.empty((*input_ids.shape, word_codes.shape[1]), np.int32)
    events = _gather(
        input_ids, token_type_ids, word_codes, word_scale_codes, position_codes, token_type_codes, bits, out
    )
    return out, int(events)


def actions(elements: int) -> Actions:
    """Return the unit's actions for `elements` values of gathered rows: three additions and a saturation."""
    return times(total(WORD, WORD, WORD, WORD), elements)
