"""A small teacher and short student runs for the tests of the engine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.training.models import TASK, write_data, write_pretrained
from ti_qat import recipes
from ti_qat.config import StudentConfig, TeacherConfig
from ti_qat.method.schedules import Method

SHORT = {
    "epochs": 2.0, "batch_size": 4, "log_every_steps": 1, "evaluate_every_steps": 100, "checkpoint_every_steps": 3,
    "threads": 1,
}  # fmt: skip
TEACHER = TeacherConfig(**SHORT, max_length=9)
STUDENT = StudentConfig(**SHORT, intervention_fraction=0.5, calibration_batches=2)
STEPS = 12

TASK_TOML = (
    'name = "tiny"\ntext_columns = ["text"]\nlabel_column = "label"\n'
    'labels = ["negative", "positive"]\nmetric = "accuracy"\n'
)


def prepare(root: Path) -> Path:
    """Write model, data, task.toml and a teacher below `root`."""
    write_pretrained(root / "model")
    write_data(root / "data")
    (root / "task.toml").write_text(TASK_TOML)
    teach(root, root / "teacher")
    return root


def teach(root: Path, out: Path, **changes: Any) -> recipes.TrainingResult:
    config = TEACHER.model_copy(update=changes)
    return recipes.teach(str(root / "model"), TASK, root / "data", out, config)


def train(root: Path, out: Path, method: Method = Method.TI_G, **changes: Any) -> recipes.TrainingResult:
    config = STUDENT.model_copy(update=changes)
    return recipes.train(root / "teacher", TASK, root / "data", method, out, config)


def curve(directory: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (directory / "training.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def sha256(directory: Path) -> str:
    return hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()
