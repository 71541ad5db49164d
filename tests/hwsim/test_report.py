"""The report of a run: complete, offline, escaped; tests/hwsim/test_pages.py draws it in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import pytest

from hwsim.errors import SimulatorError
from hwsim.reporting.report import HTML_FILE, JSON_FILE, TrainingPoint, report_run
from hwsim.reporting.run_figures import training
from tests.hwsim.runs import HOSTILE, summary, write_run

FIGURES = {
    "teacher_training", "student_training", "durations", "energy_by_level", "energy_by_unit", "energy_by_layer",
    "energy_band", "cycles_by_unit", "cycles_by_cause", "time_line", "roofline", "memory_map", "memory_dram",
    "activations_over_time", "traffic", "area",
}  # fmt: skip


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("report") / "run")


def test_page_is_whole_offline_and_escaped(run_dir: Path) -> None:
    page = (run_dir / HTML_FILE).read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=", page)
    assert HOSTILE not in page
    assert page.count("plotly.js v") == 1
    for text in ("teacher", "student", "simulated", "deployed", "0 mismatches in 4,900 compared", "99.80%"):
        assert text in page
    assert set(re.findall(r'id="figure-(\w+)"', page)) == FIGURES
    assert {file.stem for file in (run_dir / "figures").iterdir()} == {
        "teacher_training", "student_training", "durations",
    }  # fmt: skip


@pytest.mark.parametrize(("deployed", "badge"), [(0.8503, "holds"), (0.8403, "fails"), (None, "unknown")])
def test_a_regression_is_judged_by_its_score(run_dir: Path, tmp_path: Path, deployed: float | None, badge: str) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    content = summary(metric="pearson_spearman")
    content["agreement"]["label_agreement"] = None
    content["stages"]["deployed"] = content["stages"]["deployed"] | {"score": deployed}
    (tmp_path / "run" / JSON_FILE).write_text(json.dumps(content))
    report_run(tmp_path / "run")
    page = (tmp_path / "run" / HTML_FILE).read_text()
    assert "<th>pearson spearman</th>" in page
    statement = html.escape("predictions within 0.25 of the torch student's", quote=True).replace("&#x27;", "&#39;")
    assert re.search(rf'<li class="{badge}">. {statement}', page)
    assert "labels as" not in page


def test_a_score_on_fewer_rows_is_said_to_be_one(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    told = {}
    for rows in (2, 7):
        (tmp_path / "run" / JSON_FILE).write_text(json.dumps(summary(evaluation_rows=rows)))
        report_run(tmp_path / "run")
        told[rows] = "the first 2 of 7 sentences" in (tmp_path / "run" / HTML_FILE).read_text()
    assert told == {2: False, 7: True}


def test_the_same_run_gives_the_same_page(run_dir: Path) -> None:
    before = (run_dir / HTML_FILE).read_bytes()
    report_run(run_dir)
    assert (run_dir / HTML_FILE).read_bytes() == before


def test_a_missing_or_malformed_input_is_named(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=r"report\.json"):
        report_run(tmp_path)
    without = summary()
    del without["agreement"]["code_mismatches"]
    (tmp_path / JSON_FILE).write_text(json.dumps(without))
    with pytest.raises(SimulatorError, match=r"agreement\.code_mismatches"):
        report_run(tmp_path)
    (tmp_path / JSON_FILE).write_text(json.dumps(summary()))
    with pytest.raises(SimulatorError, match=r"simulation\.json"):
        report_run(tmp_path)
    assert not (tmp_path / HTML_FILE).exists()


def test_every_phase_of_intervention_is_a_named_band() -> None:
    phases = ["output", "context", "attention_map", "stochastic", "none"]
    points = [TrainingPoint(step=10 * (i + 1), loss=1.0, intervention=phase) for i, phase in enumerate(phases)]
    (figure,) = training({"student": points})
    assert [(band.name, band.start, band.end) for band in figure.bands] == [
        ("TI-O", 0, 10), ("TI-C", 10, 20), ("TI-M", 20, 30), ("TI at random", 30, 40),
    ]  # fmt: skip
