"""The verb `sweep`: right figures, no value computed twice, resumable, the same whoever evaluates."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from hwsim.config import Accelerator, Profile, read_accelerator
from hwsim.datapath.fixed_simulation import FixedRun
from hwsim.design import BERT_BASE, evaluate_design
from hwsim.errors import SimulatorError
from hwsim.exploration import evaluation as evaluation_module
from hwsim.exploration.cli import sweep_space
from hwsim.exploration.costs import figures_of
from hwsim.exploration.figures import pareto
from hwsim.exploration.plan import prepare
from hwsim.exploration.results import Sweep
from hwsim.exploration.space import Grid, Guided, RandomChoice, Space, Workers
from hwsim.exploration.sweep import sweep as run_sweep
from hwsim.exploration.values import VALUE_FIELDS, ValueTask, simulate_values
from hwsim.simulate import Values, compute_values, simulate
from tests.builders import tiny_artifact, tiny_quantization
from tests.hwsim.browser import CHROMIUM, chromium
from tests.hwsim.spaces import COSTS, SCORES, files_of, written
from ti_qat.artifact.io import Artifact
from ti_qat.artifact.schema import ActivationScaling
from ti_qat.cli import main


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_artifact(tmp_path_factory.mktemp("artifact") / "tiny")


def test_every_point_is_its_own_design_point(tmp_path: Path) -> None:
    file = written(tmp_path, COSTS.partition("[shape]")[0].replace("64, 65536", "32768, 65536"))
    found = sweep_space(file, tmp_path / "out")
    assert len(found.points) == 16
    base = read_accelerator("wearable")
    for index, point in enumerate(found.points):
        fields = dict(point.design)
        widths = base.fixed.model_copy(update={"residual_bits": fields.pop("fixed.residual_bits")})
        changed = base.model_dump() | fields | {"fixed": widths}
        expected = evaluate_design(BERT_BASE, Accelerator.model_validate(changed, strict=False), 128, 0.6)
        assert point.figures["cycles"] == expected.cycles
        assert point.figures["energy_pj"] == expected.energy_pj
        assert point.figures["weights_resident"] is expected.weights_resident
        assert point.figures["energy_pj_by_level.dram"] == expected.energy_pj_by_level["dram"]
        assert fields["array_rows"] == (8 if index < 8 else 16)  # the last axis varies fastest
    rows = list(csv.DictReader((tmp_path / "out" / "points.csv").open()))
    assert [float(row["energy_pj"]) for row in rows] == [point.figures["energy_pj"] for point in found.points]
    assert [row["axes.weight_buffer_bytes"] for row in rows] == ["32768", "65536"] * 8
    assert [index for index, row in enumerate(rows) if row["pareto"] == "True"] == list(found.pareto)


def test_figures_of_an_artifact_are_those_of_simulate(tmp_path: Path, artifact: Artifact) -> None:
    found = sweep_space(written(tmp_path, "limit = 5" + SCORES), tmp_path / "out", artifact.path)
    point = next(p for p in found.points if p.design == {
        "array_rows": 24, "accumulator_bits": 6, "fixed.residual_bits": 8, "profile": "fixed",
    })  # fmt: skip
    base = read_accelerator("wearable")
    accelerator = base.model_copy(update={
        "array_rows": 24, "accumulator_bits": 6, "fixed": base.fixed.model_copy(update={"residual_bits": 8}),
    })  # fmt: skip
    report, _ = simulate(artifact, accelerator, profile=Profile.FIXED, limit=5)
    assert report.overflow_events > 0
    assert (point.figures["score"], point.figures["overflow_events"]) == (report.score, report.overflow_events)
    # 1e-9: the same products in binary64, added in another order.
    assert point.figures["cycles"] == pytest.approx(report.cycles_per_inference, rel=1e-9)
    assert point.figures["latency_ms"] == pytest.approx(report.latency_ms, rel=1e-9)
    assert point.figures["energy_pj"] == pytest.approx(report.energy_pj_per_inference, rel=1e-9)
    assert point.figures["area_mm2"] == pytest.approx(sum(report.estimate.area_mm2.values()), rel=1e-9)


def test_what_computes_the_same_values_is_simulated_once(
    tmp_path: Path, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated: list[ValueTask] = []

    def counting(task: ValueTask, on_rows: Any) -> Any:
        simulated.append(task)
        return simulate_values(task, on_rows)

    monkeypatch.setattr(evaluation_module, "simulate_values", counting)
    found = sweep_space(written(tmp_path, SCORES), tmp_path / "out", artifact.path)
    assert len(found.points) == 32
    # Two accumulators, and in the fixed profile two residual streams each: the exact profile has none of them.
    assert (len(simulated), found.value_simulations) == (6, 6)
    assert {point.figures["score"] is None for point in found.points} == {False}
    without = SCORES.replace('score = "maximise", ', "")
    costs = sweep_space(written(tmp_path / "costs", without), tmp_path / "costs" / "out", artifact.path)
    assert len(simulated) == 6
    assert "score" not in costs.points[0].figures


@pytest.mark.parametrize("profile", Profile)
def test_no_other_field_changes_values(artifact: Artifact, profile: Profile) -> None:
    """An accelerator that has no other fields computes the same values, bit by bit or at once (test_serial_mac.py)."""
    whole = read_accelerator("wearable").model_copy(update={"accumulator_bits": 7})
    bare = whole.model_copy()
    for name in set(Accelerator.model_fields) - {*VALUE_FIELDS[profile], "activation_bits_per_cycle"}:
        del bare.__dict__[name]

    def values(accelerator: Accelerator) -> Values:
        fixed = FixedRun.prepare(artifact, accelerator, 7) if profile is Profile.FIXED else None
        return compute_values(artifact, accelerator, 7, 1, lambda rows: None, fixed)

    expected, found = values(whole), values(bare)
    assert found.logits.tobytes() == expected.logits.tobytes()
    assert found.overflows == expected.overflows


def test_a_design_that_cannot_be_is_recorded_with_its_reason(tmp_path: Path) -> None:
    found = sweep_space(written(tmp_path, COSTS), tmp_path / "out")
    failed = [
        point
        for point in found.points
        if point.design["array_rows"] == 16 and point.design["weight_buffer_bytes"] == 64
    ]
    assert {point.failure for point in failed} == {"weight_buffer_bytes (64) below two tiles of the array (128)"}
    assert [point for point in found.points if point.failure is not None] == failed
    assert not any(found.points[index].failure for index in found.pareto)
    again = Sweep.model_validate_json((tmp_path / "out" / "sweep.json").read_text())
    assert again == found


def test_values_that_cannot_be_computed_fail_their_points_only(tmp_path: Path) -> None:
    from_tokens = tiny_artifact(
        tmp_path / "artifact",
        quantization=tiny_quantization(activations=ActivationScaling.DYNAMIC_PER_TOKEN),
    )
    found = sweep_space(written(tmp_path, SCORES), tmp_path / "out", from_tokens.path)
    for point in found.points:
        assert (point.failure is not None) is (point.design["profile"] == "fixed")
        assert ("cycles" in point.figures) is (point.failure is None)


def test_points_outside_the_constraints_are_kept_and_not_on_the_front(tmp_path: Path) -> None:
    text = 'constraints = ["latency_ms <= 0.73", "weights_resident = true"]' + COSTS
    found = sweep_space(written(tmp_path, text), tmp_path / "out")
    assert {point.feasible for point in found.points} == {True, False}
    for point in found.points:
        kept = point.failure is None and point.figures["latency_ms"] <= 0.73 and point.figures["weights_resident"]
        assert point.feasible is kept
    assert all(found.points[index].feasible for index in found.pareto)


def test_random_designs_differ_and_follow_from_the_seed(tmp_path: Path) -> None:
    def tried(points: int, seed: int) -> list[str]:
        strategy = f'[strategy]\nkind = "random"\npoints = {points}\nseed = {seed}\n'
        folder = tmp_path / f"{points}-{seed}-{time.monotonic_ns()}"
        found = sweep_space(written(folder, COSTS + strategy), folder / "out")
        return [json.dumps(point.design) for point in found.points]

    assert len(set(tried(7, 0))) == 7
    assert tried(7, 0) == tried(7, 0) != tried(7, 1)
    assert len(set(tried(99, 0))) == 16


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_backend_that_is_not_installed_is_named(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("distributed", "ray", "ray.util.joblib"):
        monkeypatch.setitem(sys.modules, package, None)
    file = written(tmp_path, COSTS.replace("sequential", backend))
    with pytest.raises(SimulatorError, match=rf"workers\.backend: expected .*pip install.*found {backend}"):
        sweep_space(file, tmp_path / "out")


def test_progress_counts_up_to_all_designs_and_rows(tmp_path: Path, artifact: Artifact) -> None:
    told: list[tuple[str, int, int]] = []
    plan = prepare(written(tmp_path, SCORES), artifact.path)
    run_sweep(plan, tmp_path / "out", lambda *what: told.append(what))
    assert told[-1] == ("designs", 32, 32)
    assert ("rows", 6 * 7, 6 * 7) in told
    told.clear()
    run_sweep(plan, tmp_path / "out", lambda *what: told.append(what))
    assert told == [("designs", 32, 32)]


def test_figures_are_whatever_a_design_point_has() -> None:
    fields = {"area_mm2": 1.5, "unknown": None, "fits": True, "by_level": {"dram": 2}, "name": "x", "odd": float("nan")}
    assert figures_of(fields) == {"area_mm2": 1.5, "unknown": None, "fits": True, "by_level.dram": 2, "odd": None}


def test_the_verb_tells_the_best_and_prints_json(tmp_path: Path) -> None:
    file, out = written(tmp_path, COSTS), tmp_path / "out"
    told = CliRunner().invoke(main, ["sweep", "--space", str(file), "--out", str(out)])
    assert told.exit_code == 0
    assert told.stdout.startswith("16 points: ")
    assert ", 4 failed, 0 outside the constraints\n" in told.stdout
    best = min((p for p in json.loads((out / "sweep.json").read_text())["points"] if p["feasible"]),
               key=lambda p: p["figures"]["energy_pj"])  # fmt: skip
    assert (
        f"best energy_pj: {best['figures']['energy_pj']:,.6g} with array_rows {best['design']['array_rows']}, "
        in told.stdout
    )
    as_json = CliRunner().invoke(main, ["sweep", "--space", str(file), "--out", str(out), "--json"])
    assert as_json.stdout == (out / "sweep.json").read_text()


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_goes_on(tmp_path: Path, artifact: Artifact) -> None:
    text = SCORES.replace('backend = "sequential"', "jobs = 2, points_per_task = 1")
    text = text.replace("step = 8", "step = 1")
    file, out, log = written(tmp_path, text), tmp_path / "out", tmp_path / "out" / "points.jsonl"
    command = [sys.executable, "-m", "ti_qat", "sweep", str(artifact.path), "--space", str(file), "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    kept = b""
    for lines in (1, 40):
        running = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while running.poll() is None and (not log.is_file() or log.read_bytes().count(b"\n") < lines):
            time.sleep(0.005)
        os.kill(running.pid, signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
        content = log.read_bytes()
        assert content.startswith(kept)
        kept = content[: content.rfind(b"\n") + 1]
    subprocess.run([*command, str(out)], check=True, capture_output=True)
    assert log.read_bytes().startswith(kept)
    assert log.read_bytes().count(b"\n") == 25 * 8
    assert files_of(out) == files_of(tmp_path / "whole")


HOSTILE = "</script><img src=x onerror=console.error('escaped')>"
THREE = 'energy_pj = "minimise", dram_read_bytes = "minimise"'


def test_the_page_is_whole_offline_and_escaped(tmp_path: Path) -> None:
    preset = Path(__file__).parents[2] / "hwsim" / "configs" / "wearable.toml"
    (tmp_path / "mine.toml").write_text(preset.read_text().replace('name = "wearable"', f'name = "{HOSTILE}"'))
    text = COSTS.replace('"wearable"', '"mine.toml"').replace('energy_pj = "minimise"', THREE)
    found = sweep_space(written(tmp_path, text), tmp_path / "out")
    page = (tmp_path / "out" / "sweep.html").read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=", page)
    assert HOSTILE not in page
    assert page.count("plotly.js v") == 1
    assert len(list((tmp_path / "out" / "figures").glob("*.png"))) == 3
    assert set(re.findall(r'id="figure-(\w+)"', page)) == {
        "latency_ms_by_energy_pj", "latency_ms_by_dram_read_bytes", "energy_pj_by_dram_read_bytes",
    }  # fmt: skip
    assert '<td>4</td><td class="text">weight_buffer_bytes (64) below two tiles of the array (128)</td>' in page
    assert page.count("<tr><td>") == len(found.pareto) + 1


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_browser_draws_every_point(tmp_path: Path) -> None:
    found = sweep_space(written(tmp_path, COSTS), tmp_path / "out")
    with chromium(tmp_path / "profile") as browser:
        for width_pixels in (375, 1200):
            seen = browser.look(tmp_path / "out" / "sweep.html", width_pixels)
            assert seen.messages == ()
            assert seen.page_width <= width_pixels
            assert [plot.name for plot in seen.plots] == [chart.name for chart in pareto(found)]
            for plot in seen.plots:
                assert plot.marks == sum(point.failure is None for point in found.points)
                assert plot.svg_width <= plot.width
                assert plot.clipped == []


def test_every_point_with_figures_is_in_its_group(tmp_path: Path) -> None:
    found = sweep_space(written(tmp_path, 'constraints = ["latency_ms <= 0.73"]' + COSTS), tmp_path / "out")
    (figure,) = pareto(found)
    assert figure.name == "latency_ms_by_energy_pj"
    drawn = {curve.name: set(zip(curve.x, curve.y, strict=True)) for curve in figure.curves}
    assert drawn == {
        name: {
            (point.figures["latency_ms"], point.figures["energy_pj"] * 1e-6)
            for index, point in enumerate(found.points)
            if point.failure is None and belongs(index, point)
        }
        for name, belongs in {
            "outside the constraints": lambda index, point: not point.feasible,
            "beaten": lambda index, point: point.feasible and index not in found.pareto,
            "on the front": lambda index, point: index in found.pareto,
        }.items()
    }
    assert (figure.x_axis.title, figure.y_axis.title) == ("latency (ms)", "energy (µJ)")


def test_a_single_objective_is_drawn_in_the_order_of_the_points(tmp_path: Path) -> None:
    text = COSTS.replace(', energy_pj = "minimise"', "")
    found = sweep_space(written(tmp_path, text), tmp_path / "out")
    assert [chart.name for chart in pareto(found)] == ["latency_ms"]
    best = min(point.figures["latency_ms"] for point in found.points if point.failure is None)
    assert {found.points[index].figures["latency_ms"] for index in found.pareto} == {best}


@pytest.mark.parametrize("name", ["space", "student"])
def test_the_examples_can_be_swept(tmp_path: Path, name: str) -> None:
    artifact = tiny_artifact(tmp_path / "artifact").path if name == "student" else None
    plan = prepare(Path(__file__).parents[2] / "examples" / "design_space" / f"{name}.toml", artifact)
    assert plan.tries == {"space": 1008, "student": 300}[name]


@pytest.mark.parametrize("model", [Space, Grid, RandomChoice, Guided, Workers], ids=lambda model: model.__name__)
def test_every_field_of_a_space_file_is_described(model: type[BaseModel]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "exploration.md").read_text()
    for field in model.model_fields:
        assert f"`{field}`" in page or f"`[{field}]`" in page
