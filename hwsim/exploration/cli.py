"""The verb `ti-qat sweep`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from hwsim.exploration.evaluation import OnProgress
from hwsim.exploration.figures import pareto
from hwsim.exploration.page import render
from hwsim.exploration.plan import prepare
from hwsim.exploration.results import Sweep, SweepPoint, points_csv, written
from hwsim.exploration.space import Direction
from hwsim.exploration.sweep import sweep as run_sweep
from hwsim.progress import progress_bars
from hwsim.reporting.png_charts import PICTURES_FOLDER, write_pictures
from ti_qat.artifact.atomic import write_whole

JSON_FILE, CSV_FILE, HTML_FILE = "sweep.json", "points.csv", "sweep.html"


def sweep_space(space_file: Path, out_dir: Path, artifact_dir: Path | None = None) -> Sweep:
    """Run the sweep that a file describes, or what is left of it; write its results to `out_dir`.

    Raises ArtifactError, SimulatorError or OutputError.
    """
    plan = prepare(space_file, artifact_dir)
    with _progress() as tell:
        found = run_sweep(plan, out_dir, tell)
    charts = pareto(found)
    write_whole(out_dir / HTML_FILE, render(found, charts))
    write_pictures(out_dir / PICTURES_FOLDER, charts)
    write_whole(out_dir / CSV_FILE, points_csv(found))
    write_whole(out_dir / JSON_FILE, found.as_json())
    return found


@contextmanager
def _progress() -> Iterator[OnProgress]:
    with progress_bars("sweep") as bars:
        tasks = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:  # what is done by now is of an earlier call, and tells nothing of the time left
                tasks[what] = bars.add_task(what, completed=done, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield tell


@click.command(short_help="Evaluate many accelerators; tell which ones nothing beats.")
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
@click.option(
    "--space",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE.toml",
    help="The accelerators to try and what is wanted of them.",
)
@click.option(
    "--out",
    "out_dir",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Where findings are kept; the same command goes on where it was killed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print sweep.json on standard output.")
def sweep(artifact: Path | None, space: Path, out_dir: Path, as_json: bool) -> None:
    """Evaluate the accelerators of a space file: the costs of each, an ARTIFACT's score where it is asked for.

    Without ARTIFACT, costs are those of BERT-base or of the shape that the file describes.

    \b
    Example:
      ti-qat sweep --space examples/design_space/space.toml --out runs/sweep
    """
    try:
        found = sweep_space(space, out_dir, artifact)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; what is found is kept, and the same command goes on") from None
    click.echo(found.as_json() if as_json else _told(found, out_dir), nl=not as_json)


def _told(found: Sweep, out_dir: Path) -> str:
    """Return how many points there are, the best of each objective, and where all of them are."""
    failed = sum(point.failure is not None for point in found.points)
    missed = sum(point.failure is None and not point.feasible for point in found.points)
    points = f"{len(found.points)} points: {len(found.pareto)} on the front"
    lines = [f"{points}, {failed} failed, {missed} outside the constraints"]
    front = [found.points[index] for index in found.pareto]
    for name, direction in found.settings.space.objectives.items():
        if front:
            best = min(front, key=partial(_cost, name, direction))
            design = ", ".join(f"{axis} {written(value)}" for axis, value in best.design.items())
            lines.append(f"best {name}: {best.figures[name]:,.6g} with {design}")
    return "\n".join([*lines, f"page: {out_dir / HTML_FILE}"])


def _cost(name: str, direction: Direction, point: SweepPoint) -> float:
    return direction.cost(float(point.figures[name] or 0))
