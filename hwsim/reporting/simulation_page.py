"""What `ti-qat simulate` leaves for readers beside its JSON: a page, tables, pictures."""

from __future__ import annotations

from pathlib import Path

from hwsim.reporting.page import render_page
from hwsim.reporting.png_charts import PICTURES_FOLDER, write_pictures
from hwsim.reporting.simulation_figures import simulation_charts
from hwsim.reporting.tables import ENERGY_FILE, OPERATIONS_FILE, energy_by_level_csv, operations_csv
from hwsim.simulate import Simulation

HTML_FILE = "simulation.html"


def write_simulation_report(folder: Path, result: Simulation) -> None:
    """Write simulation.html, operations.csv, energy_by_level.csv and figures/NAME.png into a folder that exists."""
    charts = simulation_charts(result)
    page = render_page(
        Path(__file__).with_name("simulation.html.j2"),
        title=f"Simulation on the {result.accelerator.name} accelerator",
        figures=charts,
        simulation=result,
    )
    (folder / HTML_FILE).write_text(page, encoding="utf-8")
    (folder / OPERATIONS_FILE).write_text(operations_csv(result.estimate), encoding="utf-8")
    (folder / ENERGY_FILE).write_text(energy_by_level_csv(result.estimate), encoding="utf-8")
    write_pictures(folder / PICTURES_FOLDER, charts)
