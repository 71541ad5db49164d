"""Charts as plotly's JSON, for pages; titles, captions and legends are the page's, since HTML wraps at any width."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from textwrap import wrap
from typing import Any

from hwsim.reporting.charts import (
    HIGH_NAME,
    LOW_NAME,
    REFERENCE_COLOUR,
    Axis,
    Band,
    Bars,
    Chart,
    Curve,
    Curves,
    Gantt,
    Tornado,
    bar_label,
    colour_of,
    coloured,
    is_crowded,
    log_ticks,
)

Json = dict[str, Any]
_FONT = {"family": "system-ui, sans-serif", "size": 12, "color": "#222"}
_ROW_PIXELS, _LINE_PIXELS, _AXIS_PIXELS, _CURVES_PIXELS = 28, 8, 64, 340
_LABEL_WIDTH = 18  # characters of a category before its label wraps: what a phone has room for
_LABEL_ROOM = 1.24  # of the longest bar, for the figure at its end


def plotly_json(chart: Chart) -> Json:
    """Return the chart as plotly's {data, layout}."""
    match chart:
        case Bars():
            return _bars(chart)
        case Curves():
            return _curves(chart)
        case Gantt():
            return _gantt(chart)
        case Tornado():
            return _tornado(chart)


def _text(text: str) -> str:
    """Return `text` as plotly shows it, which reads markup in labels."""
    return escape(text, quote=False).replace("\n", "<br>")


def _label(category: str) -> str:
    return "<br>".join(_text(line) for line in wrap(category, _LABEL_WIDTH))


def _axis(axis: Axis, **changes: Any) -> Json:
    return {
        "title": {"text": _text(axis.title), "standoff": 8},
        "type": "log" if axis.log else "linear",
        "automargin": True,
        "showline": True,
        "linecolor": "#888",
        "gridcolor": "#e8e8e8",
        "ticks": "outside",
        "zeroline": False,
        "nticks": 6,
    } | changes


def _ticks(axis: Axis, values: Iterable[float]) -> Json:
    """Return plain numbers at the ticks of a logarithmic axis: superscripts are hard to read on a phone."""
    if not axis.log:
        return {}
    ticks = log_ticks(values)
    return {"tickmode": "array", "tickvals": list(ticks), "ticktext": [f"{tick:,.10g}" for tick in ticks]}


def _rows(categories: Iterable[str]) -> Json:
    """Return an upright axis of categories, the first on top."""
    names = [_label(category) for category in categories]
    return {
        "type": "category", "categoryorder": "array", "categoryarray": names, "autorange": "reversed",
        "automargin": True, "showline": True, "linecolor": "#888", "ticks": "", "ticklabelstandoff": 6,
    }  # fmt: skip


def _row_pixels(names: Iterable[str]) -> int:
    return _ROW_PIXELS + _LINE_PIXELS * max((name.count("<br>") for name in names), default=0)


def _layout(height: float, **parts: Any) -> Json:
    return {
        "height": round(height),
        "font": _FONT,
        "margin": {"l": 8, "r": 14, "t": 10, "b": 8},
        "showlegend": False,
        "hovermode": "closest",
        "plot_bgcolor": "#fff",
        "bargap": 0.3,
    } | parts


def _bars(chart: Bars) -> Json:
    names = [_label(category) for category in chart.categories]
    data: list[Json] = []
    for number, series in enumerate(chart.series):
        trace: Json = {
            "type": "bar", "orientation": "h", "name": _text(series.name), "y": names, "x": list(series.values),
            "marker": {"color": colour_of(number)},
            "hovertemplate": "%{y}, %{fullData.name}: %{x:,.4~g}<extra></extra>",
        }  # fmt: skip
        if any(labels := chart.labels(series)):
            trace |= {"text": labels, "textposition": "outside", "cliponaxis": False}
        data.append(trace)
    if any(limit is not None for limit in chart.limits):
        line = {"width": 3, "color": REFERENCE_COLOUR}
        data.append({
            "type": "scatter", "mode": "markers", "name": _text(chart.limit_name), "y": names, "x": list(chart.limits),
            "marker": {"symbol": "line-ns-open", "size": 24, "line": line, "color": REFERENCE_COLOUR},
        })  # fmt: skip
    rows = len(names) * (1 if chart.stacked else 0.4 + 0.6 * len(chart.series))
    return {
        "data": data,
        "layout": _layout(
            _AXIS_PIXELS + _row_pixels(names) * rows,
            barmode="stack" if chart.stacked else "group",
            xaxis=_axis(chart.axis, range=[0, _LABEL_ROOM * chart.longest]),
            yaxis=_rows(chart.categories),
        ),
    }


def _curves(chart: Curves) -> Json:
    across = [x for curve in chart.curves for x in curve.x]
    up = [y for curve in chart.curves if not curve.right_axis for y in curve.y]
    layout = _layout(
        _CURVES_PIXELS,
        xaxis=_axis(chart.x_axis, **_ticks(chart.x_axis, across)),
        yaxis=_axis(chart.y_axis, **_ticks(chart.y_axis, up)),
        **_bands(chart.bands),
    )
    if chart.right_axis is not None:
        layout["yaxis2"] = _axis(chart.right_axis, overlaying="y", side="right", showgrid=False, tickmode="auto")
    return {"data": [_curve(curve, colour) for curve, colour in coloured(chart.curves)], "layout": layout}


def _curve(curve: Curve, colour: str) -> Json:
    modes = ["lines"] * curve.lines + ["markers"] * (curve.symbol is not None)
    labelled = "%{text}<br>" if curve.labels else ""
    return {
        "type": "scatter",
        "name": _text(curve.name),
        "x": list(curve.x),
        "y": list(curve.y),
        "mode": "+".join(modes),
        "marker": {
            "symbol": curve.symbol or "circle",
            "size": 6 if is_crowded(curve) else 9,
            "color": colour,
            "opacity": 0.8,
        },
        "line": {
            "color": colour,
            "width": 1.5 if curve.reference else 2,
            "dash": "dash" if curve.reference else "solid",
            "shape": "hv" if curve.steps else "linear",
        },
        "text": [_text(label) for label in curve.labels],
        "hovertemplate": labelled + "%{fullData.name}: %{x:,.4~g}, %{y:,.4~g}<extra></extra>",
        "yaxis": "y2" if curve.right_axis else "y",
    }


def _bands(bands: tuple[Band, ...]) -> Json:
    """Return shades over the whole height, and their names above the plot."""
    if not bands:
        return {}
    shapes = [
        {"type": "rect", "xref": "x", "yref": "paper", "x0": band.start, "x1": band.end, "y0": 0, "y1": 1,
         "fillcolor": band.colour, "line": {"width": 0}, "layer": "below"}
        for band in bands
    ]  # fmt: skip
    annotations = [
        {"x": (band.start + band.end) / 2, "y": 1, "xref": "x", "yref": "paper", "yanchor": "bottom",
         "text": _text(band.name), "showarrow": False}
        for band in bands if band.name
    ]  # fmt: skip
    return {"shapes": shapes, "annotations": annotations, "margin": {"l": 8, "r": 14, "t": 26, "b": 8}}


def _gantt(chart: Gantt) -> Json:
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": _text(name),
            "y": [_label(span.row) for span in spans],
            "x": [span.end - span.start for span in spans],
            "base": [span.start for span in spans],
            "width": 0.72,
            "text": [_text(span.label) for span in spans],
            "textposition": "none",
            "marker": {"color": colour_of(number), "line": {"width": 0}},
            "hovertemplate": "%{text}<br>%{fullData.name}, from %{base:,.6~g}: %{x:,.4~g}<extra></extra>",
        }
        for number, (name, spans) in enumerate(chart.spans.items())
    ]
    layout = _layout(
        _AXIS_PIXELS + 1.2 * _ROW_PIXELS * len(chart.rows),
        barmode="overlay",
        xaxis=_axis(chart.axis, range=[0, chart.end]),
        yaxis=_rows(chart.rows),
        **_bands(chart.bands),
    )
    return {"data": data, "layout": layout}


def _tornado(chart: Tornado) -> Json:
    names = [_label(swing.cause) for swing in chart.swings]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": names,
            "x": [end - chart.nominal for end in ends],
            "base": chart.nominal,
            "text": [bar_label(end) for end in ends],
            "textposition": "outside",
            "cliponaxis": False,
            "marker": {"color": colour_of(number)},
            "hovertemplate": "%{y}: %{text}<extra></extra>",
        }
        for number, (name, ends) in enumerate(
            {LOW_NAME: [s.low for s in chart.swings], HIGH_NAME: [s.high for s in chart.swings]}.items()
        )
    ]
    lowest, highest = min(s.low for s in chart.swings), max(s.high for s in chart.swings)
    room = 0.2 * (highest - lowest) or 1.0
    line = {"type": "line", "xref": "x", "yref": "paper", "x0": chart.nominal, "x1": chart.nominal, "y0": 0, "y1": 1,
            "line": {"color": REFERENCE_COLOUR, "width": 2}}  # fmt: skip
    layout = _layout(
        _AXIS_PIXELS + _row_pixels(names) * len(names),
        barmode="overlay",
        xaxis=_axis(chart.axis, range=[lowest - room, highest + room]),
        yaxis=_rows(swing.cause for swing in chart.swings),
        shapes=[line],
    )
    return {"data": data, "layout": layout}
