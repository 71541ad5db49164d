"""What a figure shows, as data: drawn by hwsim.reporting.plotly_charts in pages and by .png_charts in pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Literal

# Okabe and Ito's palette, which the usual forms of colour blindness leave distinct; its yellow is too pale for lines.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#6e6e6e", "#000000")
REFERENCE_COLOUR = "#444444"
_MANY_POINTS = 200
Symbol = Literal["circle", "square", "diamond", "x"]
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


def scale_of(values: Iterable[float], unit: str) -> tuple[float, str]:
    """Return a factor and the unit with its prefix, such that the largest of `values` is from 1 to 1000.

    `scale_of([2.5e-7], "J")` is (1e9, "nJ"); below a nano, "pJ".
    """
    largest = max((abs(value) for value in values), default=0.0) or 1.0
    size, prefix = next(((size, prefix) for size, prefix in _PREFIXES if largest >= size), (1e-12, "p"))
    return 1 / size, prefix + unit


def count_scale(largest: float, what: str = "cycles") -> tuple[float, str]:
    """Return a factor and "cycles", "thousand cycles" or so, whichever makes counts up to `largest` readable."""
    sizes = ((1e9, "billion "), (1e6, "million "), (1e3, "thousand "))
    size, words = next((found for found in sizes if largest >= found[0]), (1.0, ""))
    return 1 / size, words + what


def log_ticks(values: Iterable[float]) -> tuple[float, ...]:
    """Return the ticks of a logarithmic axis over `values`: powers of ten, over less than three with 2 and 5 times."""
    shown = [value for value in values if value > 0] or [1.0]
    first, last = floor(log10(min(shown))), ceil(log10(max(shown)))
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    return tuple(step * 10.0**power for power in range(first, last + 1) for step in steps)


def readable(name: str) -> str:
    """Return an identifier in words."""
    words = {"dram": "DRAM", "int8": "int8", "gelu": "GELU", "layer norm": "LayerNorm"}
    text = name.replace("layers.", "layer ").replace("_", " ")
    for word, written in words.items():
        text = text.replace(word, written)
    return text


@dataclass(frozen=True)
class Axis:
    """An axis: what is measured and its unit; `log` for powers of ten."""

    title: str
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What every figure has: a name (of files and elements), a title, and a sentence on how to read it."""

    name: str
    title: str
    caption: str


@dataclass(frozen=True)
class Series:
    """One bar for every category, or None where there is none."""

    name: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Bars(Figure):
    """Lying bars, first category on top: one series, several side by side, or several `stacked`.

    `limits` are thin marks across a category's bars, such as a capacity, named `limit_name`.
    """

    axis: Axis
    categories: tuple[str, ...]
    series: tuple[Series, ...]
    stacked: bool = False
    limits: tuple[float | None, ...] = ()
    limit_name: str = ""

    @property
    def longest(self) -> float:
        """The longest bar or the furthest limit; 1 where all are 0."""
        columns = [[value or 0.0 for value in column] for column in zip(*(s.values for s in self.series), strict=True)]
        lengths = [sum(column) if self.stacked else max(column) for column in columns]
        return max([*lengths, *(limit or 0.0 for limit in self.limits)], default=0.0) or 1.0

    def labels(self, series: Series) -> list[str]:
        """Return the figures at the ends of a series' bars: its own or, at the end of a stack, the whole's."""
        if not self.stacked:
            return ["" if value is None else bar_label(value) for value in series.values]
        if series is not self.series[-1] or self.limits:
            return [""] * len(series.values)
        return [
            bar_label(sum(v or 0.0 for v in column)) for column in zip(*(s.values for s in self.series), strict=True)
        ]


@dataclass(frozen=True)
class Curve:
    """Points (x, y), joined by lines or not; `labels` tell what each point is when it is pointed at.

    `reference` curves are thin, dashed lines to hold the others against. `steps` go level from a point to the next.
    Without a `colour` the curve takes the palette's, by its place.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    lines: bool = True
    symbol: Symbol | None = None
    steps: bool = False
    reference: bool = False
    right_axis: bool = False
    labels: tuple[str, ...] = ()
    colour: str | None = None


@dataclass(frozen=True)
class Band:
    """A shaded stretch of the x axis with a short name."""

    start: float
    end: float
    name: str
    colour: str


@dataclass(frozen=True, kw_only=True)
class Curves(Figure):
    """Curves, scattered points and reference lines over the same axes."""

    x_axis: Axis
    y_axis: Axis
    curves: tuple[Curve, ...]
    right_axis: Axis | None = None
    bands: tuple[Band, ...] = ()


@dataclass(frozen=True)
class Span:
    """A stretch of a time line's row."""

    row: str
    start: float
    end: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Gantt(Figure):
    """Rows of spans over time, by kind of span; first row on top."""

    axis: Axis
    rows: tuple[str, ...]
    spans: dict[str, tuple[Span, ...]]
    bands: tuple[Band, ...] = ()

    @property
    def end(self) -> float:
        """Where the last span ends."""
        return max((span.end for spans in self.spans.values() for span in spans), default=1.0)


@dataclass(frozen=True)
class Swing:
    """Where one cause alone takes a figure, at its lowest and at its highest."""

    cause: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Tornado(Figure):
    """Swings around a nominal figure, drawn from top to bottom as given."""

    axis: Axis
    nominal: float
    swings: tuple[Swing, ...]


Chart = Bars | Curves | Gantt | Tornado
LOW_NAME, HIGH_NAME, NOMINAL_NAME = "lower", "higher", "nominal"


@dataclass(frozen=True)
class LegendEntry:
    """A name with the colour and the form of its mark."""

    name: str
    colour: str
    form: Literal["block", "line", "dashes"] | Symbol


def legend(chart: Chart) -> tuple[LegendEntry, ...]:
    """Return the entries of a chart's legend, in the order and the colours of its parts; none where one part is all."""
    match chart:
        case Bars():
            entries = [LegendEntry(s.name, colour_of(i), "block") for i, s in enumerate(chart.series)]
            if any(limit is not None for limit in chart.limits):
                entries.append(LegendEntry(chart.limit_name, REFERENCE_COLOUR, "line"))
        case Curves():
            entries = [
                LegendEntry(curve.name, colour, "dashes" if curve.reference else curve.symbol or "line")
                for curve, colour in coloured(chart.curves)
            ]
        case Gantt():
            entries = [LegendEntry(name, colour_of(i), "block") for i, name in enumerate(chart.spans)]
        case Tornado():
            entries = [
                LegendEntry(LOW_NAME, PALETTE[0], "block"),
                LegendEntry(HIGH_NAME, PALETTE[1], "block"),
                LegendEntry(NOMINAL_NAME, REFERENCE_COLOUR, "line"),
            ]
    return tuple(entries) if len(entries) > 1 else ()


def colour_of(place: int) -> str:
    """Return the colour of a chart's part by its place."""
    return PALETTE[place % len(PALETTE)]


def coloured(curves: tuple[Curve, ...]) -> list[tuple[Curve, str]]:
    """Return every curve with its colour."""
    return [(curve, curve.colour or colour_of(place)) for place, curve in enumerate(curves)]


def is_crowded(curve: Curve) -> bool:
    """Return whether a curve has so many points that smaller marks tell more of them apart."""
    return len(curve.x) > _MANY_POINTS


def bar_label(value: float) -> str:
    """Return the figure at a bar's end."""
    if 0 < abs(value) < 1e-4:
        return "< 0.0001"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3g}"
