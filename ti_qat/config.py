"""Settings of a training run: strict, with errors that name the field, overridden by `--set key=value`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from ti_qat.artifact.schema import ActivationScaling, Granularity, Quantization
from ti_qat.errors import ConfigurationError
from ti_qat.presets import Preset, preset_settings

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class WeightQuantizer(StrEnum):
    """How a float weight becomes a code and a scale; `ti_qat.quantization.weight_quantizers` holds the formulas."""

    TWN = "twn"
    MEAN_ABS = "mean_abs"
    MIN_MAX = "min_max"
    LEARNED = "learned"

    @property
    def only_ternary(self) -> bool:
        """Whether the formula is one of ternary codes."""
        return self in (WeightQuantizer.TWN, WeightQuantizer.MEAN_ABS)


class ActivationGranularity(StrEnum):
    """Which activations share a scale: the schemes of `ActivationScaling`, and one for ablation alone."""

    STATIC = "static"
    DYNAMIC_PER_TOKEN = "dynamic_per_token"
    DYNAMIC_PER_TENSOR = "dynamic_per_tensor"


class ActivationRange(StrEnum):
    """Where a static activation scale comes from; `ti_qat.quantization.activation_quantizers` holds the formulas."""

    LEARNED = "learned"
    MIN_MAX = "min_max"
    PERCENTILE = "percentile"
    EMA = "ema"


class Precision(StrEnum):
    """Number format of full-precision models' matrix products; the student's, weights and optimiser stay float32."""

    FLOAT32 = "fp32"
    BFLOAT16 = "bf16"


class GradientClipping(StrEnum):
    """Whose norm `max_gradient_norm` bounds: that of all gradients together, or of each parameter's."""

    GLOBAL = "global"
    PER_PARAMETER = "per_parameter"


class LogitScaling(StrEnum):
    """How much each next token of a language model counts in the distillation of the logits."""

    UNIFORM = "uniform"
    TOKEN = "token"


class Settings(BaseModel):
    """Immutable and closed to unknown keys, so that a misspelt one is an error and not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingConfig(Settings):
    """What teacher and student training share.

    `batch_size` is the rows of one optimiser step, over all processes and all of its
    `accumulation_steps`. `learning_rate` rises linearly over `warmup_fraction` of the steps and falls
    linearly to 0. `deterministic` makes a run a function of its inputs on one machine; `threads` is part
    of that (0: as many as the machine offers). `report_to` names the Trainer's reporters, by commas.
    `configure` starts from the settings of `preset`.
    """

    preset: Preset = Preset.CLEAN
    epochs: Positive = 1.0
    batch_size: Count = 32
    accumulation_steps: Count = 1
    learning_rate: Positive = 1e-4
    warmup_fraction: Fraction = 0.1
    weight_decay: Fraction = 0.01
    adam_epsilon: Positive = 1e-8
    adam_bias_correction: bool = True
    max_gradient_norm: Positive = 1.0
    gradient_clipping: GradientClipping = GradientClipping.GLOBAL
    precision: Precision = Precision.FLOAT32
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    deterministic: bool = True
    threads: Annotated[int, Field(ge=0)] = 0
    log_every_steps: Count = 10
    evaluate_every_steps: Count = 100
    checkpoint_every_steps: Count = 50
    report_to: str = "none"
    exportable: bool = True


class TeacherConfig(TrainingConfig):
    """Fine-tuning of the full-precision teacher; texts are cut to `max_length` tokens from here on."""

    max_length: Annotated[int, Field(ge=2)] = 64


class QuantizerSettings(Settings):
    """How the student's weights and activations are quantised; a student's directory carries them.

    `weight_bits` 2 is ternary; the other widths are for ablation and are not exported. Latent weights
    are clipped to +-`weight_clip` where it is given, and get no gradient beyond it; `activation_clip`
    does the same to activations under `dynamic_per_tensor`, and nothing under the others.
    """

    weight_quantizer: WeightQuantizer = WeightQuantizer.TWN
    weight_bits: Literal[2, 3, 4, 8] = 2
    weight_clip: Positive | None = None
    linear_weights: Granularity = Granularity.PER_ROW
    word_embedding: Granularity = Granularity.PER_ROW
    activations: ActivationGranularity = ActivationGranularity.STATIC
    activation_range: ActivationRange = ActivationRange.LEARNED
    activation_clip: Positive | None = None
    activation_bits: Literal[2, 3, 4, 8] = 8

    @field_validator("weight_bits")
    @classmethod
    def _width_has_a_formula(cls, bits: int, info: ValidationInfo) -> int:
        quantizer = info.data.get("weight_quantizer")
        if quantizer is not None and quantizer.only_ternary and bits != 2:
            wider = " or ".join(member for member in WeightQuantizer if not member.only_ternary)
            raise ValueError(f"expected 2 with weight_quantizer {quantizer}, which is ternary (wider: {wider})")
        return bits

    @field_validator("activation_range")
    @classmethod
    def _something_is_static(cls, source: ActivationRange, info: ValidationInfo) -> ActivationRange:
        dynamic = info.data.get("activations") is ActivationGranularity.DYNAMIC_PER_TENSOR
        if dynamic and source is not ActivationRange.LEARNED:
            raise ValueError("without effect under activations dynamic_per_tensor, where no scale is static")
        return source

    def exported(self) -> Quantization:
        """Return the scheme as an artifact's header states it.

        Raises `ConfigurationError` naming a setting that an artifact cannot hold.
        """
        held = {"weight_bits": (2,), "activation_bits": (8,), "activations": tuple(ActivationScaling)}
        for name, values in held.items():
            if (found := getattr(self, name)) not in values:
                expected = " or ".join(str(value) for value in values)
                raise ConfigurationError(f"{name}: expected {expected} to be exported, found {found}")
        return Quantization(
            linear_weights=self.linear_weights,
            word_embedding=self.word_embedding,
            activations=ActivationScaling(self.activations),
        )


class LossSettings(Settings):
    """Weights of the terms of the distillation loss; docs/training.md has the formulas.

    Without `mask_padding`, padding counts as tokens do, as in the paper's code. `logit_scaling` is for
    language models.
    """

    hidden_weight: Weight = 1.0
    attention_scores_weight: Weight = 1.0
    attention_map_weight: Weight = 0.0
    attention_output_weight: Weight = 0.0
    logits_weight: Weight = 1.0
    labels_weight: Weight = 0.0
    logit_scaling: LogitScaling = LogitScaling.UNIFORM
    mask_padding: bool = True


class StudentConfig(TrainingConfig, QuantizerSettings, LossSettings):
    """Quantisation-aware training of the student.

    The teacher intervenes during the first T steps: `intervention_steps`, or where that is not given
    `intervention_fraction` of them all. With `restart_after_intervention` the steps after T are a second
    stage, with a fresh optimiser and a warm-up of its own.
    `scale_learning_rate` is that of the binary logarithm of the learned scales; those of activations
    start from `calibration_batches` training batches. `dropout` is the student's; the teacher has none.
    `gradual_lambda_steps` is for the method of that name. With `pad_to_max_length` every batch is as long
    as the longest text may be.
    """

    learning_rate: Positive = 4e-4
    scale_learning_rate: Positive = 1e-3
    intervention_fraction: Fraction = 0.25
    intervention_steps: Annotated[int, Field(ge=0)] | None = None
    restart_after_intervention: bool = False
    gradual_lambda_steps: Count = 1000
    calibration_batches: Count = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    pad_to_max_length: bool = False

    def quantizers(self) -> QuantizerSettings:
        """Return the part of the settings that a student's directory carries."""
        return QuantizerSettings(**{name: getattr(self, name) for name in QuantizerSettings.model_fields})


Config = TypeVar("Config", bound=TrainingConfig)


def configure(model: type[Config], overrides: Sequence[str], task_name: str) -> Config:
    """Return `model` with `key=value` overrides, above those of the preset that they name for this task.

    Raises `ConfigurationError` naming a key that is wrong.
    """
    values: dict[str, object] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigurationError(f"--set {override}: expected key=value")
        if key not in model.model_fields:
            raise ConfigurationError(unknown("setting", key, model.model_fields))
        # TOML has no null, and what a preset sets must be possible to take back.
        is_absent = text == "none" and model.model_fields[key].default is None
        values[key] = None if is_absent else parse_value(text)
    try:
        return model.model_validate(preset_settings(values, model.model_fields, task_name) | values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{key}: {message}, found {first['input']!r}") from error


def unknown(kind: str, path: str, known: Iterable[str]) -> str:
    """Return what is wrong with `path`, whose last part is none of the `known`: the closest of them, then all."""
    closest = get_close_matches(path.rpartition(".")[2], names := list(known), n=1)
    guess = f", did you mean {closest[0]}?" if closest else ";"
    return f"{path}: unknown {kind}{guess} known: {', '.join(names)}"


def parse_value(text: str) -> object:
    """Return `text` as a TOML value, or as itself where it is none: a bare word."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
