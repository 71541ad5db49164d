"""The verb `ti-qat accelerators`: the presets, and whether one can be simulated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hwsim.config import _PRESETS, preset_names, read_accelerator
from ti_qat.cli import main

WEARABLE = (_PRESETS / "wearable.toml").read_text()


def test_presets_are_listed_with_a_line_each() -> None:
    found = CliRunner().invoke(main, ["accelerators"])
    assert found.stdout.splitlines() == [f"{name}: {read_accelerator(name).description}" for name in preset_names()]
    as_json = json.loads(CliRunner().invoke(main, ["accelerators", "--json"]).stdout)
    assert set(as_json) == set(preset_names())
    assert as_json["phone"] == json.loads(read_accelerator("phone").model_dump_json())


def test_one_is_described_field_by_field(tmp_path: Path) -> None:
    battery = "[battery]\ncapacity_mah = 225\nvoltage_v = 3.0\n"
    (tmp_path / "mine.toml").write_text(WEARABLE.replace("array_rows = 16", "array_rows = 8") + battery)
    lines = CliRunner().invoke(main, ["accelerators", str(tmp_path / "mine.toml")]).stdout.splitlines()
    assert lines[0].startswith("wearable: 16 x 16 elements")
    described = dict(line.split(maxsplit=1) for line in lines[1:])
    assert (described["array_rows"], described["clock_hz"], described["fixed.gelu"]) == ("8", "1e+08", "table")
    assert (described["battery.capacity_mah"], described["battery.usable_fraction"]) == ("225", "1")
    as_json = CliRunner().invoke(main, ["accelerators", str(tmp_path / "mine.toml"), "--json"]).stdout
    assert json.loads(as_json)["array_rows"] == 8


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("array_rows = 16", "array_rows = 0", "mine.toml: array_rows: "),
        ('"dram_lpddr4"', '"dram_none"', "wearable: energy_tables: expected a .toml file or tables out of "),
        (', "dram_lpddr4"', "", "wearable: energy_tables: expected one table with a row dram_read, found none"),
    ],
)
def test_one_that_cannot_be_simulated_is_a_line_and_exit_2(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "mine.toml").write_text(WEARABLE.replace(old, new))
    found = CliRunner().invoke(main, ["accelerators", str(tmp_path / "mine.toml")])
    assert (found.exit_code, found.stderr.count("\n")) == (2, 1)
    assert message in found.stderr


def test_areas_are_checked_with_energies(tmp_path: Path) -> None:
    area = '[[areas]]\naction = "int8_mca"\nvalue = 1.0\nunit = "um2"\nsource = "ours"\nnote = ""\n'
    (tmp_path / "own.toml").write_text(f'description = "ours"\n{area}')
    (tmp_path / "mine.toml").write_text(WEARABLE.replace('"dram_lpddr4"]', '"dram_lpddr4", "own.toml"]'))
    found = CliRunner().invoke(main, ["accelerators", str(tmp_path / "mine.toml")])
    assert (found.exit_code, found.stderr.count("\n")) == (2, 1)
    assert "int8_mca" in found.stderr
