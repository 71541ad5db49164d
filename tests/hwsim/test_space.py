"""Space files: what they may say, and how what is wrong with one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from hwsim.errors import SimulatorError
from hwsim.exploration.axes import MAX_VALUES, Range
from hwsim.exploration.plan import prepare
from hwsim.exploration.space import Constraint
from tests.builders import tiny_artifact
from ti_qat.cli import main

SPACE = """
accelerator = "wearable"
constraints = ["weights_resident = true"]
[objectives]
latency_ms = "minimise"
[axes]
array_rows = [8, 16]
fixed.residual_bits = [8, 16]
[strategy]
kind = "grid"
"""


def space_file(folder: Path, old: str = "", new: str = "") -> Path:
    """Write SPACE with one change."""
    assert old in SPACE
    file = folder / "space.toml"
    file.write_text(SPACE.replace(old, new, 1) if old else SPACE)
    return file


@pytest.mark.parametrize(
    ("told", "values"),
    [
        ({"from": 8, "to": 16, "step": 4}, (8, 12, 16)),
        ({"from": 8, "to": 15, "step": 4}, (8, 12)),
        ({"from": 8, "to": 8, "step": 4}, (8,)),
        ({"from": 0.1, "to": 0.3, "step": 0.1}, (0.1, 0.2, 0.1 + 2 * 0.1)),  # 0.3 / 0.1 is below 3
        ({"from": 64, "to": 1024, "factor": 4}, (64, 256, 1024)),
        ({"from": 64, "to": 1023, "factor": 4}, (64, 256)),
        ({"from": 1, "to": 3**20, "factor": 3}, tuple(3**power for power in range(21))),
        ({"from": 1e8, "to": 1e10, "count": 3}, (1e8, 1e9, 1e10)),
        ({"from": 10, "to": 1000, "count": 3}, (10, 100, 1000)),
        ({"from": 1, "to": 3, "count": 9}, (1, 2, 3)),  # rounded, each told once
    ],
)
def test_a_range_reaches_both_ends(told: dict[str, Any], values: tuple[float, ...]) -> None:
    found = Range.model_validate(told).values
    assert found == pytest.approx(values, rel=1e-12)  # powers in binary64
    assert [type(value) for value in found] == [type(value) for value in values]
    assert (found[0], found[-1]) == (values[0], values[-1])


@pytest.mark.parametrize(
    "told",
    [
        {"from": 1, "to": 2},
        {"from": 1, "to": 2, "step": 1, "count": 2},
        {"from": 2, "to": 1, "step": 1},
        {"from": 0, "to": 8, "factor": 2},
        {"from": -1, "to": 8, "count": 2},
        {"from": 1, "to": 8, "factor": 1},
        {"from": 1, "to": 8, "step": 0},
        {"from": 0, "to": MAX_VALUES, "step": 1},
        {"from": "1", "to": 8, "step": 1},
        {"from": 1.0, "to": float("inf"), "step": 1},
        {"from": 1.0, "to": 2.0, "step": 1e-320},
        {"from": -1e308, "to": 1e308, "step": 1},
        {"from": 1e-320, "to": 8, "factor": 2},
    ],
)
def test_a_range_that_describes_no_numbers_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Range.model_validate(told)


@pytest.mark.parametrize(
    ("text", "value", "violation"),
    [
        ("area_mm2 <= 2.0", 2.0, 0.0),
        ("area_mm2 <= 2.0", 3.0, 0.5),
        ("area_mm2>=2", 1.0, 0.5),
        ("area_mm2 >= 2e0", 2.0, 0.0),
        ("area_mm2 = 0", 0, 0.0),
        ("area_mm2 = 0", 3, 3.0),
        ("area_mm2 = true", True, 0.0),
        ("area_mm2 = true", False, 1.0),
        ("area_mm2 = false", True, 1.0),
        ("area_mm2 <= 2.0", None, float("inf")),
    ],
)
def test_a_constraint_is_kept_at_its_limit_and_missed_by_its_share(text: str, value: Any, violation: float) -> None:
    assert Constraint.parse(text).violation({"area_mm2": value}) == violation


def test_every_field_is_an_axis_and_every_value_reaches_it(tmp_path: Path) -> None:
    plan = prepare(space_file(tmp_path), None)
    assert plan.axes == {"array_rows": (8, 16), "fixed.residual_bits": (8, 16)}
    quoted = prepare(space_file(tmp_path, "fixed.residual_bits", '"fixed.residual_bits"'), None)
    assert quoted.axes == plan.axes
    tables = 'energy_tables = [["logic_22nm", "sram_22nm_lop", "dram_lpddr4"]]'
    assert len(prepare(space_file(tmp_path, "array_rows = [8, 16]", tables), None).axes["energy_tables"][0]) == 3


def test_an_accelerator_file_is_found_from_the_space_file(tmp_path: Path) -> None:
    preset = Path(__file__).parents[2] / "hwsim" / "configs" / "wearable.toml"
    (tmp_path / "mine.toml").write_text(preset.read_text().replace('name = "wearable"', 'name = "mine"'))
    plan = prepare(space_file(tmp_path, '"wearable"', '"mine.toml"'), None)
    assert plan.settings.accelerator.name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"wearable"', '"watch"', "accelerator: name: expected a .toml file or one of"),
        ("array_rows = [8, 16]", "array_row = [8, 16]", "axes.array_row: expected one of profile, name, "),
        ("fixed.residual_bits", "fixed.residual", "axes.fixed.residual: expected one of"),
        ("rows = [8, 16]", "rows = [8, 0]", "axes.array_rows.1: array_rows: expected Input should be greater"),
        ("[8, 16]\n[strategy]", "[8, 30]\n[strategy]", "axes.fixed.residual_bits.1: fixed.residual_bits: expected"),
        ("rows = [8, 16]", "rows = [8, 8]", "axes.array_rows.1: value: expected another one, found 8 again"),
        ("rows = [8, 16]", 'rows = ["8"]', "axes.array_rows.0: array_rows: expected Input should be a valid int"),
        ("array_rows = [8, 16]", "array_rows = []", "axes.array_rows.values: expected"),
        ("array_rows = [8, 16]", 'profile = ["float"]', "axes.profile.0: value: expected exact or fixed, found"),
        ("array_rows = [8, 16]", "array_rows = {from = 8, to = 16}", "axes.array_rows.range: expected"),
        ("rows = [8, 16]", "rows = {from = 8, step = 1}", "axes.array_rows.range.to: expected Field required"),
        ("latency_ms", "latency", "objectives.latency: expected one of cycles, "),
        ("latency_ms", "score", "objectives.score: expected one of cycles, "),
        ('"minimise"', '"lowest"', "objectives.latency_ms: expected Input should be 'minimise' or 'maximise'"),
        ("weights_resident = true", "weights_residents = true", "constraints.0: expected one of cycles, "),
        ("weights_resident = true", "weights_resident <= true", "constraints.0: expected Value error, = before true"),
        ("weights_resident = true", "cycles < 5", "constraints.0: expected Value error, FIGURE <= NUMBER"),
        ("weights_resident = true", "cycles >= 1e999", "constraints.0: expected Value error, a finite limit"),
        ("weights_resident = true", "cycles <= 1e", "constraints.0: expected Value error"),
        ("[objectives]", 'workers = {address = "a:1"}\n[objectives]', "workers: expected Value error, an address"),
        ('kind = "grid"', 'kind = "sobol"', "strategy: expected"),
        ('kind = "grid"', 'kind = "random"', "strategy.random.points: expected Field required"),
        ('kind = "grid"', 'kind = "optuna"\ntrials = 0', "strategy.optuna.trials: expected"),
        ("[objectives]", "limit = 5\n[objectives]", "limit: expected none without an artifact, found 5"),
        ("[objectives]", "tokens = 513\n[objectives]", "tokens: expected at most 512 positions, found 513"),
        ("[objectives]", "nonzero_fraction = 1.5\n[objectives]", "nonzero_fraction: expected"),
        ("[objectives]", "token = 12\n[objectives]", "token: expected a known field"),
        ("[strategy]", "clock_hz = {from=1, to=9999, step=1}\nbank_bytes = {from=1, to=256, step=1}\n[strategy]",
         "axes: expected at most 1,000,000 designs, found 10,238,976"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_that_names_the_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = space_file(tmp_path, old, new)
    found = CliRunner().invoke(main, ["sweep", "--space", str(file), "--out", str(tmp_path / "out")])
    assert (found.exit_code, found.stderr.count("\n")) == (2, 1)
    assert message in found.stderr
    assert not (tmp_path / "out").exists()


def test_an_artifact_has_a_shape_of_its_own(tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "artifact")
    file = space_file(tmp_path, "[objectives]", "nonzero_fraction = 0.5\n[objectives]")
    with pytest.raises(SimulatorError, match="nonzero_fraction: expected none beside an artifact"):
        prepare(file, artifact.path)


def test_own_energy_tables_are_found_from_the_space_file_and_told_apart_by_content(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "hwsim" / "tables" / "dram_lpddr4.toml"
    (tmp_path / "mine.toml").write_text(shipped.read_text())
    tables = 'energy_tables = [["logic_22nm", "sram_22nm_lop", "mine.toml"]]'
    file = space_file(tmp_path, "array_rows = [8, 16]", tables)
    before = prepare(file, None)
    assert before.axes["energy_tables"] == (("logic_22nm", "sram_22nm_lop", str(tmp_path / "mine.toml")),)
    (tmp_path / "mine.toml").write_text(shipped.read_text() + "\n# another\n")
    assert prepare(file, None).settings.digest != before.settings.digest
