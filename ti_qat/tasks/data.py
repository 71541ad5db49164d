"""Reads a task's files, tokenises them, and fixes the order in which training sees the rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from ti_qat.artifact.evaluation import label_dtype
from ti_qat.artifact.schema import Metric
from ti_qat.errors import TaskError
from ti_qat.tasks.hub_data import keep_split
from ti_qat.tasks.records import Record, Records, read_records
from ti_qat.tasks.text_task import RowFiles, TextTask

# Batches are drawn from pools of this many batches of rows sorted by length: little padding, random mix.
BATCHES_PER_POOL = 50

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledTexts:
    """Rows of one file: `texts[c][r]` is text column c of row r, `labels[r]` its class or its number.

    `skipped` counts the malformed rows that a task with `skip_malformed` leaves out.
    """

    texts: tuple[tuple[str, ...], ...]
    labels: tuple[int, ...] | tuple[float, ...]
    skipped: int = 0


def task_file(task: RowFiles, data_dir: Path, name: str) -> Path:
    """Return where the file `name` of `task` lies below `data_dir`; raise `TaskError` where it is missing.

    A task of the hub has its split brought there first, unless an earlier run has done so.
    """
    candidates = [data_dir / task.folder / name, data_dir / name]
    if task.hub:
        kept = candidates[0]
        if not kept.is_file():
            keep_split(task, kept.stem, kept)
        return kept
    for file in candidates:
        if file.is_file():
            return file
    raise TaskError(f"task {task.name}: no file {name}; looked for {' and '.join(map(str, dict.fromkeys(candidates)))}")


def read_rows(task: TextTask, file: Path) -> LabelledTexts:
    """Read the rows of a TSV, CSV or JSONL file; an empty text is a text. Raises `TaskError` with file and line."""
    records = records_of(task, file)
    return LabelledTexts(
        texts=tuple(tuple(row.texts[c] for row in records.rows) for c in range(len(task.text_columns))),
        labels=_numbers(task, file, records.rows) if task.metric.is_regression else _classes(task, file, records.rows),
        skipped=len(records.skipped_lines),
    )


def records_of(task: RowFiles, file: Path) -> Records:
    """Return the rows of `file`, and say how many were left out as malformed. Raises `TaskError` where none is left."""
    records = read_records(task, file)
    if not records.rows:
        raise TaskError(f"{file}: expected rows, found none")
    skipped = len(records.skipped_lines)
    if skipped:
        total, first = skipped + len(records.rows), records.skipped_lines[0]
        _log.warning("%s: skipped %d malformed rows of %d; the first is line %d", file, skipped, total, first)
    return records


def _classes(task: TextTask, file: Path, rows: Sequence[Record]) -> tuple[int, ...]:
    values = task.label_values or task.labels
    classes = {value: index for index, value in enumerate(values)}
    for row in rows:
        if row.label not in classes:
            expected = " or ".join(values)
            raise TaskError(f"{file}: line {row.line}: {task.label_column}: expected {expected}, found '{row.label}'")
    return tuple(classes[row.label] for row in rows)


def _numbers(task: TextTask, file: Path, rows: Sequence[Record]) -> tuple[float, ...]:
    largest = float(np.finfo(np.float32).max)  # training and artifact hold float32
    numbers = []
    for row in rows:
        try:
            # float() also takes Python's 1_000, which no data format writes.
            value = math.nan if "_" in row.label else float(row.label)
        except ValueError:
            value = math.nan
        if not abs(value) <= largest:
            expected = "a finite number, with a point for decimals"
            raise TaskError(f"{file}: line {row.line}: {task.label_column}: expected {expected}, found '{row.label}'")
        numbers.append(value)
    return tuple(numbers)


def labels_of(dataset: Dataset, metric: Metric) -> np.ndarray[Any, Any]:
    """Return the labels as `metric` scores against them: classes, int32 (R,), or numbers, float32 (R,)."""
    return np.asarray(dataset["labels"], label_dtype(metric))


def tokenized(rows: LabelledTexts, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """Return the rows as token ids, cut to `max_length` tokens, not yet padded; columns as the model takes them."""

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts = [batch[f"text{c}"] for c in range(len(rows.texts))]
        encoded = tokenizer(*texts, truncation=True, max_length=max_length, return_token_type_ids=True)
        return {name: encoded[name] for name in ("input_ids", "token_type_ids")}

    columns = {f"text{c}": list(column) for c, column in enumerate(rows.texts)}
    dataset = Dataset.from_dict({**columns, "labels": list(rows.labels)})
    return dataset.map(encode, batched=True, remove_columns=list(columns))


class RightPadding(DataCollatorWithPadding):
    """Pads a batch on the right, as every later stage of the pipeline expects, to its longest row or `length`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, length: int | None = None) -> None:
        tokenizer.padding_side = "right"
        super().__init__(tokenizer, padding=True if length is None else "max_length", max_length=length)


def lengths_of(dataset: Dataset) -> list[int]:
    """Return the number of tokens of each row."""
    return [len(ids) for ids in dataset["input_ids"]]


def training_order(lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> list[int]:
    """Return the rows of all `steps` batches in order: `steps` * `batch_size` row numbers.

    Every pass is a shuffle of batches of similar length, and leaves out a random remainder of less than
    a batch. Fixing the whole order up front, from the seed alone, lets a resumed run continue with
    exactly the batches it missed. Raises `TaskError` where there are fewer rows than a batch takes.
    """
    if len(lengths) < batch_size:
        raise TaskError(f"batch_size: expected at most the {len(lengths)} training rows, found {batch_size}")
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    while len(order) < steps * batch_size:
        order += _one_pass(lengths, batch_size, generator)
    return order[: steps * batch_size]


def _one_pass(lengths: Sequence[int], batch_size: int, generator: torch.Generator) -> list[int]:
    shuffled = torch.randperm(len(lengths), generator=generator).tolist()
    kept = shuffled[: len(shuffled) // batch_size * batch_size]
    pool_rows = batch_size * BATCHES_PER_POOL
    batches = []
    for start in range(0, len(kept), pool_rows):
        pool = sorted(kept[start : start + pool_rows], key=lengths.__getitem__)
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    mixed = torch.randperm(len(batches), generator=generator).tolist()
    return [row for index in mixed for row in batches[index]]
