"""The verb `ti-qat predict`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from deploy.runtime.classifier import Classifier, Prediction, Text, TextError
from deploy.runtime.options import bundle_argument, isa_option, json_option, threads_option
from deploy.runtime.prediction_file import prediction_file, require_writable
from deploy.runtime.text_rows import TextFileError, TextRow, chunks, decoded, file_rows, suffix_of

# Rows that are sorted by length together.
CHUNK_BATCHES = 8

Predicted = Iterator[tuple[TextRow, Prediction]]


def _names(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = tuple(value.split(","))
    if not all(names) or len(names) > 2:
        raise click.BadParameter(f"expected one column name, or two with a comma between them, found {value!r}")
    return names


@click.command(short_help="Classify texts with a bundle.")
@bundle_argument
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--input", "source", type=click.Path(path_type=Path), help="Rows of a .csv, .tsv or .jsonl file.")
@click.option("--columns", callback=_names, metavar="A[,B]", help="Text columns of --input (default: the bundle's).")
@click.option("--output", type=click.Path(path_type=Path), help="A .csv, .tsv or .jsonl file to write.")
@click.option("--pairs", is_flag=True, help="Every text is two with a tab between them (implied by a model of pairs).")
@click.option("--top-k", type=click.IntRange(min=1), help="Tell this many labels, the most probable first.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Texts of one run.")
@threads_option
@isa_option
@json_option
def predict(
    bundle: Path,
    texts: tuple[str, ...],
    source: Path | None,
    columns: tuple[str, ...] | None,
    output: Path | None,
    pairs: bool,
    top_k: int | None,
    batch_size: int,
    threads: int | None,
    isa: str | None,
    as_json: bool,
) -> None:
    """Classify texts, the rows of a file, or the lines of standard input where neither is given.

    A line has label, probability and text, with --top-k several labels; of a regression the number's name,
    the number and the text. A model of pairs takes two texts with a tab between them. With --output every
    row keeps its columns and gains predicted_label and predicted_score.

    \b
    Example:
      ti-qat predict runs/movie_reviews/bundle "a fine film" "dull and far too long"
      ti-qat predict runs/movie_reviews/bundle --input reviews.csv --columns text --output labelled.csv
    """
    _require_possible(texts, source, columns, output, pairs)
    with Classifier.load(bundle, threads=threads, isa=isa) as classifier:
        if source is None:
            lines = [_from_line(classifier, pairs, *numbered) for numbered in enumerate(texts or _standard_input(), 1)]
            rows, length = iter(lines), len(lines)
        else:
            rows = file_rows(source, _text_columns(classifier, columns))
            length = source.stat().st_size if source.exists() else 0
        with _progress(length) as bar:
            predicted = _predicted(classifier, rows, batch_size, top_k, bar)
            if output is None:
                _print(list(predicted), top_k, as_json)
                return
            count = _write(output, predicted, classifier.bundle.manifest.is_regression, top_k)
    click.echo(json.dumps({"output": str(output), "rows": count}) if as_json else f"{output}: {count:,} rows")


def _require_possible(
    texts: tuple[str, ...], source: Path | None, columns: tuple[str, ...] | None, output: Path | None, pairs: bool
) -> None:
    """Raise what a user should read before the model is opened, which takes a while."""
    if source is not None and (texts or pairs):
        raise click.UsageError(f"expected texts from --input alone, found {'TEXT' if texts else '--pairs'} too")
    if source is None and columns is not None:
        raise click.UsageError("expected --input with --columns, found no --input")
    for file in filter(None, (source, output)):
        suffix_of(file)
    if output is not None:
        require_writable(output, source)


def _progress(length: int) -> Any:
    """Return a progress bar with the time left, on a terminal where someone waits."""
    return click.progressbar(length=length, label="predict", file=sys.stderr, hidden=not sys.stderr.isatty())


def _predicted(
    classifier: Classifier, rows: Iterable[TextRow], batch_size: int, top_k: int | None, bar: Any
) -> Predicted:
    for chunk in chunks(rows, CHUNK_BATCHES * batch_size):
        try:
            found = classifier([row.text for row in chunk], batch_size=batch_size, top_k=top_k)
        except TextError as error:
            raise TextFileError(f"{chunk[error.index].where}: {error.reason}") from error
        yield from zip(chunk, found, strict=True)
        bar.update(sum(row.size for row in chunk))


def _standard_input() -> tuple[str, ...]:
    lines = enumerate(sys.stdin.buffer, start=1)
    return tuple(decoded(line, f"standard input: line {number}").rstrip("\r\n") for number, line in lines)


def _from_line(classifier: Classifier, pairs: bool, number: int, line: str) -> TextRow:
    """Return a line as what the model takes; `pairs` decides only where the bundle does not say."""
    bundle, where = classifier.bundle, f"text {number}"
    columns = bundle.manifest.text_columns or ()
    if pairs and len(columns) == 1:
        raise TextFileError(f"{bundle.path}: expected one text a line ({columns[0]}) and no --pairs, found --pairs")
    if not pairs and len(columns) < 2:
        return TextRow(where, line, {columns[0] if columns else "text": line})
    first, tab, second = line.partition("\t")
    if not tab:
        named = f" ({', '.join(columns)})" if columns else ""
        raise TextFileError(f"{where}: expected two texts{named} with a tab between them, found no tab")
    return TextRow(where, (first, second), dict(zip(columns or ("text", "second_text"), (first, second), strict=True)))


def _text_columns(classifier: Classifier, columns: tuple[str, ...] | None) -> Sequence[str]:
    of_bundle = classifier.bundle.manifest.text_columns
    if columns is None and of_bundle is None:
        raise TextFileError(f"{classifier.bundle.path}: expected --columns, as the bundle names no text columns")
    if columns is not None and of_bundle is not None and len(columns) != len(of_bundle):
        expected = f"{len(of_bundle)} ({', '.join(of_bundle)} in training)"
        raise TextFileError(f"--columns: expected {expected}, found {len(columns)}")
    return columns or of_bundle or ()


def _joined(text: Text) -> str:
    """Return the texts of a row on one line."""
    return text if isinstance(text, str) else "\t".join(text)


def _print(predicted: list[tuple[TextRow, Prediction]], top_k: int | None, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"predictions": [{"text": _joined(r.text), **asdict(found)} for r, found in predicted]}))
        return
    for row, found in predicted:
        ranked = found.scores.items() if top_k is not None else [(found.label, found.score)]
        told = "\t".join(f"{label}\t{score:.4f}" for label, score in ranked)
        click.echo(f"{told}\t{' '.join(_joined(row.text).splitlines())}")


def _write(output: Path, predicted: Predicted, is_regression: bool, top_k: int | None) -> int:
    count = 0
    with prediction_file(output, is_regression=is_regression, top_k=top_k) as write:
        for row, found in predicted:
            write(row, found)
            count += 1
    return count
