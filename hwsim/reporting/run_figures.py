"""The figures of a run beside its simulation's: training curves and the time of each stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from hwsim.reporting.charts import Axis, Band, Bars, Chart, Curve, Curves, Series, readable

if TYPE_CHECKING:
    from hwsim.reporting.report import TrainingPoint

_LOSSES = {
    "loss": "whole loss",
    "loss_hidden": "hidden states",
    "loss_attention_scores": "attention scores",
    "loss_attention_map": "attention map",
    "loss_attention_output": "attention output",
    "loss_logits": "logits",
    "loss_labels": "labels",
}
# Where the teacher steps in, as the paper calls it, and the colour of that stretch of steps.
_INTERVENTIONS = {
    "output": ("TI-O", "#e8eef7"),
    "context": ("TI-C", "#f7efe0"),
    "attention_map": ("TI-M", "#e7f3e8"),
    "stochastic": ("TI at random", "#f0eaf5"),
}


def training(curves: Mapping[str, Sequence[TrainingPoint]]) -> tuple[Curves, ...]:
    """Return one figure for every model that has a curve: losses, score, phases of intervention."""
    return tuple(_curve(name, points) for name, points in curves.items() if points)


def _curve(name: str, points: Sequence[TrainingPoint]) -> Curves:
    curves = []
    for attribute, label in _LOSSES.items():
        seen = [(point.step, value) for point in points if (value := getattr(point, attribute)) is not None]
        if seen:
            steps, losses = zip(*seen, strict=True)
            curves.append(Curve(label, steps, losses))
    scores = [(point.step, point.score) for point in points if point.score is not None]
    if scores:
        steps, values = zip(*scores, strict=True)
        curves.append(Curve("score (right axis)", steps, values, symbol="circle", right_axis=True, colour="#000000"))
    return Curves(
        name=f"{name}_training",
        title=f"Training of the {name}",
        caption="Losses of each step on the left axis, the score on the evaluation split on the right one. Shades are "
        "phases of the teacher's intervention (TI).",
        x_axis=Axis("step"),
        y_axis=Axis("loss", log=True),
        right_axis=Axis("score") if scores else None,
        curves=tuple(curves),
        bands=tuple(_interventions(points)),
    )


def _interventions(points: Sequence[TrainingPoint]) -> Iterator[Band]:
    """Return the stretches of steps with a teacher's intervention."""
    told = [point for point in points if point.intervention is not None]
    start = 0
    for phase, members in groupby(told, key=lambda point: point.intervention):
        end = [point.step for point in members][-1]
        if phase in _INTERVENTIONS:
            yield Band(start, end, *_INTERVENTIONS[phase])
        start = end


def durations(seconds: Mapping[str, float]) -> tuple[Chart, ...]:
    """Return the figure of seconds per stage, if there are any."""
    if not seconds:
        return ()
    chart = Bars(
        name="durations",
        title="Time of each stage",
        caption="Seconds of each stage of the run on this computer, from start to end of its process.",
        axis=Axis("time (s)"),
        categories=tuple(map(readable, seconds)),
        series=(Series("", tuple(seconds.values())),),
    )
    return (chart,)
