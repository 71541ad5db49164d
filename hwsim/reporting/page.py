"""Pages without any outside resource: one look, figures drawn from data in the page, everything escaped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from hwsim.reporting.figures import Figures

NOT_MEASURED = "\N{EN DASH}"


def render_page(template: Path, *, title: str, figures: Figures, **content: Any) -> str:
    """Return the page of a template, which extends page.html.j2.

    Everything that comes from outside is escaped, in the markup and in the scripts.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"megabytes": _megabytes, "number": _number}
    return environment.get_template(template.name).render(
        title=title,
        figures={name: json.loads(figure.to_json()) for name, figure in figures.items()},
        plotly_js=Markup(get_plotlyjs()),
        **content,
    )


def _megabytes(size: int | float | None) -> str:
    if size is None:
        return NOT_MEASURED
    if size < 1e5:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.{2 if size < 1e7 else 1 if size < 1e8 else 0}f} MB"


def _number(value: float | None, digits: int = 2) -> str:
    return NOT_MEASURED if value is None else f"{value:,.{digits}f}"
