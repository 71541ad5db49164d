"""The rows of our SRAM tables against CACTI 7 run again, and against the figures of Horowitz, which are not CACTI's."""

from __future__ import annotations

from math import isclose
from pathlib import Path

import click

from benchmarks.simulation.environment import answers, make_environment
from benchmarks.simulation.summary import merge_summary
from benchmarks.simulation.zigzag_check import ENVIRONMENT, REQUIREMENTS
from hwsim.config import read_accelerator
from hwsim.energy.prices import prices
from hwsim.units.actions import Action

RUNNER = Path(__file__).with_name("cacti_runner.py")
TABLES = tuple(f"sram_{node}nm_{cell}" for node in (22, 32, 45) for cell in ("hp", "lop", "lstp"))
CAPACITIES_BYTES = tuple(1 << exponent for exponent in range(13, 23))
ACTIONS = {
    "sram_read": Action.WEIGHT_BUFFER_READ_BIT,
    "sram_write": Action.WEIGHT_BUFFER_WRITE_BIT,
    "sram_leakage": Action.WEIGHT_BUFFER_LEAKAGE_NS,
}
# Horowitz, ISSCC 2014, 45 nm: picojoules of a 64-bit read by capacity.
HOROWITZ_PJ = {8 << 10: 10.0, 32 << 10: 20.0, 1 << 20: 100.0}
HOROWITZ_TABLES = tuple(table for table in TABLES if "45nm" in table)
DIGITS = 5e-4  # relative: the tables give four digits


def tabulated(table: str) -> dict[int, dict[str, float]]:
    """Return what a table says of each macro, by its bytes."""
    found: dict[int, dict[str, float]] = {}
    for size in CAPACITIES_BYTES:
        buffer = read_accelerator("wearable").model_copy(
            update={"weight_buffer_bytes": size, "energy_tables": ("logic_45nm", table, "dram_lpddr4")}
        )
        price = prices(buffer)
        capacity = price[ACTIONS["sram_read"]].row.capacity_bytes
        assert capacity is not None, f"{table}: an SRAM row without a capacity"
        found[capacity] = {name: price[action].row.value for name, action in ACTIONS.items()}
    return found


@click.command()
@click.option("--environment", type=click.Path(path_type=Path), default=ENVIRONMENT, show_default=True)
def main(environment: Path) -> None:
    """Run CACTI for every macro of the tables, and put into summary.json how many rows differ from it."""
    ours = {table: tabulated(table) for table in TABLES}
    macros = [(table, capacity) for table, rows in ours.items() for capacity in rows]
    questions = [
        {
            "capacity_bytes": capacity,
            "node_um": int(table.split("_")[1].removesuffix("nm")) / 1000,
            "cell": table.split("_")[2],
        }
        for table, capacity in macros
    ]
    theirs = answers(make_environment(environment, REQUIREMENTS), RUNNER, questions)
    pairs = [
        (f"{table} {capacity} {name}", ours[table][capacity][name], values[name])
        for (table, capacity), values in zip(macros, theirs, strict=True)
        for name in ACTIONS
    ]
    wrong = [pair for pair in pairs if not isclose(pair[1], pair[2], rel_tol=DIGITS)]
    merge_summary(
        cacti_rows=len(pairs),
        cacti_row_mismatches=len(wrong),
        cacti_over_horowitz={
            table: {str(size): 64 * ours[table][size]["sram_read"] / pj for size, pj in HOROWITZ_PJ.items()}
            for table in HOROWITZ_TABLES
        },
    )
    click.echo(f"{len(pairs)} rows, {len(wrong)} differ from CACTI")
    for name, one, other in wrong:
        click.echo(f"  {name}: table {one}, CACTI {other:.4g}")


if __name__ == "__main__":
    main()
