"""The verb `compare`: ratios, parts that sum to the whole, conditions that differ, other artifacts refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hwsim.config import read_accelerator
from hwsim.errors import SimulatorError
from hwsim.reporting.comparison import compare
from hwsim.simulate import simulate, write_simulation
from tests.builders import tiny_artifact
from tests.hwsim.runs import write_run
from ti_qat.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulations of one artifact on two accelerators, of another one, and a run."""
    folder = tmp_path_factory.mktemp("comparison")
    artifact = tiny_artifact(folder / "artifact")
    for name in ("wearable", "phone"):
        write_simulation(folder / name, *simulate(artifact, read_accelerator(name)))
    other = tiny_artifact(folder / "other_artifact", seed=5)
    write_simulation(folder / "other", *simulate(other, read_accelerator("wearable"), limit=3))
    write_run(folder / "run")
    return folder


def test_command_writes_page_json_csv_and_pictures_and_tells_the_ratios(folder: Path, tmp_path: Path) -> None:
    arguments = ["compare", str(folder / "wearable"), str(folder / "phone"), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(main, arguments)
    assert told.exit_code == 0, told.output
    assert "differs: array rows, 16 and 64" in told.stdout
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["schema_version"] == 1
    a, b = (json.loads((folder / name / "simulation.json").read_text()) for name in ("wearable", "phone"))
    figures = {figure["name"]: figure for figure in found["figures"]}
    for name, of in (
        ("latency", "latency_ms"), ("cycles", "cycles_per_inference"), ("energy", "energy_pj_per_inference"),
    ):  # fmt: skip
        assert (figures[name]["first"], figures[name]["second"]) == (a[of], b[of])
        assert figures[name]["ratio"] == b[of] / a[of]
    assert figures["accumulator overflows"]["ratio"] is None  # nothing to go by
    for way, parts in found["energy_pj"].items():
        for side, whole in (("first", a), ("second", b)):
            # Floats in another order.
            assert sum(part[side] for part in parts) == pytest.approx(whole["energy_pj_per_inference"], rel=1e-9), way
    with (tmp_path / "out" / "comparison.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    energy = [float(row["second"]) for row in rows if row["quantity"] == "energy by layer"]
    assert sum(energy) == pytest.approx(b["energy_pj_per_inference"], rel=1e-9)
    drawn = {file.stem for file in (tmp_path / "out" / "figures").iterdir()}
    assert drawn == {
        "energy_by_unit", "energy_by_layer", "energy_by_level", "cycles_by_unit", "cycles_by_layer", "cycles_by_cause",
    }  # fmt: skip
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "<td>array rows</td><td>16</td><td>64</td>" in page
    assert "artifacts differ" not in page


def test_a_simulation_beside_itself_differs_in_nothing(folder: Path) -> None:
    found = compare(folder / "wearable", folder / "wearable")
    assert found.differences == ()
    assert {figure.ratio for figure in found.figures if figure.first} == {1.0}


def test_another_artifact_is_refused_with_what_differs_unless_allowed(folder: Path, tmp_path: Path) -> None:
    arguments = ["compare", str(folder / "wearable"), str(folder / "other"), "--out", str(tmp_path / "out")]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2
    (line,) = refused.stderr.strip().splitlines()
    for part in ("--different-artifacts", "artifact digest", "zero weights", str(folder / "other")):
        assert part in line
    assert not (tmp_path / "out").exists()
    allowed = CliRunner().invoke(main, [*arguments, "--different-artifacts", "--json"])
    assert allowed.exit_code == 0, allowed.output
    told = {difference["name"]: difference for difference in json.loads(allowed.stdout)["differences"]}
    assert told["rows"] == {"name": "rows", "first": "7", "second": "3"}
    assert "artifacts differ" in (tmp_path / "out" / "comparison.html").read_text()


def test_runs_bring_the_figures_of_their_other_stages(folder: Path) -> None:
    found = compare(folder / "run", folder / "run")
    figures = {figure.name: figure for figure in found.figures}
    assert figures["teacher, score"].first == 0.85
    assert figures["deployed, latency"].unit == "ms"
    beside_simulation = compare(folder / "run", folder / "phone")
    assert not any(figure.name.startswith("teacher") for figure in beside_simulation.figures)


def test_a_folder_without_a_simulation_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=str(tmp_path)):
        compare(folder / "wearable", tmp_path)
