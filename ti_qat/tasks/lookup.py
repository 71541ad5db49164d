"""How a task is found, by name or in a file, and what it is one of."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError
from transformers import PreTrainedConfig

from ti_qat.errors import TaskError, UnsupportedModelError
from ti_qat.models.families import FAMILIES, family_of
from ti_qat.tasks.glue import GLUE_TASKS
from ti_qat.tasks.image_task import ImageObjective, ImageTask
from ti_qat.tasks.language_task import LanguageObjective, LanguageTask
from ti_qat.tasks.objectives import Objective
from ti_qat.tasks.text_objective import TextObjective
from ti_qat.tasks.text_task import TextTask

Task = TextTask | ImageTask | LanguageTask


def find_task(name: str) -> Task:
    """Return the GLUE task of that name, or the task that a `.toml` file describes."""
    if name in GLUE_TASKS:
        return GLUE_TASKS[name]
    if not name.endswith(".toml"):
        raise TaskError(f"task '{name}' is not known: expected {', '.join(GLUE_TASKS)} or a .toml file")
    return read_task(Path(name))


def read_task(file: Path) -> Task:
    """Read a task from a TOML file; raise `TaskError` naming the field that is wrong."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaskError(f"{file}: expected TOML: {error}") from error
    kind = ImageTask if "modality" in content else LanguageTask if "objective" in content else TextTask
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        # A rule over several fields names them itself; its input is the whole file.
        where = f"{field}: {first['msg']}, found {first['input']!r}" if field else first["msg"]
        raise TaskError(f"{file}: {where}") from error


def objective_of(task: Task) -> Objective:
    """Return the objective that `task` is one of."""
    if isinstance(task, ImageTask):
        return ImageObjective(task)
    return LanguageObjective(task) if isinstance(task, LanguageTask) else TextObjective(task)


def require_learnable(task: Task, config: PreTrainedConfig) -> None:
    """Raise `UnsupportedModelError`, by name, where a model of this family cannot learn `task`."""
    objective = objective_of(task)
    if not objective.serves(family_of(config)):
        served = ", ".join(name for name, family in FAMILIES.items() if objective.serves(family))
        raise UnsupportedModelError(f"task {task.name}: expected a model of {served}, found '{config.model_type}'")
