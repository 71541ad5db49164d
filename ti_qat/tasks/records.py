"""Reads the rows of TSV, CSV and JSONL files, each with the line it starts on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ti_qat.errors import TaskError
from ti_qat.tasks.text_task import DataFormat, RowFiles, TextTask, label_text, number_text


class Record(NamedTuple):
    """One row: its first line (from 1), its texts in the task's order, its label as the file writes it, or ""."""

    line: int
    texts: tuple[str, ...]
    label: str


@dataclass(frozen=True)
class Records:
    """The rows of a file, and the lines of those that were left out as malformed."""

    rows: list[Record]
    skipped_lines: tuple[int, ...] = ()


def read_records(task: RowFiles, file: Path) -> Records:
    """Return the rows of `file`, UTF-8 with or without byte order mark. Raises `TaskError` with file and line."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TaskError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        # error.object is the content behind a byte order mark, from where error.start counts.
        line = error.object.count(b"\n", 0, error.start) + 1
        raise TaskError(f"{file}: line {line}: expected UTF-8: {error.reason}") from error
    try:
        data_format = task.format_of(file.name)
    except ValueError as error:
        raise TaskError(f"{file}: {error}") from error
    if data_format is DataFormat.TXT:
        return Records([Record(line, (content,), "") for line, content in _lines(text)])
    if data_format is DataFormat.JSONL:
        return Records([_record(task, file, line, fields) for line, fields in _json_objects(file, text)])
    return _table(task, file, _csv_lines(file, text) if data_format is DataFormat.CSV else _tsv_lines(text))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    # Not str.splitlines: U+2028 and its like are characters of a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if stripped := line.removesuffix("\r"):
            yield number, stripped


def _tsv_lines(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in _lines(text):
        yield number, line.split("\t")


def _csv_lines(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        first_line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise TaskError(f"{file}: line {first_line}: expected CSV: {error}") from error
        if fields:
            yield first_line, fields


def _table(task: RowFiles, file: Path, lines: Iterator[tuple[int, list[str]]]) -> Records:
    header = list(task.header) or next(lines, (0, []))[1]
    columns = task.columns
    for column in columns.names:
        if column not in header:
            raise TaskError(f"{file}: expected a column '{column}', found {', '.join(header) or 'no columns'}")
        if header.count(column) > 1:
            raise TaskError(f"{file}: expected one column '{column}', found {header.count(column)}")
    indices = [header.index(column) for column in columns.texts]
    label_index = None if columns.label is None else header.index(columns.label)
    rows, skipped = [], []
    for line, fields in lines:
        if len(fields) == len(header):
            label = "" if label_index is None else fields[label_index]
            rows.append(Record(line, tuple(fields[index] for index in indices), label))
        elif task.skip_malformed:
            skipped.append(line)
        else:
            raise TaskError(f"{file}: line {line}: expected {len(header)} fields, found {len(fields)}")
    return Records(rows, tuple(skipped))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field is there twice")
    return fields


def _json_objects(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(text):
        try:
            fields = json.loads(line, object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            raise TaskError(f"{file}: line {number}: expected a JSON object: {error}") from error
        if not isinstance(fields, dict):
            raise TaskError(f"{file}: line {number}: expected a JSON object, found {type(fields).__name__}")
        yield number, fields


def _record(task: RowFiles, file: Path, line: int, fields: dict[str, Any]) -> Record:
    for column in task.columns.names:
        if column not in fields:
            found = ", ".join(fields) or "no fields"
            raise TaskError(f"{file}: line {line}: expected a field '{column}', found {found}")
    for column in task.columns.texts:
        if not isinstance(fields[column], str):
            raise TaskError(f"{file}: line {line}: {column}: expected a string, found {json.dumps(fields[column])}")
    label = _label(task, file, line, fields) if isinstance(task, TextTask) else ""
    return Record(line, tuple(fields[column] for column in task.columns.texts), label)


def _label(task: TextTask, file: Path, line: int, fields: dict[str, Any]) -> str:
    as_text = number_text if task.metric.is_regression else label_text
    try:
        return as_text(fields[task.label_column])
    except ValueError as error:
        found = json.dumps(fields[task.label_column])
        raise TaskError(f"{file}: line {line}: {task.label_column}: {error}, found {found}") from error
