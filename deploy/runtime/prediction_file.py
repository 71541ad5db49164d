"""Predictions as a file beside the columns they were made of: CSV, TSV or JSONL, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from deploy.runtime.classifier import Prediction
from deploy.runtime.text_rows import TextFileError, TextRow, suffix_of

LABEL, SCORE, SCORES = "predicted_label", "predicted_score", "predicted_scores"

WriteRow = Callable[[TextRow, Prediction], None]


def require_writable(file: Path, source: Path | None) -> None:
    """Raise TextFileError unless `file` has a known ending, a folder to be in, and is neither a folder nor `source`."""
    suffix_of(file)
    if file.is_dir() or not file.parent.is_dir():
        what = "a folder of that name" if file.is_dir() else f"no folder {file.parent}"
        raise TextFileError(f"{file}: expected a place for a file, found {what}")
    if source is not None and file.exists() and source.exists() and file.samefile(source):
        raise TextFileError(f"{file}: expected another file than the input, found the input")


@contextmanager
def prediction_file(file: Path, *, is_regression: bool, top_k: int | None) -> Iterator[WriteRow]:
    """Yield a function that writes a row with its prediction; the file appears when the block ends without an error.

    Rows keep all their columns. CSV and TSV gain `predicted_label` and `predicted_score`, and for the
    second of `top_k` labels and on `predicted_label_2`, `predicted_score_2`, ...; JSONL gains
    `predicted_scores` in their place. A regression has `predicted_score` alone. Raises TextFileError for
    columns of these names, and for what the format cannot hold.
    """
    fresh = file.with_name(f".{file.name}.new")
    try:
        with fresh.open("w", encoding="utf-8", newline="") as stream:
            yield _writer(file, stream, is_regression, top_k)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)
    except OSError as error:
        raise TextFileError(f"{file}: expected a place to write, found: {error.strerror}") from error
    finally:
        fresh.unlink(missing_ok=True)


def _writer(file: Path, stream: TextIO, is_regression: bool, top_k: int | None) -> WriteRow:
    suffix = suffix_of(file)
    header: list[str] = []

    def write(row: TextRow, prediction: Prediction) -> None:
        told = _told(prediction, is_regression, None if suffix == ".jsonl" else top_k or 1)
        for name in told:
            if name in row.columns:
                raise TextFileError(f"{row.where}: expected no column {name!r}, which the predictions take, found one")
        values = {**row.columns, **told}
        if suffix == ".jsonl":
            stream.write(json.dumps(values, ensure_ascii=False) + "\n")
            return
        if not header:
            header.extend(values)
            stream.write(_line(suffix, row.where, header))
        if list(values) != header:
            raise TextFileError(f"{row.where}: expected the columns of the first row, found {', '.join(row.columns)}")
        stream.write(_line(suffix, row.where, [_cell(value) for value in values.values()]))

    return write


def _told(prediction: Prediction, is_regression: bool, ranks: int | None) -> Mapping[str, Any]:
    """Return what is told of a prediction: `ranks` flat pairs of columns, or all scores as one object."""
    if is_regression:
        return {SCORE: prediction.score}
    told = {LABEL: prediction.label, SCORE: prediction.score}
    if ranks is None:
        return {**told, SCORES: dict(prediction.scores)}
    for rank, (label, score) in enumerate(list(prediction.scores.items())[1:ranks] if ranks > 1 else [], start=2):
        told |= {f"{LABEL}_{rank}": label, f"{SCORE}_{rank}": score}
    return told


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _line(suffix: str, where: str, fields: list[str]) -> str:
    if suffix == ".csv":
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(fields)
        return line.getvalue()
    for field in fields:
        if set(field) & {"\t", "\n", "\r"}:
            raise TextFileError(f"{where}: expected no tab or line break, which .tsv cannot hold, found {field[:40]!r}")
    return "\t".join(fields) + "\n"
