"""How texts become blocks of tokens to predict, and how predicting them is scored."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from ti_qat.method.distillation import NO_LABEL, next_token_entropies
from ti_qat.models.families import Family
from ti_qat.tasks.data import RightPadding, lengths_of, records_of
from ti_qat.tasks.language_task import LanguageTask
from ti_qat.tasks.objectives import Array, Collator, Split, digests_of, load_tokenizer, split_file


def token_blocks(texts: tuple[str, ...], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """Return the texts' tokens in blocks of `max_length`, each text closed by the tokenizer's end of text.

    The texts follow each other without padding, and a block may begin amid one. The last block is as
    short as what is left, and left out where that is a single token: nothing of it would be predicted.
    """
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    encoded = tokenizer(list(texts), verbose=False)["input_ids"]
    tokens = list(chain.from_iterable(ids if ids[-1:] == end else ids + end for ids in encoded))
    blocks = [tokens[start : start + max_length] for start in range(0, len(tokens), max_length)]
    return Dataset.from_dict({"input_ids": [block for block in blocks if len(block) > 1]})


class LanguageBatch(RightPadding):
    """Pads blocks on the right; every token is a label too, and padding is none. The model shifts them."""

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return input_ids, attention_mask and labels, each (B, S)."""
        batch = super().__call__(features)
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, NO_LABEL)
        return batch


@dataclass(frozen=True)
class LanguageObjective:
    """Prediction of the next token."""

    head: ClassVar[Any] = AutoModelForCausalLM
    task: LanguageTask

    def head_settings(self) -> dict[str, Any]:
        """Return none: the head is the checkpoint's own."""
        return {}

    def serves(self, family: Family) -> bool:
        """Whether a token sees none after it."""
        return family.causal

    def load_processor(self, source: str | Path) -> PreTrainedTokenizerBase:
        """Return the tokenizer."""
        return load_tokenizer(source)

    def fingerprints(self, data_dir: Path) -> dict[str, str]:
        """Return the digests of the files."""
        return digests_of(self.task, data_dir)

    def read(self, data_dir: Path, split: Split, processor: PreTrainedTokenizerBase, max_length: int) -> Dataset:
        """Return the texts as blocks of tokens."""
        rows = records_of(self.task, split_file(self.task, data_dir, split)).rows
        return token_blocks(tuple(row.texts[0] for row in rows), processor, max_length)

    def lengths(self, rows: Dataset) -> list[int]:
        """Return the number of tokens of each block."""
        return lengths_of(rows)

    def collator(self, processor: PreTrainedTokenizerBase, length: int | None = None) -> Collator:
        """Return what pads on the right and takes the tokens for labels."""
        return LanguageBatch(processor, length)

    def outcome(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return of each block the sum of its tokens' cross-entropies and their number, (B, 2)."""
        losses, tokens = next_token_entropies(logits, labels), labels[:, 1:] != NO_LABEL
        return torch.stack([losses.sum(dim=-1), tokens.sum(dim=-1).to(losses.dtype)], dim=-1)

    def score(self, outcomes: Array, rows: Dataset) -> float:
        """Return the perplexity: e to the mean cross-entropy of a token."""
        loss, tokens = outcomes.astype(np.float64).sum(axis=0)
        return float(np.exp(loss / tokens))
