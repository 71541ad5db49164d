"""Rows of an evaluation split in batches of one length: the accelerator pads nothing, so neither do we."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from hwsim.errors import SimulatorError
from ti_qat.artifact.encoder import INPUT_IDS, LENGTHS, TOKEN_TYPE_IDS
from ti_qat.artifact.evaluation import EvaluationSplit
from ti_qat.artifact.io import Artifact

Array = np.ndarray[Any, Any]
Result = TypeVar("Result")

_BATCH_TOKENS = 256  # keeps all activations of a batch below 100 MB for BERT-base


def rows_to_run(artifact: Artifact, limit: int | None) -> int:
    """Return how many rows of the evaluation split `limit` leaves, all if None. Raises SimulatorError if none."""
    rows = artifact.evaluation.rows if limit is None else min(limit, artifact.evaluation.rows)
    if rows < 1:
        raise SimulatorError(artifact.path, "--limit", expected="at least 1 row", found=str(limit))
    return rows


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


def cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def in_threads(run: Callable[[Array], Result], batches: Iterable[Array], threads: int) -> Iterator[Result]:
    """Yield what `run` returns for each batch, in order, from `threads` threads; an error stops what has not begun."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(run, chosen) for chosen in batches]
        try:
            for future in futures:
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
