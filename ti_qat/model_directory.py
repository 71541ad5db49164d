"""Teacher and student directories: a transformers checkpoint, its tokenizer, and what it was made for.

Both hold config.json, model.safetensors, tokenizer.json, task.json and training.jsonl. A student adds
student.json; its tensors are the latent float32 weights and the learned activation scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ti_qat.config import QuantizerSettings
from ti_qat.errors import TaskError, TrainingError, UnsupportedModelError
from ti_qat.families import family_of
from ti_qat.modeling import make_student
from ti_qat.schedules import Method
from ti_qat.tasks import TextTask

TASK_FILE, STUDENT_FILE, WEIGHTS_FILE = "task.json", "student.json", "model.safetensors"


class TrainedTask(BaseModel):
    """`task.json`: what the model was trained for; `source` names the checkpoint it started from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: TextTask
    max_length: int
    source: str
    seed: int
    training_rows: int


class StudentDescription(BaseModel):
    """`student.json`: how the student is quantised and how it was trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantizers: QuantizerSettings
    method: Method


@dataclass(frozen=True)
class TrainedModel:
    """A teacher (`student` is None) or a student, ready to evaluate."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    trained: TrainedTask
    student: StudentDescription | None


def load_pretrained(source: str, task: TextTask) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the encoder at a directory or hub name, in float32 with a fresh classifier for `task`.

    Raises `UnsupportedModelError` before any weight is read where it cannot become a student.
    """
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise UnsupportedModelError(f"{source}: expected a transformers checkpoint: {error}") from error
    family_of(config)
    names = dict(enumerate(task.labels))
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            source,
            dtype=torch.float32,
            num_labels=len(names),
            id2label=names,
            label2id={name: index for index, name in names.items()},
        )
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UnsupportedModelError(
            f"{source}: expected the weights of a {config.model_type} checkpoint: {error}"
        ) from error
    return model, AutoTokenizer.from_pretrained(source)


def save(directory: Path, trained: TrainedModel) -> None:
    """Write a model directory into `directory`, which exists."""
    trained.model.save_pretrained(directory)
    trained.tokenizer.save_pretrained(directory)
    (directory / TASK_FILE).write_text(trained.trained.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if trained.student is not None:
        (directory / STUDENT_FILE).write_text(trained.student.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load(directory: Path) -> TrainedModel:
    """Read a teacher or student directory, model in eval mode. Raises `TrainingError` naming file and field."""
    trained = _read(directory / TASK_FILE, TrainedTask)
    student = _read(directory / STUDENT_FILE, StudentDescription) if (directory / STUDENT_FILE).exists() else None
    config = AutoConfig.from_pretrained(directory)
    family_of(config)
    model = AutoModelForSequenceClassification.from_config(config)
    if student is not None:
        model = make_student(model, student.quantizers)
    try:
        model.load_state_dict(safetensors.torch.load_file(directory / WEIGHTS_FILE))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(f"{directory / WEIGHTS_FILE}: expected the weights of this model: {error}") from error
    return TrainedModel(model.eval(), AutoTokenizer.from_pretrained(directory), trained, student)


def load_teacher(directory: Path) -> TrainedModel:
    """Read a teacher directory; a student is refused."""
    loaded = load(directory)
    if loaded.student is not None:
        raise TrainingError(f"{directory}: expected a teacher, found a student")
    return loaded


def require_same_labels(task: TextTask, model: TrainedModel) -> None:
    """Raise `TaskError` where `task` does not have the labels that `model` was trained for."""
    if task.labels != model.trained.task.labels:
        raise TaskError(
            f"task {task.name}: expected the model's labels {model.trained.task.labels}, found {task.labels}"
        )


Description = TypeVar("Description", bound=BaseModel)


def _read(file: Path, model: type[Description]) -> Description:
    try:
        return model.model_validate_json(file.read_bytes(), strict=False)
    except OSError as error:
        raise TrainingError(f"{file}: expected a teacher or student directory: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise TrainingError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
