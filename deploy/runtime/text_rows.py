"""Texts to classify: the rows of CSV, TSV and JSONL files, or plain lines, each knowing where it comes from.

A file is read as a stream: memory holds the rows of one chunk, however long the file.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from deploy.runtime.classifier import Text

SUFFIXES = (".csv", ".tsv", ".jsonl")

# Where a record is, and its columns.
Record = tuple[str, dict[str, Any]]


class TextFileError(ValueError):
    """Texts that cannot be read, or predictions that cannot be written; names file and line."""


@dataclass(frozen=True)
class TextRow:
    """One row: where it is (for messages), its texts, all its columns, and its share of the work (for progress)."""

    where: str
    text: Text
    columns: Mapping[str, Any]
    size: int = 1


def suffix_of(file: Path) -> str:
    """Return the file's ending, one of SUFFIXES; raise TextFileError for another."""
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise TextFileError(f"{file}: expected a file name that ends in {', '.join(SUFFIXES)}, found {file.name}")
    return suffix


def file_rows(file: Path, text_columns: Sequence[str]) -> Iterator[TextRow]:
    """Yield the rows of a file whose one or two texts are in `text_columns`; blank lines are passed over.

    csv is RFC 4180, tsv has no quoting (a quotation mark is a character like any other), jsonl has one
    object a line; all are UTF-8, with or without a byte order mark. Raises TextFileError with file and
    line for what is anything else, and for a file without rows.
    """
    suffix = suffix_of(file)
    read = {".csv": _csv_records, ".tsv": _tsv_records, ".jsonl": _json_records}[suffix]
    try:
        with file.open("rb") as stream:
            lines = _Lines(file, stream)
            before, found = 0, False
            for where, columns in read(lines, text_columns):
                row = TextRow(where, _text_of(where, columns, text_columns), columns, lines.bytes_read - before)
                before, found = lines.bytes_read, True
                yield row
            if not found:
                raise TextFileError(f"{file}: line {lines.number + 1}: expected a row with texts, found none")
    except OSError as error:
        raise TextFileError(f"{file}: expected a file, found: {error.strerror}") from error


class _Lines:
    """The decoded lines of a file, with their ends; counts lines and bytes."""

    def __init__(self, file: Path, stream: BinaryIO) -> None:
        self.file = file
        self.number = 0
        self.bytes_read = 0
        self._stream = stream

    def at(self, number: int) -> str:
        return f"{self.file}: line {number}"

    def __iter__(self) -> Iterator[str]:
        for number, line in enumerate(self._stream, start=1):
            self.number = number
            self.bytes_read += len(line)
            content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            yield decoded(content, self.at(number))


def decoded(line: bytes, where: str) -> str:
    """Return UTF-8 as text; raise TextFileError with the first byte that is none."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextFileError(f"{where}: expected UTF-8, found {line[error.start]:#04x}") from error


def _csv_records(lines: _Lines, text_columns: Sequence[str]) -> Iterator[Record]:
    return _table(lines, text_columns, _csv_fields(lines))


def _tsv_records(lines: _Lines, text_columns: Sequence[str]) -> Iterator[Record]:
    stripped = (line.removesuffix("\n").removesuffix("\r") for line in lines)
    return _table(lines, text_columns, ((lines.number, line.split("\t")) for line in stripped if line))


def _csv_fields(lines: _Lines) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines, strict=True)
    while True:
        first_line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise TextFileError(f"{lines.at(first_line)}: expected CSV, found: {error}") from error
        if fields:
            yield first_line, fields


def _table(lines: _Lines, text_columns: Sequence[str], records: Iterator[tuple[int, list[str]]]) -> Iterator[Record]:
    number, header = next(records, (1, []))
    if not header:
        raise TextFileError(f"{lines.at(1)}: expected the names of the columns, found an empty file")
    for name in text_columns:
        if name not in header:
            raise TextFileError(f"{lines.at(number)}: expected a column {name!r}, found {', '.join(header)}")
    for name in header:
        if header.count(name) > 1:
            raise TextFileError(f"{lines.at(number)}: expected each column once, found {name!r} twice")
    for number, fields in records:
        if len(fields) != len(header):
            raise TextFileError(f"{lines.at(number)}: expected {len(header)} fields, found {len(fields)}")
        yield lines.at(number), dict(zip(header, fields, strict=True))


def _json_records(lines: _Lines, _text_columns: Sequence[str]) -> Iterator[Record]:
    for line in lines:
        if not line.strip():
            continue
        where = lines.at(lines.number)
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TextFileError(f"{where}: expected one JSON object, found: {error}") from error
        if not isinstance(found, dict):
            raise TextFileError(f"{where}: expected one JSON object, found {line.strip()[:40]}")
        yield where, found


def _text_of(where: str, columns: Mapping[str, Any], text_columns: Sequence[str]) -> Text:
    texts = []
    for name in text_columns:
        if name not in columns:
            raise TextFileError(f"{where}: expected a column {name!r}, found {', '.join(columns) or 'none'}")
        if not isinstance(columns[name], str):
            raise TextFileError(f"{where}: {name}: expected a text, found {columns[name]!r}")
        texts.append(columns[name])
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


def chunks(rows: Iterable[TextRow], size: int) -> Iterator[list[TextRow]]:
    """Yield the rows in lists of `size`, the last one shorter."""
    chunk: list[TextRow] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
