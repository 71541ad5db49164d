"""What `ti-qat compare` leaves: comparison.json, a page, a table, pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hwsim.reporting.charts import Axis, Bars, Series, count_scale, readable, scale_of
from hwsim.reporting.comparison import ComparedFigure, Comparison
from hwsim.reporting.page import NOT_MEASURED, render_page
from hwsim.reporting.png_charts import PICTURES_FOLDER, write_pictures
from hwsim.reporting.tables import csv_text
from ti_qat.artifact.atomic import whole_directory

JSON_FILE, HTML_FILE, CSV_FILE = "comparison.json", "comparison.html", "comparison.csv"
_TO_BASE = {"pJ": (1e-12, "J"), "ms": (1e-3, "s"), "bytes": (1.0, "B"), "W": (1.0, "W")}


def write_comparison(out_dir: Path, found: Comparison) -> None:
    """Write all files of a comparison, whole or not at all."""
    charts = comparison_charts(found)
    page = render_page(
        Path(__file__).with_name("comparison.html.j2"),
        title=f"{found.first.accelerator} and {found.second.accelerator} compared",
        figures=charts,
        found=found,
        shown=[(figure, *shown(figure)) for figure in found.figures],
    )
    with whole_directory(out_dir, JSON_FILE) as folder:
        (folder / JSON_FILE).write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (folder / HTML_FILE).write_text(page, encoding="utf-8")
        (folder / CSV_FILE).write_text(comparison_csv(found), encoding="utf-8")
        write_pictures(folder / PICTURES_FOLDER, charts)


def comparison_csv(found: Comparison) -> str:
    """Return a row for every figure and every part of energy and cycles."""
    header = ("quantity", "part", "unit", "first", "second", "ratio")
    rows = [("figure", f.name, f.unit, f.first, f.second, f.ratio) for f in found.figures]
    for quantity, ways in (("energy", found.energy_pj), ("cycles", found.cycles)):
        for way, parts in ways.items():
            rows += [(f"{quantity} by {way}", f.name, f.unit, f.first, f.second, f.ratio) for f in parts]
    return csv_text(header, rows)


def comparison_charts(found: Comparison) -> tuple[Bars, ...]:
    """Return the bars of both sides: energy and cycles by unit, layer and level."""
    names = (found.first.label, found.second.label)
    charts = []
    for way in ("unit", "layer", "level"):
        energy, cycles = found.energy_pj[way], found.cycles[way]
        to_energy, unit = scale_of((value * 1e-12 for value in _values(energy)), "J")
        to_cycles, words = count_scale(max(_values(cycles)))
        cause = "cause" if way == "level" else way
        charts += [
            Bars(
                name=f"energy_by_{way}",
                title=f"Energy by {way}",
                caption=f"Energy of an average inference in each {way}, for both sides.",
                axis=Axis(f"energy ({unit} an inference)"),
                **_sides(energy, names, to_energy * 1e-12),
            ),
            Bars(
                name=f"cycles_by_{cause}",
                title=f"Cycles by {cause}",
                caption=f"Cycles of an average inference for each {cause}, for both sides.",
                axis=Axis(f"{words} an inference"),
                **_sides(cycles, names, to_cycles),
            ),
        ]
    return tuple(charts)


def _values(parts: Iterable[ComparedFigure]) -> list[float]:
    return [value for part in parts for value in (part.first, part.second) if value is not None]


def _sides(parts: tuple[ComparedFigure, ...], names: tuple[str, str], factor: float) -> dict[str, Any]:
    kept = [part for part in parts if part.first or part.second]
    return {
        "categories": tuple(readable(part.name) for part in kept),
        "series": (
            Series(names[0], tuple((part.first or 0.0) * factor for part in kept)),
            Series(names[1], tuple((part.second or 0.0) * factor for part in kept)),
        ),
    }


def shown(figure: ComparedFigure) -> tuple[str, str, str, str]:
    """Return unit, both values and the ratio as the page shows them."""
    values = (figure.first, figure.second)
    factor, unit = 1.0, "" if figure.unit in figure.name else figure.unit
    if figure.unit in _TO_BASE:
        to_base, base = _TO_BASE[figure.unit]
        factor, unit = scale_of((value * to_base for value in values if value is not None), base)
        factor *= to_base
    texts = [NOT_MEASURED if value is None else _significant(value * factor) for value in values]
    return unit, texts[0], texts[1], _ratio(figure.ratio)


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return NOT_MEASURED
    return f"1/{1 / ratio:,.0f}" if 0 < ratio < 0.01 else _significant(ratio)


def _significant(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:,.4g}"
