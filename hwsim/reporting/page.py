"""Pages without any outside resource: one look, figures drawn from data in the page, everything escaped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from hwsim.reporting.charts import Chart, Gantt, legend, scale_of
from hwsim.reporting.plotly_charts import plotly_json

NOT_MEASURED = "\N{EN DASH}"


def render_page(template: Path, *, title: str, figures: Sequence[Chart], **content: Any) -> str:
    """Return the page of a template, which extends page.html.j2 and shows `figures` with the macros of figures.html.j2.

    Everything that comes from outside is escaped, in the markup and in the scripts.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"megabytes": megabytes, "number": number, "joules": joules}
    environment.globals |= {"legend": legend}
    environment.tests |= {"wide": lambda chart: isinstance(chart, Gantt)}
    return environment.get_template(template.name).render(
        title=title,
        figures=figures,
        plots={chart.name: plotly_json(chart) for chart in figures},
        plotly_js=Markup(get_plotlyjs()),
        **content,
    )


def megabytes(size: int | float | None) -> str:
    """Return a size in kB or MB, in words."""
    if size is None:
        return NOT_MEASURED
    if size < 1e5:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.{2 if size < 1e7 else 1 if size < 1e8 else 0}f} MB"


def number(value: float | None, digits: int = 2) -> str:
    """Return a figure with that many digits behind the point."""
    return NOT_MEASURED if value is None else f"{value:,.{digits}f}"


def joules(picojoules: float) -> str:
    """Return an energy with the prefix that makes it readable."""
    factor, unit = scale_of([picojoules * 1e-12], "J")
    return f"{picojoules * 1e-12 * factor:,.4g} {unit}"
