"""The verb `ti-qat import-energy`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hwsim.energy.accelergy import as_toml, import_table
from hwsim.energy.tables import TableFile
from hwsim.errors import SimulatorError
from ti_qat.artifact.atomic import write_whole


def import_energy_table(ert_file: Path, mapping_file: Path, out_file: Path, art_file: Path | None = None) -> TableFile:
    """Write the table that a mapping makes of Accelergy's reference tables. Raises SimulatorError."""
    if out_file.suffix != ".toml" or not out_file.parent.is_dir() or out_file.is_dir():
        raise SimulatorError(out_file, "--out", expected="a .toml file in a folder that exists", found="another path")
    if out_file.resolve() in {file.resolve() for file in (ert_file, mapping_file, art_file) if file is not None}:
        raise SimulatorError(out_file, "--out", expected="another file than those that are read", found="one of them")
    table = import_table(ert_file, mapping_file, art_file)
    write_whole(out_file, as_toml(table))
    return table


@click.command(name="import-energy", short_help="Make an energy table of Accelergy's reference tables.")
@click.argument("ert", metavar="ERT.yaml", type=click.Path(path_type=Path))
@click.option(
    "--mapping",
    required=True,
    metavar="MAP.toml",
    type=click.Path(path_type=Path),
    help="Which component's action is which of ours; docs/energy.md has an example.",
)
@click.option("--areas", metavar="ART.yaml", type=click.Path(path_type=Path), help="Accelergy's area reference table.")
@click.option("--out", "out_file", required=True, metavar="TABLE.toml", type=click.Path(path_type=Path),
              help="The table to write; an earlier one of that name is replaced.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the table as one JSON object.")
def import_energy(ert: Path, mapping: Path, areas: Path | None, out_file: Path, as_json: bool) -> None:
    """Read an Accelergy energy reference table (0.3 or 0.4) and write a table that `energy_tables` can name.

    \b
    Example:
      ti-qat import-energy ERT.yaml --mapping map.toml --areas ART.yaml --out mychip.toml
    """
    table = import_energy_table(ert, mapping, out_file, areas)
    if as_json:
        click.echo(json.dumps(table.model_dump(mode="json", exclude_none=True)))
        return
    for row in (*table.rows, *table.areas):
        capacity = f" of {row.capacity_bytes:,} bytes" if row.capacity_bytes is not None else ""
        click.echo(f"{row.action}{capacity}: {row.value:g} {row.unit} ({row.note})")
