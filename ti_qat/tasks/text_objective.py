"""Classification of texts and regression: how rows of `ti_qat.tasks.data` are learned and scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from ti_qat.artifact.evaluation import predictions, score
from ti_qat.models.families import Family, Modality
from ti_qat.tasks.data import RightPadding, labels_of, lengths_of, read_rows, tokenized
from ti_qat.tasks.objectives import Array, Collator, Split, class_settings, digests_of, load_tokenizer, split_file
from ti_qat.tasks.text_task import TextTask


@dataclass(frozen=True)
class TextObjective:
    """Classification of texts, or regression."""

    head: ClassVar[Any] = AutoModelForSequenceClassification
    task: TextTask

    def head_settings(self) -> dict[str, Any]:
        """Return the settings of a fresh head."""
        kind = "regression" if self.task.metric.is_regression else "single_label_classification"
        return {**class_settings(self.task.labels), "problem_type": kind}

    def serves(self, family: Family) -> bool:
        """Whether `family` reads a text as a whole. Causal models could, but GPT-2 takes token types for words."""
        return family.modality is Modality.TEXT and not family.causal

    def load_processor(self, source: str | Path) -> PreTrainedTokenizerBase:
        """Return the tokenizer."""
        return load_tokenizer(source)

    def fingerprints(self, data_dir: Path) -> dict[str, str]:
        """Return the digests of the files."""
        return digests_of(self.task, data_dir)

    def read(self, data_dir: Path, split: Split, processor: PreTrainedTokenizerBase, max_length: int) -> Dataset:
        """Return the texts as token ids, with labels."""
        return tokenized(read_rows(self.task, split_file(self.task, data_dir, split)), processor, max_length)

    def lengths(self, rows: Dataset) -> list[int]:
        """Return the number of tokens of each row."""
        return lengths_of(rows)

    def collator(self, processor: PreTrainedTokenizerBase, length: int | None = None) -> Collator:
        """Return what pads on the right."""
        return RightPadding(processor, length)

    def outcome(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the logits."""
        return logits

    def score(self, outcomes: Array, rows: Dataset) -> float:
        """Return the metric of the predictions."""
        metric = self.task.metric
        return score(metric, labels_of(rows, metric), predictions(metric, outcomes))
