"""What a task on texts is, classes or a number: where texts and labels lie, and how a task file says so."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ti_qat.artifact.schema import Metric, Task


class DataFormat(StrEnum):
    """How rows are written: tabs without quoting, RFC 4180, one JSON object a line, or one text a line."""

    TSV = "tsv"
    CSV = "csv"
    JSONL = "jsonl"
    TXT = "txt"


def label_text(value: object) -> str:
    """Return a label as text: JSON's and TOML's whole numbers and booleans as those languages write them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    raise ValueError("expected a string, a whole number or a boolean")


def number_text(value: object) -> str:
    """Return a regression's label as text: one of JSON's numbers, or a string, which is read as one later."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError("expected a number")


def _file_name(part: str, hub_split: str, data: dict[str, Any]) -> str:
    if data.get("hub"):
        return f"{hub_split}.jsonl"
    return f"{part}.{data.get('format') or DataFormat.TSV}"


def _labels(data: dict[str, Any]) -> tuple[str, ...]:
    is_regression = "metric" in data and data["metric"].is_regression
    return (data["label_column"],) if is_regression and "label_column" in data else ()


def _folder(data: dict[str, Any]) -> str:
    parts = [data.get("hub") or "", data.get("hub_config") or ""]
    return "--".join(part.strip("/").replace("/", "--") for part in parts if part)


def require_distinct(task: BaseModel, *fields: str) -> None:
    """Raise `ValueError` where one of these fields of `task` names something twice."""
    for field in fields:
        values = getattr(task, field)
        if len(set(values)) != len(values):
            raise ValueError(f"{field} names {next(v for v in values if values.count(v) > 1)!r} twice")


class Columns(NamedTuple):
    """Columns of a file that are read: texts in order, and the label where there is one."""

    texts: tuple[str, ...]
    label: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return self.texts if self.label is None else (*self.texts, self.label)


class RowFiles(BaseModel):
    """Where a task's rows lie and how they are written; docs/tasks.md describes every field.

    `header` names the columns of files that have no header line. `folder` is looked up inside the data
    folder and skipped where the files lie in the data folder itself. With `hub`, a file's stem is the
    split that it is a copy of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    formats: ClassVar[tuple[DataFormat, ...]] = (DataFormat.TSV, DataFormat.CSV, DataFormat.JSONL)

    name: Annotated[str, Field(min_length=1)]
    header: tuple[str, ...] = ()
    format: DataFormat | None = None
    skip_malformed: bool = False
    hub: str = ""
    hub_config: str = ""
    folder: str = Field(default_factory=_folder)
    train_file: str = Field(default_factory=lambda data: _file_name("train", "train", data))
    dev_file: str = Field(default_factory=lambda data: _file_name("dev", "validation", data))

    @property
    def columns(self) -> Columns:
        """The columns that are read."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _consistent_header(self) -> Self:
        require_distinct(self, "header")
        for column in self.columns.names:
            if self.header and column not in self.header:
                raise ValueError(f"header names no column '{column}'")
        return self

    @model_validator(mode="after")
    def _consistent_files(self) -> Self:
        if self.hub_config and not self.hub:
            raise ValueError("hub_config needs hub")
        formats = {self.format_of(name) for name in (self.train_file, self.dev_file)}
        if self.hub and formats != {DataFormat.JSONL}:
            raise ValueError("hub: splits are kept as .jsonl files; train_file and dev_file must end in .jsonl")
        if DataFormat.JSONL in formats and (self.header or self.skip_malformed):
            raise ValueError("header and skip_malformed are for tsv and csv, not for jsonl")
        return self

    def format_of(self, file_name: str) -> DataFormat:
        """Return `format`, or what the file's ending says; raise `ValueError` where neither does."""
        found = self.format or Path(file_name).suffix.removeprefix(".").lower()
        if found not in self.formats:
            *others, last = (f".{known}" for known in self.formats)
            raise ValueError(f"{file_name}: expected an ending {', '.join(others)} or {last}, or the field format")
        return DataFormat(found)


class TextTask(RowFiles):
    """How a data set becomes texts and labels.

    The metric says whether it is a classification or a regression. `labels[i]` names class i;
    `label_values[i]` is how class i is written in the file (the name itself unless given). A regression
    has one label, the name of the number, which is the column's unless given.
    """

    text_columns: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]
    label_column: str
    metric: Metric
    labels: tuple[str, ...] = Field(default_factory=_labels)
    label_values: tuple[Annotated[str, BeforeValidator(label_text)], ...] = ()

    @property
    def columns(self) -> Columns:
        """The columns that are read."""
        return Columns(self.text_columns, self.label_column)

    @model_validator(mode="after")
    def _consistent_labels(self) -> Self:
        self.metric.require_fitting(self.labels)
        if self.label_values and self.metric.is_regression:
            raise ValueError(f"label_values is for classes; metric {self.metric.value} reads the label as a number")
        if self.label_values and len(self.label_values) != len(self.labels):
            raise ValueError(f"label_values has {len(self.label_values)} entries, labels has {len(self.labels)}")
        require_distinct(self, "labels", "label_values")
        return self

    def describe(self) -> Task:
        """Return the task as an artifact's header states it."""
        return Task(name=self.name, labels=self.labels, metric=self.metric, text_columns=self.text_columns)
