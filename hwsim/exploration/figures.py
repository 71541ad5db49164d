"""Pareto plots of a sweep, as charts: one for every two objectives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import ceil

from hwsim.exploration.results import Sweep, SweepPoint, written
from hwsim.reporting.charts import PALETTE, Axis, Curve, Curves, Symbol

MAX_DRAWN = 2000  # of the points that are beaten; a browser draws no more of them in a moment
# Units at the end of a name: as a reader sees them, and how many of the name's they are.
_UNITS = {"ms": ("ms", 1.0), "pj": ("µJ", 1e-6), "mm2": ("mm²", 1.0), "bytes": ("kB", 1e-3)}
_GROUPS: dict[str, tuple[Symbol, str]] = {
    "outside the constraints": ("x", "#999999"),
    "beaten": ("circle", PALETTE[4]),
    "on the front": ("diamond", PALETTE[5]),
}
_WIDE = 30.0  # from which ratio of largest to smallest an axis is logarithmic


def pareto(found: Sweep) -> tuple[Curves, ...]:
    """Return a figure for every two objectives; of a single one, a figure in the order of the points."""
    objectives = list(found.settings.space.objectives)
    pairs: list[tuple[str | None, str]] = [*combinations(objectives, 2)] or [(None, objectives[0])]
    return tuple(_plot(found, *pair) for pair in pairs)


def quantity(name: str) -> tuple[str, float]:
    """Return a figure's name in words, with the unit that it is shown in, and the factor to that unit."""
    words, _, unit = name.rpartition("_")
    shown, factor = _UNITS.get(unit, ("", 1.0))
    return (f"{words} ({shown})" if shown else name).replace("_", " "), factor


def _plot(found: Sweep, across: str | None, up: str) -> Curves:
    label_across, _ = quantity(across) if across else ("point", 1.0)
    label_up, _ = quantity(up)
    title = f"{label_up} against {label_across}" if across else f"{label_up} of each point"
    return Curves(
        name="_by_".join(filter(None, (across, up))).replace(".", "_"),
        title=title[0].upper() + title[1:],
        caption="Each mark is a design. Those on the front are beaten by no other: none is at least as good in every "
        "objective, also in those of other figures, and better in one.",
        x_axis=Axis(label_across, log=_is_wide(found.points, across)),
        y_axis=Axis(label_up, log=_is_wide(found.points, up)),
        curves=tuple(_marks(found, name, members, across, up) for name, members in _groups(found, across, up).items()),
    )


def _groups(found: Sweep, across: str | None, up: str) -> dict[str, list[int]]:
    """Return the points that have both figures, by where they stand."""
    on_front = set(found.pareto)
    known = [index for index, point in enumerate(found.points) if _has(point, across, up)]
    outside, beaten, front = _GROUPS
    return {
        outside: [index for index in known if not found.points[index].feasible],
        beaten: [index for index in known if found.points[index].feasible and index not in on_front],
        front: list(found.pareto),
    }


def _marks(found: Sweep, name: str, members: Sequence[int], across: str | None, up: str) -> Curve:
    symbol, colour = _GROUPS[name]
    drawn = members if name == "on the front" else members[:: max(1, ceil(len(members) / MAX_DRAWN))]
    to_across = quantity(across)[1] if across else 1.0
    to_up = quantity(up)[1]
    return Curve(
        name,
        tuple(_number(found.points[index], across) * to_across if across else index for index in drawn),
        tuple(_number(found.points[index], up) * to_up for index in drawn),
        lines=False,
        symbol=symbol,
        labels=tuple(_described(index, found.points[index]) for index in drawn),
        colour=colour,
    )


def _has(point: SweepPoint, *names: str | None) -> bool:
    return all(name is None or point.figures.get(name) is not None for name in names)


def _number(point: SweepPoint, name: str) -> float:
    value = point.figures[name]
    assert value is not None  # asked of points that have it
    return value


def _described(index: int, point: SweepPoint) -> str:
    return "\n".join([f"point {index}", *(f"{name} {written(value)}" for name, value in point.design.items())])


def _is_wide(points: Sequence[SweepPoint], name: str | None) -> bool:
    values = (
        [] if name is None else [float(value) for point in points if (value := point.figures.get(name)) is not None]
    )
    return bool(values) and min(values) > 0 and max(values) / min(values) > _WIDE
