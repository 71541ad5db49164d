"""BERT-base on the processor: ours beside the engines that people use, all in one run.

One command makes the peers' environment and every model, lets the engines take turns on the same tokens, and writes
summary.json and latency.png. Machines drift: only ratios within a run are meant to be quoted.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.inference.engines import (
    ENGINES,
    OURS,
    OURS_SMALLER,
    PEERS,
    PROBED,
    REQUIREMENTS,
    Engine,
    all_cases,
    engines_named,
)
from benchmarks.inference.figures import Turns, bars, by_engine
from benchmarks.inference.report import PLOT_FILE, tables, write_plot
from benchmarks.inference.ternary_model import pack_models, paths_bit_identical
from benchmarks.inference.turns import ROOT, Answer, Place, probe, take_turns
from benchmarks.simulation.environment import make_environment
from benchmarks.simulation.summary import known_figures, merge_summary
from deploy.runtime.machine import machine

HERE = Path(__file__).parent
SUMMARY_FILE = "summary.json"
INT8 = [engine.name for engine in ENGINES if engine.is_int8]
NOT_RUN = "benchmarks.inference.gemm has not been run on this machine"
GEMM_FIGURES = ("gemm_over_int8_peak_vnni", "gemm_over_int8_peak_avx2")


def prepare(folder: Path, engines: Sequence[Engine]) -> list[Place]:
    """Make environment and models in `folder`, what is there already left as it is but ours; return where each runs."""
    models = folder / "models"
    peers = [engine for engine in engines if engine.name in PEERS]
    python = make_environment(folder / "environment", REQUIREMENTS) if peers else Path(sys.executable)
    if peers:
        command = [str(python.absolute()), "-m", "benchmarks.inference.peer_models", str(models.absolute())]
        subprocess.run([*command, *(engine.name for engine in peers)], cwd=ROOT, check=True)
    pack_models(models)
    return [
        Place(engine, python if engine in peers else Path(sys.executable), models / engine.name) for engine in engines
    ]


def probes(places: Sequence[Place], times: int, turn_s: float) -> dict[str, list[Answer]]:
    """Load every model in `times` fresh processes, in turns."""
    found: dict[str, list[Answer]] = {place.engine.name: [] for place in places}
    for index in range(times):
        click.echo(f"load {index + 1} of {times}", err=True)
        for place in places:
            found[place.engine.name].append(probe(place, PROBED, turn_s))
    return found


def about(place: Place, probed: Sequence[Answer]) -> dict[str, object]:
    """Return what an engine takes besides time: MB on disk, MB of memory, seconds to load and to import."""
    return {
        "title": place.engine.title,
        "version": probed[0]["version"],
        "model_mb": sum(file.stat().st_size for file in place.model.rglob("*") if file.is_file()) / 1e6,
        "rss_mb": median(answer["peak_rss_bytes"] for answer in probed) / 1e6,
        "load_s": median(answer["load_s"] for answer in probed),
        "import_s": median(answer["import_s"] for answer in probed),
    }


def difference(logits: Mapping[str, list[list[list[float]]]]) -> dict[str, float]:
    """Return every peer's largest difference of a logit from the float32 model's: whether they run the same network."""
    reference = logits.get("onnxruntime_fp32", [])
    return {
        name: max(
            abs(one - other)
            for batch, exact in zip(found, reference, strict=True)
            for row, exact_row in zip(batch, exact, strict=True)
            for one, other in zip(row, exact_row, strict=True)
        )
        for name, found in logits.items()
        if reference and name in PEERS
    }


def gemm_figures(summary: Path) -> dict[str, object]:
    """Return the product's figures that are there already; `reasons` says why one is none."""
    known = known_figures(summary)
    figures = {name: known.get(name) for name in GEMM_FIGURES}
    given = known.get("reasons", {})
    reasons = {name: given.get(name, NOT_RUN) for name, figure in figures.items() if figure is None}
    return {**figures, "reasons": reasons}


@click.command()
@click.option("--rounds", default=11, show_default=True, help="Turns of every engine at every shape.")
@click.option("--turn-s", default=0.3, show_default=True, help="Seconds of calls that make a turn; at least one call.")
@click.option("--probes", "probed", default=3, show_default=True, help="Fresh processes a model is loaded in.")
@click.option("--environment", type=click.Path(file_okay=False, path_type=Path), default=Path("build/inference"),
              show_default=True, help="Where the peers' environment and all models go.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=HERE, help="Where the results go.")
@click.option("--engine", "names", multiple=True, type=click.Choice(PEERS), help="Only these peers; may be repeated.")
def main(rounds: int, turn_s: float, probed: int, environment: Path, out: Path, names: tuple[str, ...]) -> None:
    """Measure all engines, print the tables, and write summary.json and latency.png."""
    cores = len(os.sched_getaffinity(0))
    engines, cases = engines_named(names), all_cases([1, 2] if cores > 1 else [1])
    load_before = os.getloadavg()[0]
    places = prepare(environment, engines)
    found = probes(places, probed, turn_s)
    told: dict[str, dict[str, Any]] = {place.engine.name: about(place, found[place.engine.name]) for place in places}
    turns, logits = take_turns(places, cases, rounds, turn_s)
    out.mkdir(parents=True, exist_ok=True)
    figures = {
        **bars(turns, INT8),
        **{name: told[OURS][name] for name in ("model_mb", "rss_mb", "load_s")},
        "model_mb_at_1_6_bits": told[OURS_SMALLER]["model_mb"],
        **gemm_figures(out / SUMMARY_FILE),
        "isa_bit_identical": paths_bit_identical(places[0].model, min(cores, 2)),
        "bert_base": by_engine(turns),
        "engines": told,
        "logits_difference_from_fp32": difference(logits),
        "rounds": rounds,
        "turn_s": turn_s,
        "load_average": {"before": load_before, "after": os.getloadavg()[0]},
        "command": shlex.join(["python", "-m", "benchmarks.inference.inference", *sys.argv[1:]]),
    }
    write_results(out, turns, engines, figures)


def write_results(out: Path, turns: Turns, engines: Sequence[Engine], figures: dict[str, Any]) -> None:
    """Print what was found and write it."""
    here = machine()
    click.echo(json.dumps(here) + f"\n{figures['command']}")
    click.echo("\n".join(tables(turns, engines, figures["engines"])))
    shown = {name: value for name, value in figures.items() if name not in {"bert_base", "engines"}}
    click.echo("\n" + json.dumps(shown, indent=2))
    merge_summary(out / SUMMARY_FILE, **figures)
    write_plot(out / PLOT_FILE, turns, engines, here)


if __name__ == "__main__":
    main()
