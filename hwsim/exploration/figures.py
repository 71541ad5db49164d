"""Pareto plots of a sweep, as plotly objects: one for every two objectives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import ceil

import plotly.graph_objects as go

from hwsim.exploration.results import Sweep, SweepPoint, written
from hwsim.reporting.figures import Figures, blank_figure

MAX_DRAWN = 2000  # of the points that are beaten; a browser draws no more of them in a moment
_UNITS = {"ms": "ms", "ns": "ns", "pj": "pJ", "mm2": "mm²", "bytes": "bytes", "cycles": "cycles"}
_WIDE = 30.0  # from which ratio of largest to smallest an axis is logarithmic


def pareto(found: Sweep) -> Figures:
    """Return a figure for every two objectives; of a single one, a figure in the order of the points."""
    objectives = list(found.settings.space.objectives)
    pairs: list[tuple[str | None, str]] = [*combinations(objectives, 2)] or [(None, objectives[0])]
    return {"_by_".join(filter(None, pair)).replace(".", "_"): _plot(found, *pair) for pair in pairs}


def quantity(name: str) -> str:
    """Return a figure's name in words, with its unit: energy_pj is energy (pJ)."""
    words, _, unit = name.rpartition("_")
    return f"{words} ({_UNITS[unit]})".replace("_", " ") if words and unit in _UNITS else name.replace("_", " ")


def _plot(found: Sweep, across: str | None, up: str) -> go.Figure:
    on_front = set(found.pareto)
    known = [index for index, point in enumerate(found.points) if _has(point, across, up)]
    groups = {
        "outside the constraints": [index for index in known if not found.points[index].feasible],
        "beaten": [index for index in known if found.points[index].feasible and index not in on_front],
        "on the front": list(found.pareto),
    }
    title = f"{quantity(up)} against {quantity(across)}" if across else f"{quantity(up)} of each point"
    figure = blank_figure(title[0].upper() + title[1:])
    markers = {
        "outside the constraints": {"color": "#cccccc", "symbol": "x-thin-open", "size": 6},
        "beaten": {"color": "#9db4c8", "size": 6},
        "on the front": {"color": "#c26a2d", "size": 9},
    }
    for name, members in groups.items():
        drawn = members if name == "on the front" else members[:: max(1, ceil(len(members) / MAX_DRAWN))]
        figure.add_scatter(
            x=[found.points[index].figures[across] if across else index for index in drawn],
            y=[found.points[index].figures[up] for index in drawn],
            text=[_described(index, found.points[index]) for index in drawn],
            name=name,
            mode="markers",
            marker=markers[name],
        )
    figure.update_xaxes(title=quantity(across) if across else "point", type=_scale(found.points, across))
    figure.update_yaxes(title=quantity(up), type=_scale(found.points, up))
    return figure


def _has(point: SweepPoint, *names: str | None) -> bool:
    return all(name is None or point.figures.get(name) is not None for name in names)


def _described(index: int, point: SweepPoint) -> str:
    return "<br>".join([f"point {index}", *(f"{name} {written(value)}" for name, value in point.design.items())])


def _scale(points: Sequence[SweepPoint], name: str | None) -> str:
    values = (
        [] if name is None else [float(value) for point in points if (value := point.figures.get(name)) is not None]
    )
    wide = bool(values) and min(values) > 0 and max(values) / min(values) > _WIDE
    return "log" if wide else "linear"
