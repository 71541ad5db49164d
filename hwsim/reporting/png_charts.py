"""Charts as PNG files, for papers and slides: drawn by matplotlib without a display."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from hwsim.reporting.charts import (
    PALETTE,
    REFERENCE_COLOUR,
    Axis,
    Band,
    Bars,
    Chart,
    Curves,
    Gantt,
    LegendEntry,
    Tornado,
    bar_label,
    colour_of,
    coloured,
    is_crowded,
    legend,
    log_ticks,
)
from ti_qat.artifact.atomic import whole_directory

_WIDTH_INCHES, _ROW_INCHES, _FRAME_INCHES, _CURVES_INCHES = 7.2, 0.3, 1.5, 4.2
_DOTS_PER_INCH = 150
PICTURES_FOLDER = "figures"
_MARKS = {"circle": "o", "square": "s", "diamond": "D", "x": "x"}


def write_pictures(folder: Path, charts: Sequence[Chart]) -> None:
    """Write NAME.png for every chart into a folder that appears, or replaces an earlier one of the same, as a whole."""
    if charts:
        with whole_directory(folder, f"{charts[0].name}.png") as fresh:
            for chart in charts:
                write_png(fresh / f"{chart.name}.png", chart)


def write_png(file: Path, chart: Chart) -> None:
    """Draw the chart into a PNG file; the same chart gives the same bytes."""
    canvas = Canvas(figsize=(_WIDTH_INCHES, _height_inches(chart)), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    match chart:
        case Bars():
            _bars(axes, chart)
        case Curves():
            _curves(axes, chart)
        case Gantt():
            _gantt(axes, chart)
        case Tornado():
            _tornado(axes, chart)
    canvas.suptitle(_literal(chart.title), fontsize=11, x=0.01, ha="left")
    if entries := legend(chart):
        canvas.legend(
            handles=[_handle(entry) for entry in entries], loc="outside lower left", ncols=3, fontsize=8, frameon=False
        )
    canvas.savefig(file, metadata={"Title": chart.title, "Description": chart.caption, "Software": None})


def _height_inches(chart: Chart) -> float:
    match chart:
        case Bars():
            rows = len(chart.categories) * (1 if chart.stacked else 0.4 + 0.6 * len(chart.series))
        case Gantt():
            rows = 1.2 * len(chart.rows)
        case Tornado():
            rows = 1.2 * len(chart.swings)
        case Curves():
            return _CURVES_INCHES
    return _FRAME_INCHES + _ROW_INCHES * rows


def _literal(text: str) -> str:
    return text.replace("$", r"\$")  # between two of them matplotlib reads mathematics


def _handle(entry: LegendEntry) -> Patch | Line2D:
    label, colour = _literal(entry.name), entry.colour
    if entry.form == "block":
        return Patch(color=colour, label=label)
    if entry.form in {"line", "dashes"}:
        return Line2D([], [], color=colour, linestyle="--" if entry.form == "dashes" else "-", label=label)
    return Line2D([], [], color=colour, marker=_MARKS[entry.form], linestyle="", label=label)


def _name_rows(axes: Axes, axis: Axis, categories: Iterable[str]) -> None:
    names = [_literal(fill(category, 28)) for category in categories]
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(_literal(axis.title))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(axis="x", color="#e8e8e8")


def _bars(axes: Axes, chart: Bars) -> None:
    rows = range(len(chart.categories))
    count = 1 if chart.stacked else len(chart.series)
    thickness = 0.75 / count
    ends = [0.0] * len(chart.categories)
    for number, series in enumerate(chart.series):
        offset = 0.0 if chart.stacked else (number - (count - 1) / 2) * thickness
        widths = [value or 0.0 for value in series.values]
        drawn = axes.barh(
            [row + offset for row in rows],
            widths,
            thickness,
            left=ends if chart.stacked else 0,
            color=colour_of(number),
        )
        if chart.stacked:
            ends = [end + width for end, width in zip(ends, widths, strict=True)]
        axes.bar_label(drawn, chart.labels(series), padding=3, fontsize=8)
    for row, limit in enumerate(chart.limits):
        if limit is not None:
            axes.vlines(limit, row - 0.45, row + 0.45, color=REFERENCE_COLOUR, linewidth=2)
    _name_rows(axes, chart.axis, chart.categories)
    axes.set_xlim(0, 1.12 * chart.longest)


def _curves(axes: Axes, chart: Curves) -> None:
    right = axes.twinx() if chart.right_axis is not None else axes
    for curve, colour in coloured(chart.curves):
        (right if curve.right_axis else axes).plot(
            curve.x,
            curve.y,
            color=colour,
            linestyle="" if not curve.lines else "--" if curve.reference else "-",
            linewidth=1.2 if curve.reference else 1.6,
            marker=_MARKS[curve.symbol] if curve.symbol else "",
            markersize=3 if is_crowded(curve) else 5,
            alpha=0.85,
            drawstyle="steps-post" if curve.steps else "default",
        )
    axes.set_xlabel(_literal(chart.x_axis.title))
    axes.set_ylabel(_literal(chart.y_axis.title))
    if chart.right_axis is not None:
        right.set_ylabel(_literal(chart.right_axis.title))
    if chart.x_axis.log:
        axes.set_xscale("log")
        _log_ticks(axes.xaxis, [x for curve in chart.curves for x in curve.x])
    if chart.y_axis.log:
        axes.set_yscale("log")
        _log_ticks(axes.yaxis, [y for curve in chart.curves if not curve.right_axis for y in curve.y])
    axes.grid(color="#e8e8e8")
    _shade(axes, chart.bands)


def _log_ticks(axis: Any, values: Iterable[float]) -> None:
    """Write plain numbers at the ticks that lie within the axis."""
    low, high = axis.get_view_interval()
    ticks = [tick for tick in log_ticks(values) if low <= tick <= high]
    axis.set_ticks(ticks, [f"{tick:,.10g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())


def _shade(axes: Axes, bands: tuple[Band, ...]) -> None:
    for band in bands:
        axes.axvspan(band.start, band.end, color=band.colour, zorder=0, linewidth=0)
        middle = (band.start + band.end) / 2
        axes.annotate(
            _literal(band.name), (middle, 1), (0, 2), ("data", "axes fraction"), "offset points",
            ha="center", va="bottom", fontsize=8,
        )  # fmt: skip


def _gantt(axes: Axes, chart: Gantt) -> None:
    for number, spans in enumerate(chart.spans.values()):
        for row, name in enumerate(chart.rows):
            stretches = [(span.start, span.end - span.start) for span in spans if span.row == name]
            axes.broken_barh(stretches, (row - 0.36, 0.72), facecolors=colour_of(number), linewidth=0)
    _name_rows(axes, chart.axis, chart.rows)
    axes.set_xlim(0, chart.end)
    _shade(axes, chart.bands)


def _tornado(axes: Axes, chart: Tornado) -> None:
    for row, swing in enumerate(chart.swings):
        for end, colour, side, towards in ((swing.low, PALETTE[0], "right", -3), (swing.high, PALETTE[1], "left", 3)):
            axes.barh(row, end - chart.nominal, 0.7, left=chart.nominal, color=colour)
            axes.annotate(bar_label(end), (end, row), (towards, 0), textcoords="offset points",
                          ha=side, va="center", fontsize=8)  # fmt: skip
    axes.axvline(chart.nominal, color=REFERENCE_COLOUR, linewidth=1.5)
    _name_rows(axes, chart.axis, (swing.cause for swing in chart.swings))
    axes.margins(x=0.15)
