"""What a sweep found: sweep.json and points.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Literal

from hwsim.exploration.axes import Value
from hwsim.exploration.costs import Figure
from hwsim.exploration.pareto import pareto_front
from hwsim.exploration.plan import Settings
from hwsim.exploration.point_log import Point
from hwsim.exploration.space import Guided
from ti_qat.artifact.schema import Frozen


class SweepPoint(Frozen):
    """One design and its figures; `feasible` where it failed nowhere and keeps all constraints."""

    design: dict[str, Value]
    figures: dict[str, Figure]
    failure: str | None
    feasible: bool


class Sweep(Frozen):
    """The content of sweep.json, the same on every machine.

    `points` are in the order in which they were first tried, `pareto` indexes of those that nothing beats, and
    `trials` the index of the point of every trial of a guided search, which may ask for one twice.
    """

    schema_version: Literal[1] = 1
    settings: Settings
    points: tuple[SweepPoint, ...]
    pareto: tuple[int, ...]
    trials: tuple[int, ...] | None
    value_simulations: int

    def as_json(self) -> str:
        """Return the file's text; who evaluated is not told."""
        excluded = {"settings": {"space": {"workers"}}}
        return self.model_dump_json(by_alias=True, exclude=excluded, indent=2) + "\n"


def summarise(settings: Settings, tried: Sequence[Point], value_simulations: int) -> Sweep:
    """Return what is known once all designs are tried; a point counts once, however often it was."""
    space = settings.space
    first_tried = {point.key: point for point in tried}
    number = {key: index for index, key in enumerate(first_tried)}
    points = tuple(
        SweepPoint(
            design=point.design,
            figures=point.figures,
            failure=point.failure,
            feasible=point.failure is None and all(limit.violation(point.figures) == 0 for limit in space.limits),
        )
        for point in first_tried.values()
    )
    front = pareto_front([point.figures if point.feasible else None for point in points], space.objectives)
    trials = tuple(number[point.key] for point in tried) if isinstance(space.strategy, Guided) else None
    return Sweep(
        settings=settings, points=points, pareto=tuple(front), trials=trials, value_simulations=value_simulations
    )


def points_csv(found: Sweep) -> str:
    """Return a row for every point: where it stands, the axes' values, the figures."""
    axes = list(found.settings.space.axes)
    figures = list(dict.fromkeys(name for point in found.points for name in point.figures))
    text, front = io.StringIO(), set(found.pareto)
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["point", "pareto", "feasible", "failure", *(f"axes.{name}" for name in axes), *figures])
    for index, point in enumerate(found.points):
        values = [point.design[name] for name in axes]
        row = [index, index in front, point.feasible, point.failure, *map(written, values)]
        table.writerow([*row, *(point.figures.get(name) for name in figures)])
    return text.getvalue()


def written(value: Value) -> str:
    """Return a value of an axis as one text."""
    return " ".join(value) if isinstance(value, tuple) else str(value)
