"""The page of a sweep: its Pareto plots, the front as a table, and what failed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hwsim.exploration.figures import quantity
from hwsim.exploration.results import Sweep, written
from hwsim.reporting.charts import Curves
from hwsim.reporting.page import render_page


def render(found: Sweep, figures: tuple[Curves, ...]) -> str:
    """Return the page; `figures` as from hwsim.exploration.figures.pareto."""
    space = found.settings.space
    failures = Counter(point.failure for point in found.points if point.failure is not None)
    return render_page(
        Path(__file__).with_name("sweep.html.j2"),
        title=f"Designs around the {found.settings.accelerator.name} accelerator",
        figures=figures,
        found=found,
        outside=sum(point.failure is None and not point.feasible for point in found.points),
        failures=failures.most_common(),
        objectives={name: (*quantity(name), direction.value) for name, direction in space.objectives.items()},
        written=written,
    )
