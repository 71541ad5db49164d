"""Scores a teacher or a student directory on a task's evaluation split, with what it costs to run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ti_qat.artifact.process import peak_rss_bytes
from ti_qat.models import model_directory
from ti_qat.models.model_directory import TrainedModel
from ti_qat.tasks.lookup import Task, objective_of
from ti_qat.tasks.objectives import Split

BATCH_ROWS = 32
LATENCY_ROWS = 50
WARM_UP_ROWS = 3


@dataclass(frozen=True)
class EvaluationResult:
    """`latency_ms`: median forward pass of one row on one thread; `bytes`: the directory's files.

    `peak_rss_bytes` is that of this process, which has read the data and run the whole split.
    """

    kind: str
    task: str
    metric: str
    score: float
    rows: int
    latency_ms: float
    bytes: int
    peak_rss_bytes: int


def evaluate(directory: Path, task: Task, data_dir: Path) -> EvaluationResult:
    """Evaluate the model in `directory`. Raises `TrainingError` or `TaskError` for what cannot be used."""
    model = model_directory.load(directory)
    model_directory.require_same_labels(task, model)
    objective = objective_of(task)
    rows = objective.read(data_dir, Split.DEV, model.processor, model.trained.max_length)
    return EvaluationResult(
        kind="teacher" if model.student is None else "student",
        task=task.name,
        metric=task.metric.value,
        score=objective.score(outcomes_of(model, rows), rows),
        rows=len(rows),
        latency_ms=latency_ms(model, rows),
        bytes=sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()),
        peak_rss_bytes=peak_rss_bytes(),
    )


def outcomes_of(model: TrainedModel, rows: Dataset) -> np.ndarray[Any, Any]:
    """Return what the score needs of the logits of every row, float32 (R, n), from batches of similar length.

    Of a classification or a regression they are the logits themselves.
    """
    objective = objective_of(model.trained.task)
    order = np.argsort(objective.lengths(rows), kind="stable")
    found = []
    for start in range(0, len(order), BATCH_ROWS):
        batch = batch_of(model, rows, order[start : start + BATCH_ROWS])
        labels = batch.pop("labels")
        with torch.no_grad():
            found.append(objective.outcome(model.model(**batch).logits, labels).numpy())
    return np.concatenate(found)[np.argsort(order)]


def batch_of(model: TrainedModel, rows: Dataset, chosen: np.ndarray[Any, Any]) -> dict[str, torch.Tensor]:
    """Return the padded batch of the rows numbered `chosen`, with labels."""
    collate = objective_of(model.trained.task).collator(model.processor)
    return dict(collate([rows[int(row)] for row in chosen]))


def model_inputs(model: TrainedModel, rows: Dataset, chosen: np.ndarray[Any, Any]) -> dict[str, torch.Tensor]:
    """Return the padded batch of the rows numbered `chosen`, without labels."""
    return {name: tensor for name, tensor in batch_of(model, rows, chosen).items() if name != "labels"}


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread for the duration of the block, as deployment is timed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def latency_ms(model: TrainedModel, rows: Dataset) -> float:
    """Return the median time of a batch-1 forward pass on one thread over the first rows, in milliseconds."""
    times_ms = []
    with torch.no_grad(), one_thread():
        for row in range(min(len(rows), LATENCY_ROWS + WARM_UP_ROWS)):
            inputs = model_inputs(model, rows, np.array([row]))
            started_s = time.perf_counter()
            model.model(**inputs)
            times_ms.append(1e3 * (time.perf_counter() - started_s))
    return statistics.median(times_ms[WARM_UP_ROWS:] or times_ms)
