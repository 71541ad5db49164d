"""The report: complete, offline, escaped, and drawn without an error in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from hwsim.config import read_accelerator
from hwsim.errors import SimulatorError
from hwsim.reporting.figures import training
from hwsim.reporting.report import HTML_FILE, JSON_FILE, TrainingPoint, report_run
from hwsim.simulate import simulate, write_simulation
from tests.builders import tiny_artifact
from tests.hwsim.browser import CHROMIUM, drawn_figures

HOSTILE = "</script><img src=x onerror=console.error('escaped')>"
FIGURES = {
    "teacher_training", "student_training", "energy_by_level", "energy_by_unit", "energy_by_layer", "cycles_by_unit",
    "memory", "traffic", "durations",
}  # fmt: skip


def summary(**changes: Any) -> dict[str, Any]:
    row = {"score": 0.85, "bytes": 7_000_000, "peak_rss_bytes": 90_000_000, "latency_ms": 2.5}
    return {
        "schema_version": 1,
        "stages": dict.fromkeys(("teacher", "student", "simulated", "deployed"), row),
        "agreement": {
            "codes_compared": 4900, "code_mismatches": 0, "label_agreement": 0.998, "logits_max_abs_difference": 0.25,
            "isa_bit_identical": True, "threads_bit_identical": None,
        },
        "energy_pj_per_inference": 3.2e8,
        "cycles_per_inference": 2.5e6,
        "seconds_per_stage": {"teacher": 100.0, HOSTILE: 20.0},
        "machine": {"processor": HOSTILE, "cores": 2},
    } | changes  # fmt: skip


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("report") / "run"
    artifact = tiny_artifact(run / "artifact")
    write_simulation(run / "simulation", *simulate(artifact, read_accelerator("wearable"), limit=2))
    for name in ("teacher", "student"):
        (run / name).mkdir()
        lines: list[dict[str, Any]] = [
            {"step": step, "loss": 3 / step, "loss_hidden": 2 / step, "intervention": f"ti-{'ocm'[step % 3]}"}
            for step in range(1, 9)
        ]
        lines.append({"step": 8, "score": 0.8})
        (run / name / "training.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / JSON_FILE).write_text(json.dumps(summary()))
    report_run(run)
    return run


def test_page_is_whole_offline_and_escaped(run_dir: Path) -> None:
    page = (run_dir / HTML_FILE).read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=", page)
    assert HOSTILE not in page
    assert page.count("plotly.js v") == 1
    for text in ("teacher", "student", "simulated", "deployed", "0 mismatches in 4,900 compared", "99.80%"):
        assert text in page
    assert set(re.findall(r'id="figure-(\w+)"', page)) == FIGURES


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


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width_pixels", [500, 1200])
def test_browser_draws_every_figure_without_a_console_message(run_dir: Path, tmp_path: Path, width_pixels: int) -> None:
    figures = drawn_figures(run_dir / HTML_FILE, width_pixels, tmp_path)
    assert figures.keys() == FIGURES
    for name, body in figures.items():
        assert re.search(r'<path class="js-line"|<g class="point"><path', body), name


def test_every_phase_of_intervention_is_a_named_band() -> None:
    phases = ["output", "context", "attention_map", "stochastic", "none"]
    points = [TrainingPoint(step=10 * (i + 1), loss=1.0, intervention=phase) for i, phase in enumerate(phases)]
    layout = training({"student": points})["student_training"].layout
    assert [annotation.text for annotation in layout.annotations] == ["TI-O", "TI-C", "TI-M", "TI at random"]
    assert [(band.x0, band.x1) for band in layout.shapes] == [(0, 10), (10, 20), (20, 30), (30, 40)]
