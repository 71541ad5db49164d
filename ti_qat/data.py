"""Reads a task's files, tokenises them, and fixes the order in which training sees the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from ti_qat.errors import TaskError
from ti_qat.tasks import TextTask

# Batches are drawn from pools of this many batches of rows sorted by length: little padding, random mix.
BATCHES_PER_POOL = 50


@dataclass(frozen=True)
class LabelledTexts:
    """Rows of one file: `texts[c][r]` is text column c of row r, `labels[r]` its class."""

    texts: tuple[tuple[str, ...], ...]
    labels: tuple[int, ...]


def task_file(task: TextTask, data_dir: Path, name: str) -> Path:
    """Return where the file `name` of `task` lies below `data_dir`; raise `TaskError` where it is missing."""
    candidates = [data_dir / task.folder / name, data_dir / name]
    for file in candidates:
        if file.is_file():
            return file
    raise TaskError(f"task {task.name}: no file {name}; looked for {' and '.join(map(str, dict.fromkeys(candidates)))}")


def read_rows(task: TextTask, file: Path) -> LabelledTexts:
    """Read tab-separated rows; quotes are characters like any other. Raises `TaskError` with file and line."""
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{file}: cannot be read: {error}") from error
    rows = [(number, line.removesuffix("\r").split("\t")) for number, line in enumerate(lines, start=1) if line.strip()]
    header = list(task.header) or (rows.pop(0)[1] if rows else [])
    for column in (*task.text_columns, task.label_column):
        if column not in header:
            raise TaskError(f"{file}: expected a column '{column}', found {', '.join(header) or 'no columns'}")
    if not rows:
        raise TaskError(f"{file}: expected rows, found none")
    for number, fields in rows:
        if len(fields) != len(header):
            raise TaskError(f"{file}: line {number}: expected {len(header)} fields, found {len(fields)}")
    text_indices = [header.index(column) for column in task.text_columns]
    return LabelledTexts(
        texts=tuple(tuple(fields[index] for _, fields in rows) for index in text_indices),
        labels=_classes(task, file, header, rows),
    )


def _classes(task: TextTask, file: Path, header: list[str], rows: list[tuple[int, list[str]]]) -> tuple[int, ...]:
    values = task.label_values or task.labels
    classes = {value: index for index, value in enumerate(values)}
    column = header.index(task.label_column)
    found = []
    for number, fields in rows:
        if fields[column] not in classes:
            raise TaskError(f"{file}: line {number}: label: expected {' or '.join(values)}, found '{fields[column]}'")
        found.append(classes[fields[column]])
    return tuple(found)


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
    """Pads a batch on the right to its longest row, as every later stage of the pipeline expects."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        tokenizer.padding_side = "right"
        super().__init__(tokenizer)


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
