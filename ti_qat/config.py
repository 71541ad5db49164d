"""Settings of a training run: strict, with errors that name the field, overridden by `--set key=value`."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ti_qat.artifact.schema import ActivationScaling, Granularity
from ti_qat.errors import ConfigurationError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class WeightQuantizer(StrEnum):
    """How a float weight becomes a ternary code and a scale; `ti_qat.quantizers` holds the formulas."""

    TWN = "twn"
    MEAN_ABS = "mean_abs"


class TrainingConfig(BaseModel):
    """What teacher and student training share.

    `learning_rate` rises linearly over `warmup_fraction` of the steps and falls linearly to 0.
    `deterministic` makes a run a function of its inputs on one machine; `threads` is part of that
    (0: as many as the machine offers).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: Positive = 1.0
    batch_size: Count = 32
    learning_rate: Positive = 1e-4
    warmup_fraction: Fraction = 0.1
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    deterministic: bool = True
    threads: Annotated[int, Field(ge=0)] = 0
    log_every_steps: Count = 10
    evaluate_every_steps: Count = 100
    checkpoint_every_steps: Count = 50


class TeacherConfig(TrainingConfig):
    """Fine-tuning of the full-precision teacher; texts are cut to `max_length` tokens from here on."""

    max_length: Annotated[int, Field(ge=2)] = 64


class StudentConfig(TrainingConfig):
    """Quantisation-aware training of the student.

    The teacher intervenes during the first T steps: `intervention_steps`, or where that is not given
    `intervention_fraction` of them all.
    One optimiser and one learning rate schedule run through both phases; the paper's code starts the
    second anew, which on short runs spends its warm-up twice.
    `scale_learning_rate` is that of the binary logarithm of the learned activation scales, which start
    from `calibration_batches` training batches. `dropout` is the student's; the teacher has none.
    """

    learning_rate: Positive = 4e-4
    scale_learning_rate: Positive = 1e-3
    intervention_fraction: Fraction = 0.25
    intervention_steps: Annotated[int, Field(ge=0)] | None = None
    calibration_batches: Count = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_quantizer: WeightQuantizer = WeightQuantizer.TWN
    linear_weights: Granularity = Granularity.PER_ROW
    word_embedding: Granularity = Granularity.PER_ROW
    activations: ActivationScaling = ActivationScaling.STATIC


Config = TypeVar("Config", bound=TrainingConfig)


def configure(model: type[Config], overrides: Sequence[str]) -> Config:
    """Return `model` with `key=value` overrides; raise `ConfigurationError` naming a key that is wrong."""
    values: dict[str, object] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigurationError(f"--set {override}: expected key=value")
        if key not in model.model_fields:
            raise ConfigurationError(f"--set {key}: unknown setting; known: {', '.join(model.model_fields)}")
        values[key] = parse_value(text)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{key}: {first['msg']}, found {first['input']!r}") from error


def parse_value(text: str) -> object:
    """Return `text` as a TOML value, or as itself where it is none: a bare word."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
