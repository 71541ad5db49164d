"""What reading, training and scoring need to know of a task, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from datasets import Dataset
from torch import Tensor
from transformers import AutoTokenizer, BaseImageProcessor, PreTrainedTokenizerBase

from ti_qat.artifact.atomic import sha256_of
from ti_qat.models.families import Family
from ti_qat.tasks.data import task_file
from ti_qat.tasks.text_task import RowFiles

Array = np.ndarray[Any, Any]
Processor = PreTrainedTokenizerBase | BaseImageProcessor
Collator = Callable[[list[dict[str, Any]]], dict[str, Tensor]]


class Split(StrEnum):
    """What rows are for."""

    TRAIN = "train"
    DEV = "dev"


class Objective(Protocol):
    """A task of one kind, for those who need not know which.

    `head` is transformers' class that loads the model. `outcome` is what of a batch's logits its score needs.
    """

    head: ClassVar[Any]

    def head_settings(self) -> dict[str, Any]:
        """Return the settings of a fresh head."""
        ...

    def serves(self, family: Family) -> bool:
        """Whether models of `family` can learn the task."""
        ...

    def load_processor(self, source: str | Path) -> Processor:
        """Return what turns rows into the model's input."""
        ...

    def fingerprints(self, data_dir: Path) -> dict[str, str]:
        """Return what tells the data of both splits from any other. Raises `TaskError` where some is missing."""
        ...

    def read(self, data_dir: Path, split: Split, processor: Processor, max_length: int) -> Dataset:
        """Return the rows of a split. Raises `TaskError`."""
        ...

    def lengths(self, rows: Dataset) -> list[int]:
        """Return how long each row is: batches are made of rows of like length."""
        ...

    def collator(self, processor: Processor, length: int | None = None) -> Collator:
        """Return what makes a batch, with labels, of rows; padded to `length`, or to the longest of them."""
        ...

    def outcome(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return what of the logits of a batch (B, ...) the score needs, (B, n)."""
        ...

    def score(self, outcomes: Array, rows: Dataset) -> float:
        """Return the score from the outcomes (R, n) of all `rows`."""
        ...


def split_file(task: RowFiles, data_dir: Path, split: Split) -> Path:
    """Return the file of a split, as `task_file` finds it."""
    return task_file(task, data_dir, task.train_file if split is Split.TRAIN else task.dev_file)


def digests_of(task: RowFiles, data_dir: Path) -> dict[str, str]:
    """Return the SHA-256 of the task's files by name; a task of the hub has them brought first."""
    return {file.name: sha256_of(file) for file in (split_file(task, data_dir, split) for split in Split)}


def class_settings(labels: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a fresh head for these classes, whatever those that the checkpoint was trained for."""
    names = dict(enumerate(labels))
    return {
        "num_labels": len(names),
        "id2label": names,
        "label2id": {name: index for index, name in names.items()},
        "ignore_mismatched_sizes": True,
    }


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a checkpoint, able to pad."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # GPT-2 and LLaMA were trained without padding
    return tokenizer
