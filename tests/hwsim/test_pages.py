"""The pages in a real browser, at the width of a telephone and of a desk: drawn, whole, legible, without a message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hwsim.config import Profile, read_accelerator
from hwsim.faults.campaign import inject_upsets
from hwsim.faults.page import upset_charts, write_upsets
from hwsim.faults.plan import UpsetPlan
from hwsim.faults.targets import TargetName
from hwsim.faults.word_codes import Protection
from hwsim.reporting.comparison import compare
from hwsim.reporting.comparison_page import comparison_charts, write_comparison
from hwsim.reporting.inputs import read_simulation
from hwsim.reporting.report import HTML_FILE
from hwsim.reporting.simulation_figures import simulation_charts
from hwsim.reporting.simulation_page import write_simulation_report
from hwsim.simulate import simulate, write_simulation
from tests.builders import tiny_artifact
from tests.hwsim.browser import CHROMIUM, Chromium, chromium
from tests.hwsim.runs import write_run

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")]
SMALLEST_PIXELS = 12


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, set[str]]]:
    """The pages, each with the names of its figures."""
    folder = tmp_path_factory.mktemp("pages")
    run = write_run(folder / "run")
    artifact = tiny_artifact(folder / "artifact")
    result, values = simulate(artifact, read_accelerator("phone"), profile=Profile.FIXED, activity=True)
    write_simulation(folder / "phone", result, values, lambda fresh: write_simulation_report(fresh, result))
    found = compare(run, folder / "phone")
    write_comparison(folder / "comparison", found)
    plan = UpsetPlan(TargetName.WEIGHTS, (1e-3, 1e-2), (Protection.NONE, Protection.SECDED), seeds=(0, 1))
    upset = inject_upsets(artifact, read_accelerator("phone"), plan)
    write_upsets(folder / "upsets", upset)
    of_run, of_phone = simulation_charts(read_simulation(run / "simulation")), simulation_charts(result)
    run_names = {"durations", "teacher_training", "student_training", *(chart.name for chart in of_run)}
    return {
        "run": (run / HTML_FILE, run_names),
        "simulation": (folder / "phone" / "simulation.html", {chart.name for chart in of_phone}),
        "upsets": (folder / "upsets" / "upsets.html", {chart.name for chart in upset_charts(upset)}),
        "comparison": (folder / "comparison" / "comparison.html", {chart.name for chart in comparison_charts(found)}),
    }


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.mark.parametrize("width_pixels", [375, 1200])
@pytest.mark.parametrize("page", ["run", "simulation", "comparison", "upsets"])
def test_every_figure_is_drawn_and_legible(
    pages: dict[str, tuple[Path, set[str]]], browser: Chromium, page: str, width_pixels: int
) -> None:
    file, figures = pages[page]
    seen = browser.look(file, width_pixels)
    assert seen.messages == ()
    assert seen.window_width == width_pixels
    assert seen.page_width <= width_pixels  # nothing to scroll sideways
    assert seen.smallest_text_pixels >= SMALLEST_PIXELS
    assert {plot.name for plot in seen.plots} == figures
    for plot in seen.plots:
        assert plot.marks > 0, plot.name
        assert 0 < plot.svg_width <= plot.width, plot.name
        assert 0 <= plot.left < plot.right <= width_pixels, plot.name
        assert plot.clipped == [], plot.name
        assert plot.title, plot.name
        assert plot.caption.rstrip().endswith("."), plot.name


def test_a_figure_that_is_missing_or_in_error_does_not_pass_unseen(browser: Chromium, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<figure><h3>Wide</h3><div class="plot" id="figure-wide" style="width: 900px"></div><figcaption>x</figcaption>'
        "</figure><script>console.error('broken'); throw new Error('thrown')</script>"
    )
    seen = browser.look(page, 375)
    assert len(seen.messages) == 2
    assert seen.page_width > 375
    assert (seen.plots[0].marks, seen.plots[0].svg_width) == (0, 0)
