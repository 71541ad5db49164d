"""The tasks that are known by name, those of GLUE, and how any task, and what it is one of, is found."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError
from transformers import PreTrainedConfig

from ti_qat.artifact.schema import Metric
from ti_qat.errors import TaskError, UnsupportedModelError
from ti_qat.families import FAMILIES, family_of
from ti_qat.image_task import ImageObjective, ImageTask
from ti_qat.language_task import LanguageObjective, LanguageTask
from ti_qat.objectives import Objective
from ti_qat.text_objective import TextObjective
from ti_qat.text_task import TextTask

Task = TextTask | ImageTask | LanguageTask

ZERO_AND_ONE = ("0", "1")
ENTAILMENT = ("entailment", "not_entailment")

MNLI = TextTask(
    name="mnli",
    folder="MNLI",
    text_columns=("sentence1", "sentence2"),
    label_column="gold_label",  # the dev files also hold the single annotators' label1 to label5
    labels=("entailment", "neutral", "contradiction"),
    metric=Metric.ACCURACY,
    dev_file="dev_matched.tsv",
)

# Files and columns as in the official download, https://gluebenchmark.com/tasks. CoLA, MRPC and SST-2 were read
# from its files; the rest as transformers (data/processors/glue.py) and datasets (glue.py) read them. The order
# of the classes is that of the hub's `glue`. Metrics: Wang et al., GLUE, 2019, table 1 (F1 of its two for MRPC, QQP;
# for STS-B the mean of its two correlations, which is what GLUE's average counts).
GLUE_TASKS = {
    task.name: task
    for task in (
        TextTask(
            name="cola",
            folder="CoLA",
            header=("source", "label", "mark", "sentence"),
            text_columns=("sentence",),
            label_column="label",
            label_values=ZERO_AND_ONE,
            labels=("unacceptable", "acceptable"),
            metric=Metric.MATTHEWS,
        ),
        TextTask(
            name="sst2",
            folder="SST-2",
            text_columns=("sentence",),
            label_column="label",
            label_values=ZERO_AND_ONE,
            labels=("negative", "positive"),
            metric=Metric.ACCURACY,
        ),
        TextTask(
            name="mrpc",
            folder="MRPC",
            text_columns=("#1 String", "#2 String"),
            label_column="Quality",
            label_values=ZERO_AND_ONE,
            labels=("not_equivalent", "equivalent"),
            metric=Metric.F1,
        ),
        TextTask(
            name="qqp",
            folder="QQP",
            text_columns=("question1", "question2"),
            label_column="is_duplicate",
            label_values=ZERO_AND_ONE,
            labels=("not_duplicate", "duplicate"),
            metric=Metric.F1,
            # A few rows of the official train.tsv lack columns; every GLUE reader leaves them out.
            skip_malformed=True,
        ),
        TextTask(
            name="stsb",
            folder="STS-B",
            text_columns=("sentence1", "sentence2"),
            label_column="score",  # a similarity from 0 to 5
            metric=Metric.PEARSON_SPEARMAN,
        ),
        MNLI,
        MNLI.model_copy(update={"name": "mnli-mm", "dev_file": "dev_mismatched.tsv"}),
        TextTask(
            name="qnli",
            folder="QNLI",
            text_columns=("question", "sentence"),
            label_column="label",
            labels=ENTAILMENT,
            metric=Metric.ACCURACY,
        ),
        TextTask(
            name="rte",
            folder="RTE",
            text_columns=("sentence1", "sentence2"),
            label_column="label",
            labels=ENTAILMENT,
            metric=Metric.ACCURACY,
        ),
        TextTask(
            name="wnli",
            folder="WNLI",
            text_columns=("sentence1", "sentence2"),
            label_column="label",
            label_values=ZERO_AND_ONE,
            labels=("not_entailment", "entailment"),
            metric=Metric.ACCURACY,
        ),
    )
}


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
