"""The report's figures, as plotly objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from hwsim.simulate import Simulation

if TYPE_CHECKING:
    from hwsim.reporting.report import TrainingPoint

Figures = dict[str, go.Figure]
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


def training(curves: Mapping[str, Sequence[TrainingPoint]]) -> Figures:
    """Return one figure for every model that has a curve: losses, score, phases of intervention."""
    return {f"{name}_training": _curve(name, points) for name, points in curves.items() if points}


def _curve(name: str, points: Sequence[TrainingPoint]) -> go.Figure:
    figure = blank_figure(f"Training of the {name}")
    for attribute, label in _LOSSES.items():
        seen = [(point.step, value) for point in points if (value := getattr(point, attribute)) is not None]
        if seen:
            steps, losses = zip(*seen, strict=True)
            figure.add_scatter(x=steps, y=losses, name=label, mode="lines")
    scores = [(point.step, point.score) for point in points if point.score is not None]
    if scores:
        steps, values = zip(*scores, strict=True)
        figure.add_scatter(x=steps, y=values, name="score", mode="lines+markers", yaxis="y2", line={"dash": "dot"})
    figure.update_layout(
        xaxis_title="step",
        yaxis={"title": "loss", "type": "log"},
        yaxis2={"title": "score", "overlaying": "y", "side": "right", "showgrid": False, "tickmode": "auto"},
    )
    _shade_interventions(figure, points)
    return figure


def _shade_interventions(figure: go.Figure, points: Sequence[TrainingPoint]) -> None:
    """Shade the steps with a teacher's intervention; its name runs upwards, since a phase may be short."""
    told = [point for point in points if point.intervention is not None]
    start = 0
    for phase, members in groupby(told, key=lambda point: point.intervention):
        end = [point.step for point in members][-1]
        if phase in _INTERVENTIONS:
            label, colour = _INTERVENTIONS[phase]
            figure.add_vrect(
                x0=start, x1=end, fillcolor=colour, layer="below", line_width=0,
                annotation={"text": label, "textangle": -90}, annotation_position="bottom left",
            )  # fmt: skip
        start = end


def simulation(result: Simulation) -> Figures:
    """Return the figures of one simulation: where energy and cycles go, what memory holds."""
    cost, memory = result.estimate, result.estimate.memory
    to_uj = 1e-6
    return {
        "energy_by_level": _bars("Energy by level", "µJ an inference", cost.energy_pj.by_level, to_uj),
        "energy_by_unit": _bars("Energy by unit", "µJ an inference", cost.energy_pj.by_unit, to_uj),
        "energy_by_layer": _bars("Energy by layer", "µJ an inference", cost.energy_pj.by_layer, to_uj, ordered=False),
        "cycles_by_unit": _bars("Cycles by unit", "thousand cycles an inference", cost.cycles.by_unit, 1e-3),
        "memory": _bars(
            "Memory of the accelerator",
            "kB",
            {
                "ternary linears": memory.ternary_linear_bytes,
                "word embedding": memory.word_embedding_bytes,
                "other parameters": memory.other_parameter_bytes,
                "activations at their peak": memory.activation_peak_bytes,
                "capacity of the weight buffer": result.accelerator.weight_buffer_bytes,
                "capacity of the activation buffer": result.accelerator.activation_buffer_bytes,
            },
            1e-3,
            ordered=False,
        ),
        "traffic": _bars("Bytes moved", "kB an inference", memory.traffic_bytes_per_inference, 1e-3, ordered=False),
    }


def durations(seconds: Mapping[str, float]) -> Figures:
    """Return the figure of seconds per stage, if there are any."""
    return {"durations": _bars("Time of each stage", "s", seconds, 1.0, ordered=False)} if seconds else {}


def _bars(title: str, unit: str, values: Mapping[str, float], factor: float, *, ordered: bool = True) -> go.Figure:
    entries = [
        (name.replace("_", " ").replace("dram", "DRAM"), value * factor) for name, value in values.items() if value > 0
    ]
    if ordered:
        entries.sort(key=lambda entry: -entry[1])
    figure = blank_figure(title)
    figure.add_bar(
        y=[name for name, _ in entries],
        x=[value for _, value in entries],
        text=[f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for _, value in entries],
        orientation="h",
    )
    figure.update_layout(
        height=110 + 30 * len(entries), xaxis_title=unit, yaxis={"autorange": "reversed", "automargin": True}
    )
    return figure


def blank_figure(title: str) -> go.Figure:
    """Return an empty figure in the style of the pages."""
    return go.Figure(
        layout={
            "title": {"text": title, "x": 0.01, "font": {"size": 16}},
            "template": "simple_white",
            "height": 360,
            "margin": {"l": 10, "r": 10, "t": 50, "b": 10},
            "legend": {"orientation": "h", "y": -0.25},
            "colorway": ["#2b5c8a", "#c26a2d", "#4d8a57", "#8a4d77", "#777777"],
        }
    )
