"""Teacher and student directories: a transformers checkpoint, its tokenizer, and what it was made for.

Both hold config.json, model.safetensors, tokenizer.json, task.json and training.jsonl. A student adds
student.json; `ti_qat.models.stored_student` says how its tensors are stored. `from_pretrained` of transformers loads
either; here nothing may be missing or left over.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from ti_qat.config import QuantizerSettings
from ti_qat.errors import TaskError, TrainingError, UnsupportedModelError
from ti_qat.method.schedules import Method
from ti_qat.models.families import family_of
from ti_qat.models.stored_student import stored_state
from ti_qat.sharing.model_hub import require_there
from ti_qat.tasks.lookup import Task, objective_of, require_learnable
from ti_qat.tasks.objectives import Processor

TASK_FILE, STUDENT_FILE = "task.json", "student.json"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


class TrainingRecord(BaseModel):
    """What came out of a training run: the score is that of all rows of the evaluation split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    score: float
    steps: int
    evaluation_rows: int


class TrainedTask(BaseModel):
    """`task.json`: what the model was trained for; `source` names the checkpoint it started from.

    `base_model` names the pretrained model that its teacher, or it as a teacher, started from. `result` is
    None until training is done.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Task
    max_length: int
    source: str
    base_model: str
    seed: int
    training_rows: int
    result: TrainingRecord | None = None


class StudentDescription(BaseModel):
    """`student.json`: how the student is quantised and how it was trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantizers: QuantizerSettings
    method: Method


@dataclass(frozen=True)
class TrainedModel:
    """A teacher (`student` is None) or a student, ready to evaluate."""

    model: PreTrainedModel
    processor: Processor
    trained: TrainedTask
    student: StudentDescription | None


def pretrained_config(source: str, task: Task) -> PreTrainedConfig:
    """Return the configuration of the checkpoint at a directory or hub name.

    Raises `UnsupportedModelError` where there is none, or its model cannot learn `task`.
    """
    require_there(source)
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise UnsupportedModelError(f"{source}: expected a transformers checkpoint: {error}") from error
    require_learnable(task, config)
    return config


def load_pretrained(source: str, config: PreTrainedConfig, task: Task) -> tuple[PreTrainedModel, Processor]:
    """Return the model at a directory or hub name, in float32 with a head for `task`, and what prepares its input.

    `config` as from `pretrained_config`.

    Raises `UnsupportedModelError` before any weight is read where it cannot become a student.
    """
    if quantization := getattr(config, "quantization_config", None):
        method = quantization.get("quant_method")
        raise UnsupportedModelError(f"{source}: expected a model in full precision, found one quantised by '{method}'")
    objective = objective_of(task)
    try:
        model, found = objective.head.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True, **objective.head_settings()
        )
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UnsupportedModelError(
            f"{source}: expected the weights of a {config.model_type} checkpoint: {error}"
        ) from error
    # A head of other classes starts afresh; what lies below it must be the checkpoint's.
    other = sorted(key for key, *_ in found["mismatched_keys"] if key.startswith(f"{model.base_model_prefix}."))
    if other:
        raise UnsupportedModelError(
            f"{source}: expected weights of the shapes in {CONFIG_FILE}; not: {', '.join(other)}"
        )
    return model, objective.load_processor(source)


def save(directory: Path, trained: TrainedModel) -> None:
    """Write a model directory into `directory`, which exists."""
    state = None if trained.student is None else stored_state(trained.model)
    # Under the names of its own parameters: transformers would give ViT's those of older checkpoints.
    trained.model.save_pretrained(directory, state_dict=state, save_original_format=False)
    trained.processor.save_pretrained(directory)
    (directory / TASK_FILE).write_text(trained.trained.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if trained.student is not None:
        (directory / STUDENT_FILE).write_text(trained.student.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load(directory: Path) -> TrainedModel:
    """Read a teacher or student directory, model in eval mode. Raises `TrainingError` naming file and field."""
    trained = _read(directory / TASK_FILE, TrainedTask)
    student = _read(directory / STUDENT_FILE, StudentDescription) if (directory / STUDENT_FILE).exists() else None
    weights, objective = directory / WEIGHTS_FILE, objective_of(trained.task)
    try:
        config = AutoConfig.from_pretrained(directory)
        family_of(config)
        _require_same_quantizers(directory, config, student)
        model, found = objective.head.from_pretrained(directory, output_loading_info=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(f"{weights}: expected the weights of this model: {error}") from error
    for state in ("missing", "unexpected"):
        if found[f"{state}_keys"]:
            raise TrainingError(f"{weights}: {state} tensors: {', '.join(sorted(found[f'{state}_keys']))}")
    return TrainedModel(model, objective.load_processor(directory), trained, student)


def _require_same_quantizers(directory: Path, config: PreTrainedConfig, student: StudentDescription | None) -> None:
    """Raise `TrainingError` where config.json, which transformers goes by, and student.json differ."""
    entry = getattr(config, "quantization_config", None)
    expected = None if student is None else student.quantizers.model_dump(mode="json")
    found = None if entry is None else entry.get("quantizers")
    if found != expected:
        raise TrainingError(
            f"{directory / CONFIG_FILE}: quantization_config: expected those of {STUDENT_FILE}, found {found}"
        )


def load_teacher(directory: Path) -> TrainedModel:
    """Read a teacher directory; a student is refused."""
    loaded = load(directory)
    if loaded.student is not None:
        raise TrainingError(f"{directory}: expected a teacher, found a student")
    return loaded


def require_same_labels(task: Task, model: TrainedModel) -> None:
    """Raise `TaskError` where `task` does not have the labels that `model` was trained for."""
    trained = model.trained.task
    if type(task) is not type(trained):
        raise TaskError(f"task {task.name}: expected a task of the kind of '{trained.name}', which the model learned")
    if task.labels != model.trained.task.labels:
        raise TaskError(
            f"task {task.name}: expected the model's labels {model.trained.task.labels}, found {task.labels}"
        )


Description = TypeVar("Description", bound=BaseModel)


def _read(file: Path, model: type[Description]) -> Description:
    try:
        return model.model_validate_json(file.read_bytes(), strict=False)
    except FileNotFoundError as error:
        raise TrainingError(
            f"{file.parent}: expected a folder that teach, train or publish wrote; it has no {file.name}"
        ) from error
    except OSError as error:
        raise TrainingError(f"{file}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise TrainingError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
