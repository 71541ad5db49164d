"""The page of a campaign of upsets: score and flipped labels against the rate, as figures and a table."""

from __future__ import annotations

from pathlib import Path

from hwsim.faults.results import Upsets, runs_csv
from hwsim.reporting.charts import Axis, Curve, Curves
from hwsim.reporting.page import render_page
from hwsim.reporting.png_charts import PICTURES_FOLDER, write_pictures
from ti_qat.artifact.atomic import whole_directory

JSON_FILE, CSV_FILE, HTML_FILE = "upsets.json", "upsets.csv", "upsets.html"

_RATE = Axis("flips of a stored bit in an inference", log=True)


def upset_charts(found: Upsets) -> tuple[Curves, ...]:
    """Return score and, unless it is a regression, flipped labels against the rate; rate 0 is the dashed line."""
    rates = sorted({rate for curve in found.curves for rate in curve.rates if rate > 0})
    if not rates:
        return ()
    fault_free = Curve(
        "without faults", (rates[0], rates[-1]), (found.fault_free_score, found.fault_free_score), reference=True
    )
    scores = Curves(
        name="score_by_rate",
        title=f"Score against the rate of flips: {found.target.value}",
        caption=f"Means over {len(found.seeds)} seeds on {found.rows} rows; the dashed line is the run without faults.",
        x_axis=_RATE,
        y_axis=Axis(found.metric.replace("_", " ")),
        curves=(*(_curve(of.protection.value, of.rates, of.score_mean) for of in found.curves), fault_free),
    )
    flips = tuple(
        _curve(of.protection.value, of.rates, of.label_flips_mean)
        for of in found.curves
        if of.label_flips_mean is not None
    )
    if not flips:
        return (scores,)
    labels = Curves(
        name="label_flips_by_rate",
        title=f"Flipped labels against the rate of flips: {found.target.value}",
        caption=f"Rows of {found.rows} that get another label than without faults; means over the seeds.",
        x_axis=_RATE,
        y_axis=Axis("rows with another label"),
        curves=flips,
    )
    return scores, labels


def _curve(name: str, rates: tuple[float, ...], values: tuple[float, ...]) -> Curve:
    drawn = [(rate, value) for rate, value in zip(rates, values, strict=True) if rate > 0]  # the axis is logarithmic
    return Curve(name, tuple(rate for rate, _ in drawn), tuple(value for _, value in drawn), symbol="circle")


def render(found: Upsets, figures: tuple[Curves, ...]) -> str:
    """Return the page; `figures` as from `upset_charts`."""
    return render_page(
        Path(__file__).with_name("upsets.html.j2"),
        title=f"Single-event upsets of {found.target.value} on {found.accelerator}",
        figures=figures,
        found=found,
    )


def write_upsets(out_dir: Path, found: Upsets) -> None:
    """Write upsets.json, upsets.csv, upsets.html and the figures as PNG, whole or not at all. Raises OutputError."""
    charts = upset_charts(found)
    with whole_directory(out_dir, JSON_FILE) as fresh:
        (fresh / JSON_FILE).write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (fresh / CSV_FILE).write_text(runs_csv(found.runs), encoding="utf-8")
        (fresh / HTML_FILE).write_text(render(found, charts), encoding="utf-8")
        write_pictures(fresh / PICTURES_FOLDER, charts)
