"""What a task is one of, and which models can learn it."""

from __future__ import annotations

from transformers import PreTrainedConfig

from ti_qat.errors import UnsupportedModelError
from ti_qat.models.families import FAMILIES, family_of
from ti_qat.tasks.image_objective import ImageObjective
from ti_qat.tasks.image_task import ImageTask
from ti_qat.tasks.language_objective import LanguageObjective
from ti_qat.tasks.language_task import LanguageTask
from ti_qat.tasks.objectives import Objective
from ti_qat.tasks.task_file import Task
from ti_qat.tasks.text_objective import TextObjective


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
