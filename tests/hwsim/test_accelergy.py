"""Accelergy's reference tables become tables of ours, and nothing in them makes the import crash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hwsim.config import read_accelerator
from hwsim.energy.accelergy import import_table
from hwsim.energy.area import area_mm2
from hwsim.energy.prices import prices
from hwsim.errors import SimulatorError
from hwsim.units.actions import Action
from ti_qat.cli import main

# As Accelergy 0.3 writes them; 0.4 quotes its version, orders keys by name and gives copies as [1..1].
ERT = """\
ERT:
  version: 0.3
  tables:
  - name: System.DRAM
    actions:
    - name: read
      arguments: null
      energy: 512
    - name: write
      arguments: null
      energy: 640
  - name: System.PE[0..15].mac[0..3]
    actions:
    - name: compute
      arguments: {}
      energy: 0.561
  - name: System.buffer
    actions:
    - name: read
      arguments:
        address_delta: 0
        data_delta: 0
      energy: 0.064
    - name: read
      arguments:
        address_delta: 1
        data_delta: 1
      energy: 3.2
    - name: leak
      arguments: {}
      energy: 0.02
"""
ERT_4 = """\
ERT:
  tables:
  - actions:
    - {arguments: {}, energy: 512.0, name: read}
    - {arguments: {}, energy: 640.0, name: write}
    name: System.DRAM[1..1]
  - actions:
    - {arguments: {}, energy: 0.561, name: compute}
    name: System.PE[1..16].mac[1..4]
  - actions:
    - {arguments: {address_delta: 0, data_delta: 0}, energy: 0.064, name: read}
    - {arguments: {address_delta: 1, data_delta: 1}, energy: 3.2, name: read}
    - {arguments: {global_cycle_seconds: 1.0e-09}, energy: 0.02, name: leak}
    name: System.buffer[1..1]
  version: '0.4'
"""
ART = """\
ART:
  version: 0.3
  tables:
  - name: System.PE[0..15].mac[0..3]
    area: 332.25
  - name: System.buffer
    area: 180000.0
"""
MAP = """\
description = "System"
source = "Accelergy, our System"
node_nm = 40
[[rows]]
action = "dram_read"
component = "System.DRAM"
component_action = "read"
bits = 64
[[rows]]
action = "int8_mac"
component = "System.PE.mac"
component_action = "compute"
[[rows]]
action = "sram_read"
component = "System.buffer"
component_action = "read"
arguments = { data_delta = 1 }
bits = 32
capacity_bytes = 131072
[[rows]]
action = "sram_leakage"
component = "System.buffer"
component_action = "leak"
cycle_ns = 2.0
capacity_bytes = 131072
[[areas]]
action = "int8_mac"
component = "System.PE.mac"
"""


def write(
    folder: Path, *, ert: str | bytes = ERT, art: str | bytes = ART, mapping: str = MAP
) -> tuple[Path, Path, Path]:
    for name, content in (("ERT.yaml", ert), ("ART.yaml", art), ("map.toml", mapping)):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / "ERT.yaml", folder / "map.toml", folder / "ART.yaml"


@pytest.mark.parametrize("ert", [ERT, ERT_4])
def test_energies_a_bit_and_a_nanosecond_follow_from_those_of_an_action(tmp_path: Path, ert: str) -> None:
    table = import_table(*write(tmp_path, ert=ert))
    values = {(row.action, row.unit, row.capacity_bytes): row.value for row in table.rows}
    assert values == {
        ("dram_read", "pJ/bit", None): 8.0,
        ("int8_mac", "pJ", None): 0.561,
        ("sram_read", "pJ/bit", 131072): 0.1,
        ("sram_leakage", "pJ/ns", 131072): 0.01,
    }
    assert [(row.action, row.value, row.unit) for row in table.areas] == [("int8_mac", 332.25, "um2")]
    assert {row.source for row in (*table.rows, *table.areas)} == {"Accelergy, our System"}


def test_the_command_writes_a_table_that_an_accelerator_can_name(tmp_path: Path) -> None:
    ert, mapping, art = write(tmp_path, mapping=MAP.replace('"System"', '"a \\"quoted\\" chip, \\u00b5m \\u007f"', 1))
    arguments = ["import-energy", str(ert), "--mapping", str(mapping), "--areas", str(art)]
    done = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "own.toml")])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "dram_read: 8 pJ/bit (System.DRAM, read)"
    phone = read_accelerator("phone")
    tables = ("logic_45nm", "sram_45nm_lop", "dram_lpddr4")
    mixed = phone.model_copy(update={"energy_tables": (*tables, str(tmp_path / "own.toml"))})
    found = prices(mixed)
    assert found[Action.INT8_MAC].pj == 0.561
    assert found[Action.ACTIVATION_BUFFER_READ_BIT].pj == pytest.approx(0.1)
    assert found[Action.ACTIVATION_BUFFER_LEAKAGE_NS].pj == pytest.approx(0.01 * 8)  # 1 MB in macros of 128 KB
    assert found[Action.TERNARY_MAC_ZERO].pj == 0.298
    plain = phone.model_copy(update={"energy_tables": tables})
    elements = phone.array_rows * phone.array_columns
    assert area_mm2(plain)["array"] - area_mm2(mixed)["array"] == pytest.approx(elements * (751.2 - 332.25) * 1e-6)
    as_json = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "again.toml"), "--json"])
    assert json.loads(as_json.stdout)["rows"][0]["value"] == 8.0
    assert (tmp_path / "own.toml").read_bytes() == (tmp_path / "again.toml").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mapping": MAP.replace('component_action = "leak"', 'component_action = "leek"')},
            "System.buffer.leek: expected an action of System.buffer: read, leak, found another name",
        ),
        ({"mapping": MAP.replace("data_delta = 1", "")}, "System.buffer.read: .*found 2 in 2 entries"),
        ({"mapping": MAP.replace("data_delta = 1", "data_delta = 9")}, "System.buffer.read: .*found 0 in 0 entries"),
        ({"mapping": MAP.replace("System.DRAM", "System.dram")}, "tables: expected one component System.dram, found 0"),
        ({"mapping": MAP.replace('"dram_read"', '"dram_reads"')}, "map.toml: rows.0: .*'dram_reads' is none of"),
        ({"mapping": MAP.replace("cycle_ns = 2.0", "")}, "map.toml: rows.3: .*cycle_ns"),
        ({"mapping": MAP.replace("capacity_bytes = 131072", "", 1)}, "map.toml: rows.2: .*needs capacity_bytes"),
        ({"mapping": MAP.replace("bits = 64", "bits = 0")}, "map.toml: rows.0.bits"),
        ({"ert": ERT.replace("energy: 512", "energy: -1")}, "ERT.yaml: tables.0.actions.0.energy"),
        ({"ert": ERT.replace("energy: 512", "energy: .nan")}, "ERT.yaml: tables.0.actions.0.energy"),
        ({"ert": ERT.replace("energy: 512", "energy: ?")}, "ERT.yaml: "),
        ({"ert": ERT.replace("arguments: null", "arguments: [1]", 1)}, "ERT.yaml: tables.0.actions.0.arguments"),
        ({"ert": ERT + "  - name: System.buffer\n    actions: []\n"}, "one component System.buffer, found 2"),
        ({"ert": "ERT: {tables: {System: {read: {energy: 1}}}, version: 0.2}"}, "ERT.tables, a list of components"),
        ({"ert": ""}, "ERT.tables, a list of components"),
        ({"ert": "- 1"}, "ERT.tables, a list of components"),
        ({"ert": "ERT: [unclosed"}, "ERT.yaml: content: expected YAML"),
        ({"ert": b"\xff\xfe\x00\xd8"}, "ERT.yaml: content: expected YAML"),
        ({"ert": "ERT: !!python/object/apply:os.getcwd []"}, "ERT.yaml: content: expected YAML"),
        ({"ert": ERT.replace("energy: 512", "energy: true")}, "ERT.yaml: tables.0.actions.0.energy"),
        ({"ert": ERT.replace("energy: 512", "energy: 3.5\n      energy: 9")}, "found the key energy twice"),
        ({"ert": ERT.replace("512", '!!int ""')}, "ERT.yaml: content: expected YAML, found the tag"),
        ({"ert": ERT.replace("512", '!!timestamp "x"')}, "ERT.yaml: content: expected YAML, found the tag"),
        ({"ert": "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nERT: {<<: [*b, *b]}"}, "a key that merges others"),
        ({"ert": "a: &a {name: x, actions: []}\nERT: {tables: [" + "*a, " * 100_001 + "]}"}, "at most 100000 entries"),
        ({"ert": "[" * 4_000_000}, "ERT.yaml: content: expected YAML, found nesting deeper than 32"),
        ({"ert": " " * (5 << 20)}, "ERT.yaml: size: expected at most"),
        ({"art": ART.replace("332.25", "wide")}, "ART.yaml: tables.0.area"),
        ({"art": ERT}, "ART.yaml: content: expected ART.tables"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(tmp_path: Path, changes: dict[str, str | bytes], message: str) -> None:
    ert, mapping, art = write(tmp_path, **changes)  # type: ignore[arg-type]
    with pytest.raises(SimulatorError, match=message):
        import_table(ert, mapping, art)
    out = tmp_path / "own.toml"
    arguments = ["import-energy", str(ert), "--mapping", str(mapping), "--areas", str(art), "--out", str(out)]
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stderr.count("\n"), out.exists()) == (2, 1, False)


@pytest.mark.parametrize("out", ["own.yaml", "nowhere/own.toml"])
def test_a_place_that_cannot_be_named_is_refused(tmp_path: Path, out: str) -> None:
    ert, mapping, art = write(tmp_path)
    arguments = [
        "import-energy",
        str(ert),
        "--mapping",
        str(mapping),
        "--areas",
        str(art),
        "--out",
        str(tmp_path / out),
    ]
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)


def test_what_is_read_is_not_written_over(tmp_path: Path) -> None:
    ert, mapping, _ = write(tmp_path, mapping=MAP)
    before = mapping.read_bytes()
    done = CliRunner().invoke(main, ["import-energy", str(ert), "--mapping", str(mapping), "--out", str(mapping)])
    assert (done.exit_code, done.stderr.count("\n"), mapping.read_bytes()) == (2, 1, before)


def test_areas_of_a_mapping_ask_for_an_area_table(tmp_path: Path) -> None:
    ert, mapping, _ = write(tmp_path)
    with pytest.raises(SimulatorError, match=r"map.toml: areas: expected an area reference table"):
        import_table(ert, mapping)
