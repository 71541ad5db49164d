"""The verbs of a device: `ti-qat predict` and `ti-qat bench`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from deploy.bundle import Bundle
from deploy.runtime.benchmark import benchmark
from deploy.runtime.classifier import Classifier, Prediction, Text, TextError
from deploy.runtime.session import ISAS

CHUNK = 256

_bundle = click.argument("bundle", type=click.Path(path_type=Path))
_threads = click.option("--threads", type=click.IntRange(min=1), help="Threads of the operators (default: all cores).")
_isa = click.option("--isa", type=click.Choice(ISAS), help="Force an instruction set (default: $TI_QAT_ISA, the best).")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command(short_help="Classify texts with a bundle.")
@_bundle
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--pairs", is_flag=True, help="Every text is two with a tab between them (implied by a model of pairs).")
@_threads
@_isa
@_json
def predict(
    bundle: Path, texts: tuple[str, ...], pairs: bool, threads: int | None, isa: str | None, as_json: bool
) -> None:
    """Classify texts, or the lines of standard input where none is given.

    A line has label, probability and text; of a regression the number's name, the number and the text.
    A model of pairs takes two texts with a tab between them.

    \b
    Example:
      ti-qat predict runs/movie_reviews/bundle "a fine film" "dull and far too long"
    """
    classifier = Classifier.load(bundle, threads=threads, isa=isa)
    lines = texts or _standard_input()
    inputs = _inputs(classifier.bundle, lines, pairs)
    predictions: list[Prediction] = []
    # Progress only where someone waits: many lines, and standard error is a terminal.
    with click.progressbar(
        range(0, len(inputs), CHUNK), label="predict", file=sys.stderr, hidden=len(inputs) <= CHUNK
    ) as starts:
        for start in starts:
            predictions += classifier(inputs[start : start + CHUNK])
    if as_json:
        rows = [{"text": line, **asdict(found)} for line, found in zip(lines, predictions, strict=True)]
        click.echo(json.dumps({"predictions": rows}))
        return
    for line, found in zip(lines, predictions, strict=True):
        click.echo(f"{found.label}\t{found.score:.4f}\t{line}")


def _standard_input() -> tuple[str, ...]:
    lines = []
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            lines.append(line.decode("utf-8").rstrip("\r\n"))
        except UnicodeDecodeError as error:
            raise TextError(f"standard input: line {number}: expected UTF-8, found {line[error.start]:#04x}") from error
    return tuple(lines)


def _inputs(bundle: Bundle, lines: Sequence[str], pairs: bool) -> list[Text]:
    """Return the lines as what the model takes; `pairs` decides only where the bundle does not say."""
    columns = bundle.manifest.text_columns or ()
    if pairs and len(columns) == 1:
        raise TextError(f"{bundle.path}: expected one text a line ({columns[0]}) and no --pairs, found --pairs")
    if not pairs and len(columns) < 2:
        return list(lines)
    named = f" ({', '.join(columns)})" if columns else ""
    return [_pair(f"text {number}: expected two texts{named}", line) for number, line in enumerate(lines, start=1)]


def _pair(expectation: str, line: str) -> Text:
    first, tab, second = line.partition("\t")
    if not tab:
        raise TextError(f"{expectation} with a tab between them, found no tab")
    return first, second


@click.command(short_help="Measure a bundle's latency on this machine.")
@_bundle
@_threads
@_isa
@click.option("--seq-len", type=click.IntRange(min=1), help="Tokens a sequence (default: the bundle's max_length).")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Sequences a call.")
@click.option("--calls", type=click.IntRange(min=1), default=100, show_default=True, help="Calls to time.")
@_json
def bench(
    bundle: Path, threads: int | None, isa: str | None, seq_len: int | None, batch: int, calls: int, as_json: bool
) -> None:
    """Time a bundle: latency percentiles, throughput, peak memory, and the machine they hold for.

    \b
    Example:
      ti-qat bench runs/movie_reviews/bundle --threads 2 --seq-len 64 --batch 8
    """
    result = benchmark(bundle, threads=threads, isa=isa, seq_len=seq_len, batch=batch, calls=calls)
    if as_json:
        click.echo(json.dumps(asdict(result)))
        return
    click.echo(f"{result.machine['processor']}, {result.machine['cores']} cores, kernels {result.isa}")
    click.echo(f"{batch} x {result.seq_len} tokens, {calls} calls, threads {threads or 'all'}")
    click.echo(
        f"latency p50 {result.latency_ms_p50:.2f} ms, p90 {result.latency_ms_p90:.2f} ms, "
        f"p99 {result.latency_ms_p99:.2f} ms"
    )
    click.echo(f"{result.sequences_per_second:.1f} sequences/s, {result.tokens_per_second:.0f} tokens/s")
    click.echo(f"peak memory {result.peak_rss_bytes / 1e6:.0f} MB, bundle {result.bundle_bytes / 1e6:.2f} MB")
