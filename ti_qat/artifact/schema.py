"""Typed header of an artifact (`artifact.json`): what it is, never a number that enters arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

FORMAT_NAME: Final = "ti-qat-artifact"
FORMAT_VERSION: Final = 1

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Dimension = Annotated[int, Field(ge=1, le=1 << 20)]


class Granularity(StrEnum):
    """How many weights share one scale."""

    PER_TENSOR = "per_tensor"
    PER_ROW = "per_row"


class ActivationScaling(StrEnum):
    """Where the scale of a linear's input comes from (docs/numerics.md, activations)."""

    STATIC = "static"
    DYNAMIC_PER_TOKEN = "dynamic_per_token"


class Metric(StrEnum):
    """Score of a task on its evaluation split."""

    ACCURACY = "accuracy"
    MATTHEWS = "matthews_correlation"
    F1 = "f1"
    PEARSON = "pearson_correlation"
    SPEARMAN = "spearman_correlation"
    PEARSON_SPEARMAN = "pearson_spearman"

    @property
    def is_regression(self) -> bool:
        """Whether it compares numbers: the task has one output and no classes."""
        return self in (Metric.PEARSON, Metric.SPEARMAN, Metric.PEARSON_SPEARMAN)

    def require_fitting(self, labels: Sequence[str]) -> None:
        """Raise `ValueError` unless `labels` are what a task of this metric has: one name or several classes."""
        expected = "one label, the number's name" if self.is_regression else "the names of two or more classes"
        if (len(labels) == 1) is not self.is_regression or not labels:
            raise ValueError(f"metric {self.value} expects {expected}, labels has {len(labels)}")


class Frozen(BaseModel):
    """Immutable, closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Task(Frozen):
    """What the model tells of a row: a class, `labels[i]` naming class i, or a number, named by the only label.

    `text_columns` names the row's texts in the model's order, one or two for pairs; None where the producer
    did not say.
    """

    name: str = Field(min_length=1)
    labels: tuple[str, ...] = Field(min_length=1, max_length=1000)
    metric: Metric
    text_columns: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=2)

    @model_validator(mode="after")
    def _labels_fit_metric(self) -> Self:
        self.metric.require_fitting(self.labels)
        return self


class EncoderShape(Frozen):
    """Dimensions of a BERT encoder with a pooler and a linear classifier, of one output for a regression."""

    family: Literal["bert"]
    layers: Annotated[int, Field(ge=1, le=200)]
    hidden: Dimension
    heads: Annotated[int, Field(ge=1, le=1024)]
    feed_forward: Dimension
    vocabulary: Annotated[int, Field(ge=1, le=1 << 24)]
    positions: Dimension
    token_types: Annotated[int, Field(ge=1, le=1024)]
    labels: Annotated[int, Field(ge=1, le=1000)]

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) is not a multiple of heads ({self.heads})")
        return self

    @property
    def head_size(self) -> int:
        """Width D of one attention head."""
        return self.hidden // self.heads


class Quantization(Frozen):
    """Quantisation scheme; the scales themselves are tensors."""

    linear_weights: Granularity
    word_embedding: Granularity
    activations: ActivationScaling


class Tokenization(Frozen):
    """How text becomes token ids; `tokenizer.json` holds the rest."""

    max_length: Dimension
    pad_token_id: Annotated[int, Field(ge=0)]


class Provenance(Frozen):
    """Where the weights come from, for a reader; nothing computes with it."""

    tool_version: str
    teacher: str
    method: str
    seed: int
    training_rows: int


class Digests(Frozen):
    """SHA-256 of the artifact's other files."""

    tensors: Sha256
    tokenizer: Sha256
    evaluation: Sha256


class Header(Frozen):
    """The whole of `artifact.json`."""

    format: Literal["ti-qat-artifact"]
    version: Literal[1]
    task: Task
    encoder: EncoderShape
    quantization: Quantization
    tokenization: Tokenization
    provenance: Provenance
    digests: Digests

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.encoder.labels != len(self.task.labels):
            raise ValueError(f"encoder.labels is {self.encoder.labels}, task.labels names {len(self.task.labels)}")
        if self.tokenization.max_length > self.encoder.positions:
            raise ValueError(
                f"tokenization.max_length is {self.tokenization.max_length}, "
                f"the encoder has {self.encoder.positions} positions"
            )
        if self.tokenization.pad_token_id >= self.encoder.vocabulary:
            raise ValueError(
                f"tokenization.pad_token_id is {self.tokenization.pad_token_id}, "
                f"vocabulary is {self.encoder.vocabulary}"
            )
        return self
