"""What is told of a run: tables for a reader, and the plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.inference.engines import OURS, Case, Engine
from benchmarks.inference.figures import Turns, ratio, spread, wall
from hwsim.reporting.charts import Axis, Curve, Curves
from hwsim.reporting.png_charts import write_png

PLOT_FILE = "latency.png"


def tables(turns: Turns, engines: Sequence[Engine], told: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield lines: medians with quartiles and our time over each engine's, by threads; then files, memory and load."""
    for threads in sorted({case.threads for case in turns[OURS]}):
        cases = [case for case in turns[OURS] if case.threads == threads]
        yield f"\n{threads} thread{'s' * (threads > 1)}, ms: median, half the quartiles' distance, ours over it"
        yield f"{'':22s}" + "".join(f"{case.shape:>20s}" for case in cases)
        for engine in engines:
            yield f"{engine.title:22s}" + "".join(f"{_cell(turns, engine.name, case):>20s}" for case in cases)
    yield f"\n{'':22s}{'model MB':>10s}{'peak MB':>10s}{'load s':>10s}{'import s':>10s}"
    for engine in engines:
        about = told[engine.name]
        yield (
            f"{engine.title:22s}{about['model_mb']:10.1f}{about['rss_mb']:10.1f}"
            f"{about['load_s']:10.2f}{about['import_s']:10.2f}"
        )


def _cell(turns: Turns, engine: str, case: Case) -> str:
    found = spread([wall(turn) for turn in turns[engine][case]])
    over = ratio(turns, OURS, engine, case)["median"]
    half = (found["upper_quartile"] - found["lower_quartile"]) / 2 / found["median"]
    return f"{found['median']:.1f} {half:4.0%} {over:5.2f}"


def write_plot(file: Path, turns: Turns, engines: Sequence[Engine], machine: Mapping[str, Any]) -> None:
    """Draw milliseconds over tokens, batch 1, one thread."""
    cases = sorted(case for case in turns[OURS] if case.threads == 1 and case.batch == 1)
    curves = tuple(
        Curve(
            engine.title,
            tuple(float(case.tokens) for case in cases),
            tuple(spread([wall(turn) for turn in turns[engine.name][case]])["median"] for case in cases),
            symbol="circle",
        )
        for engine in engines
    )
    write_png(
        file,
        Curves(
            name="latency",
            title=f"BERT-base, batch 1, one thread, {machine['processor']}",
            caption="Median over the rounds of one run in which the engines take turns.",
            x_axis=Axis("tokens", log=True),
            y_axis=Axis("milliseconds", log=True),
            curves=curves,
        ),
    )
