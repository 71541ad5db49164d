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
from datasets import Dataset, disable_progress_bars

from ti_qat import model_directory
from ti_qat.artifact.evaluation import predictions, score
from ti_qat.artifact.process import peak_rss_bytes
from ti_qat.data import RightPadding, labels_of, lengths_of, read_rows, task_file, tokenized
from ti_qat.model_directory import TrainedModel
from ti_qat.tasks import TextTask

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


def evaluate(directory: Path, task: TextTask, data_dir: Path) -> EvaluationResult:
    """Evaluate the model in `directory`. Raises `TrainingError` or `TaskError` for what cannot be used."""
    disable_progress_bars()
    model = model_directory.load(directory)
    model_directory.require_same_labels(task, model)
    rows = tokenized(
        read_rows(task, task_file(task, data_dir, task.dev_file)), model.tokenizer, model.trained.max_length
    )
    predicted = predictions(task.metric, logits_of(model, rows))
    return EvaluationResult(
        kind="teacher" if model.student is None else "student",
        task=task.name,
        metric=task.metric.value,
        score=score(task.metric, labels_of(rows, task.metric), predicted),
        rows=len(rows),
        latency_ms=latency_ms(model, rows),
        bytes=sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()),
        peak_rss_bytes=peak_rss_bytes(),
    )


def logits_of(model: TrainedModel, rows: Dataset) -> np.ndarray[Any, Any]:
    """Return the logits, float32 (R, labels), of every row, computed in batches of similar length."""
    order = np.argsort(lengths_of(rows), kind="stable")
    logits = np.zeros((len(rows), model.model.config.num_labels), np.float32)
    for start in range(0, len(order), BATCH_ROWS):
        chosen = order[start : start + BATCH_ROWS]
        with torch.no_grad():
            logits[chosen] = model.model(**model_inputs(model, rows, chosen)).logits.numpy()
    return logits


def model_inputs(model: TrainedModel, rows: Dataset, chosen: np.ndarray[Any, Any]) -> dict[str, torch.Tensor]:
    """Return the padded batch of the rows numbered `chosen`, without labels."""
    batch = RightPadding(model.tokenizer)([rows[int(row)] for row in chosen])
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


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
