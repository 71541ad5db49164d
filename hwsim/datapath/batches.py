"""Rows of an evaluation split in batches of one length: the accelerator pads nothing, so neither do we."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ti_qat.artifact.encoder import INPUT_IDS, LENGTHS, TOKEN_TYPE_IDS
from ti_qat.artifact.evaluation import EvaluationSplit

Array = np.ndarray[Any, Any]

_BATCH_TOKENS = 256  # keeps all activations of a batch below 100 MB for BERT-base


def equal_length_batches(lengths: Array) -> Iterator[Array]:
    """Yield row numbers in batches of one length, longest first."""
    for length in np.unique(lengths)[::-1]:
        rows = np.flatnonzero(lengths == length)
        size = max(1, _BATCH_TOKENS // int(length))
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def graph_inputs(split: EvaluationSplit, chosen: Array) -> dict[str, Array]:
    """Return the graph inputs of rows of one length, without padding."""
    length = int(split.lengths[chosen[0]])
    return {
        INPUT_IDS: np.ascontiguousarray(split.input_ids[chosen, :length]),
        TOKEN_TYPE_IDS: np.ascontiguousarray(split.token_type_ids[chosen, :length]),
        LENGTHS: split.lengths[chosen],
    }
