"""A tiny random BERT, its tokenizer and a data set for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel, PreTrainedTokenizerFast

from tests.builders import WORDS, tiny_shape, tiny_tokenizer_json
from ti_qat.artifact.schema import Metric
from ti_qat.config import QuantizerSettings
from ti_qat.models import model_directory
from ti_qat.models.modeling import make_student, set_dropout, static_quantizers
from ti_qat.quantization.quantizers import Mode, activation_mode
from ti_qat.tasks.lookup import Task
from ti_qat.tasks.objectives import Processor
from ti_qat.tasks.text_task import TextTask

TASK = TextTask(
    name="tiny",
    text_columns=("text",),
    label_column="label",
    labels=("negative", "positive"),
    metric=Metric.ACCURACY,
)


def tiny_teacher(seed: int = 0) -> BertForSequenceClassification:
    shape = tiny_shape()
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=shape.positions,
        type_vocab_size=shape.token_types,
        num_labels=shape.labels,
        initializer_range=0.3,
    )
    return BertForSequenceClassification(config).eval()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tiny_tokenizer_json()),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def tiny_batch() -> dict[str, torch.Tensor]:
    """Three rows of 7, 4 and 1 tokens."""
    ids = torch.tensor([[2, 7, 9, 31, 8, 60, 3], [2, 5, 11, 3, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "token_type_ids": torch.zeros_like(ids)}


def tiny_student(
    teacher: PreTrainedModel, settings: QuantizerSettings | None = None, **changes: Any
) -> PreTrainedModel:
    """A calibrated student without dropout; `changes` are those of the settings."""
    student = make_student(teacher, settings or QuantizerSettings(**changes)).eval()
    set_dropout(student, 0.0)
    with torch.no_grad(), activation_mode(student, Mode.OBSERVE):
        student(**tiny_batch())
    for quantizer in static_quantizers(student).values():
        quantizer.calibrate()
    return student


def load_pretrained(source: str, task: Task) -> tuple[PreTrainedModel, Processor]:
    return model_directory.load_pretrained(source, model_directory.pretrained_config(source, task), task)


def write_pretrained(directory: Path) -> Path:
    tiny_teacher().save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return directory


def write_data(directory: Path, rows: int = 24) -> Path:
    """Rows whose label is whether they hold the word `good`."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, offset in (("train", 0), ("dev", 5)):
        lines = ["text\tlabel"]
        for row in range(rows):
            count = 1 + (row + offset) % 7
            words = [WORDS[(row * 3 + 7 * i + offset) % len(WORDS)] for i in range(count)]
            lines.append(f"{' '.join(words)}\t{'positive' if 'good' in words else 'negative'}")
        (directory / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return directory
