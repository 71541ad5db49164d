"""Pareto plots of a sweep, as plotly objects: one for every two objectives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import ceil

import plotly.graph_objects as go

from hwsim.exploration.results import Sweep, SweepPoint, written
from hwsim.reporting.figures import Figures, blank_figure

MAX_DRAWN = 2000  # of the points that are beaten; a browser draws no more of them in a moment
# Units at the end of a name: as a reader sees them, and how many of the name's they are.
_UNITS = {"ms": ("ms", 1.0), "pj": ("µJ", 1e-6), "mm2": ("mm²", 1.0), "bytes": ("kB", 1e-3)}
_WIDE = 30.0  # from which ratio of largest to smallest an axis is logarithmic


def pareto(found: Sweep) -> Figures:
    """Return a figure for every two objectives; of a single one, a figure in the order of the points."""
    objectives = list(found.settings.space.objectives)
    pairs: list[tuple[str | None, str]] = [*combinations(objectives, 2)] or [(None, objectives[0])]
    return {"_by_".join(filter(None, pair)).replace(".", "_"): _plot(found, *pair) for pair in pairs}


def quantity(name: str) -> tuple[str, float]:
    """Return a figure's name in words, with the unit that it is shown in, and the factor to that unit."""
    words, _, unit = name.rpartition("_")
    shown, factor = _UNITS.get(unit, ("", 1.0))
    return (f"{words} ({shown})" if shown else name).replace("_", " "), factor


def _plot(found: Sweep, across: str | None, up: str) -> go.Figure:
    on_front = set(found.pareto)
    known = [index for index, point in enumerate(found.points) if _has(point, across, up)]
    groups = {
        "outside the constraints": [index for index in known if not found.points[index].feasible],
        "beaten": [index for index in known if found.points[index].feasible and index not in on_front],
        "on the front": list(found.pareto),
    }
    label_across, to_across = quantity(across) if across else ("point", 1.0)
    label_up, to_up = quantity(up)
    title = f"{label_up} against {label_across}" if across else f"{label_up} of each point"
    figure = blank_figure(title[0].upper() + title[1:])
    markers = {
        "outside the constraints": {"color": "#cccccc", "symbol": "x-thin-open", "size": 6},
        "beaten": {"color": "#9db4c8", "size": 6},
        "on the front": {"color": "#c26a2d", "size": 9},
    }
    for name, members in groups.items():
        drawn = members if name == "on the front" else members[:: max(1, ceil(len(members) / MAX_DRAWN))]
        figure.add_scatter(
            x=[_number(found.points[index], across) * to_across if across else index for index in drawn],
            y=[_number(found.points[index], up) * to_up for index in drawn],
            text=[_described(index, found.points[index]) for index in drawn],
            name=name,
            mode="markers",
            marker=markers[name],
        )
    figure.update_xaxes(title=label_across, type=_scale(found.points, across))
    figure.update_yaxes(title=label_up, type=_scale(found.points, up))
    return figure


def _has(point: SweepPoint, *names: str | None) -> bool:
    return all(name is None or point.figures.get(name) is not None for name in names)


def _number(point: SweepPoint, name: str) -> float:
    value = point.figures[name]
    assert value is not None  # asked of points that have it
    return value


def _described(index: int, point: SweepPoint) -> str:
    return "<br>".join([f"point {index}", *(f"{name} {written(value)}" for name, value in point.design.items())])


def _scale(points: Sequence[SweepPoint], name: str | None) -> str:
    values = (
        [] if name is None else [float(value) for point in points if (value := point.figures.get(name)) is not None]
    )
    wide = bool(values) and min(values) > 0 and max(values) / min(values) > _WIDE
    return "log" if wide else "linear"
