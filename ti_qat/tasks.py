"""Text classification tasks: the GLUE tasks that are known by name, and any other from a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ti_qat.artifact.schema import Metric, Task
from ti_qat.errors import TaskError


class TextTask(BaseModel):
    """How a tab-separated data set becomes texts and labels.

    `labels[i]` names class i; `label_values[i]` is how class i is written in the file (the name itself
    unless given). `header` names the columns of files that have no header line. `folder` is looked up
    inside the data folder and skipped where the files lie in the data folder itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    text_columns: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]
    label_column: str
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    metric: Metric
    label_values: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    folder: str = ""
    train_file: str = "train.tsv"
    dev_file: str = "dev.tsv"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.label_values and len(self.label_values) != len(self.labels):
            raise ValueError(f"label_values has {len(self.label_values)} entries, labels has {len(self.labels)}")
        for column in (*self.text_columns, self.label_column):
            if self.header and column not in self.header:
                raise ValueError(f"header names no column '{column}'")
        return self

    def describe(self) -> Task:
        """Return the task as an artifact's header states it."""
        return Task(name=self.name, labels=self.labels, metric=self.metric)


# Columns as in the official GLUE download: https://gluebenchmark.com/tasks
GLUE_TASKS = {
    task.name: task
    for task in (
        TextTask(
            name="cola",
            folder="CoLA",
            header=("source", "label", "mark", "sentence"),
            text_columns=("sentence",),
            label_column="label",
            label_values=("0", "1"),
            labels=("unacceptable", "acceptable"),
            metric=Metric.MATTHEWS,
        ),
        TextTask(
            name="mrpc",
            folder="MRPC",
            text_columns=("#1 String", "#2 String"),
            label_column="Quality",
            label_values=("0", "1"),
            labels=("not_equivalent", "equivalent"),
            metric=Metric.F1,
        ),
        TextTask(
            name="sst2",
            folder="SST-2",
            text_columns=("sentence",),
            label_column="label",
            label_values=("0", "1"),
            labels=("negative", "positive"),
            metric=Metric.ACCURACY,
        ),
    )
}


def find_task(name: str) -> TextTask:
    """Return the GLUE task of that name, or the task that a `.toml` file describes."""
    if name in GLUE_TASKS:
        return GLUE_TASKS[name]
    if not name.endswith(".toml"):
        raise TaskError(f"task '{name}' is not known: expected {', '.join(GLUE_TASKS)} or a .toml file")
    return read_task(Path(name))


def read_task(file: Path) -> TextTask:
    """Read a task from a TOML file; raise `TaskError` naming the field that is wrong."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaskError(f"{file}: expected TOML: {error}") from error
    try:
        return TextTask.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "task"
        raise TaskError(f"{file}: {field}: {first['msg']}, found {first['input']!r}") from error
