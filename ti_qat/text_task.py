"""What a text classification task is: where its texts and labels lie, and how a task file says so."""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ti_qat.artifact.schema import Metric, Task
from ti_qat.errors import TaskError


class DataFormat(StrEnum):
    """How rows are written: tabs without quoting, RFC 4180, or one JSON object a line."""

    TSV = "tsv"
    CSV = "csv"
    JSONL = "jsonl"


def label_text(value: object) -> str:
    """Return a label as text: JSON's and TOML's whole numbers and booleans as those languages write them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    raise ValueError("expected a string, a whole number or a boolean")


def _file_name(part: str, hub_split: str, data: dict[str, Any]) -> str:
    if data.get("hub"):
        return f"{hub_split}.jsonl"
    return f"{part}.{data.get('format') or DataFormat.TSV}"


def _folder(data: dict[str, Any]) -> str:
    parts = [data.get("hub") or "", data.get("hub_config") or ""]
    return "--".join(part.strip("/").replace("/", "--") for part in parts if part)


class TextTask(BaseModel):
    """How a data set becomes texts and labels; docs/tasks.md describes every field.

    `labels[i]` names class i; `label_values[i]` is how class i is written in the file (the name itself
    unless given). `header` names the columns of files that have no header line. `folder` is looked up
    inside the data folder and skipped where the files lie in the data folder itself. With `hub`, a
    file's stem is the split that it is a copy of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    text_columns: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]
    label_column: str
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    metric: Metric
    label_values: tuple[Annotated[str, BeforeValidator(label_text)], ...] = ()
    header: tuple[str, ...] = ()
    format: DataFormat | None = None
    skip_malformed: bool = False
    hub: str = ""
    hub_config: str = ""
    folder: str = Field(default_factory=_folder)
    train_file: str = Field(default_factory=lambda data: _file_name("train", "train", data))
    dev_file: str = Field(default_factory=lambda data: _file_name("dev", "validation", data))

    @model_validator(mode="after")
    def _consistent_labels(self) -> Self:
        if self.label_values and len(self.label_values) != len(self.labels):
            raise ValueError(f"label_values has {len(self.label_values)} entries, labels has {len(self.labels)}")
        for field in ("labels", "label_values", "header"):
            values = getattr(self, field)
            if len(set(values)) != len(values):
                raise ValueError(f"{field} names {next(v for v in values if values.count(v) > 1)!r} twice")
        for column in (*self.text_columns, self.label_column):
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
        if self.format is not None:
            return self.format
        ending = Path(file_name).suffix.removeprefix(".").lower()
        if ending not in set(DataFormat):
            raise ValueError(f"{file_name}: expected an ending .tsv, .csv or .jsonl, or the field format")
        return DataFormat(ending)

    def describe(self) -> Task:
        """Return the task as an artifact's header states it."""
        return Task(name=self.name, labels=self.labels, metric=self.metric)


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
        field = ".".join(str(part) for part in first["loc"])
        # A rule over several fields names them itself; its input is the whole file.
        where = f"{field}: {first['msg']}, found {first['input']!r}" if field else first["msg"]
        raise TaskError(f"{file}: {where}") from error
