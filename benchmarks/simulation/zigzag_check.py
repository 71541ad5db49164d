"""Matrix products of BERT-base on the same machines: our figures and those of ZigZag, and what sets them apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import click

from benchmarks.simulation.environment import answers, make_environment
from benchmarks.simulation.matrix_product import Cost, cost_of
from benchmarks.simulation.summary import merge_summary
from benchmarks.simulation.zigzag_description import UNROLLED, describe, port_bits
from hwsim.config import Accelerator, Dataflow, read_accelerator
from hwsim.energy.prices import Level
from hwsim.schedule.memory import TERNARY_BITS
from hwsim.schedule.tiling import Product

VERSION = "3.9.1"
REQUIREMENTS = (f"zigzag-dse=={VERSION}", "six>=1.16")  # which it imports and does not ask for
ENVIRONMENT = Path("build/zigzag")
RUNNER = Path(__file__).with_name("zigzag_runner.py")
PRESETS = ("wearable", "phone")
SHAPES = ((128, 768, 768), (128, 768, 3072), (128, 3072, 768), (37, 768, 768), (1, 768, 768))  # M, K, N
NONZERO_FRACTION = 0.6
# Where a memory's traffic is found: an operand's levels end with its buffer and DRAM.
MEMORIES = {Level.WEIGHT_BUFFER: ("W", -2), Level.ACTIVATION_BUFFER: ("IO", -2), Level.DRAM: ("IWO", -1)}
RATIOS = ("cycles", "array_cycles", "dynamic_energy", *(level.value for level in MEMORIES))


@dataclass(frozen=True)
class Case:
    """One product on one machine, all operands in DRAM at first, the output there at last."""

    product: Product
    accelerator: Accelerator

    @property
    def shape(self) -> str:
        """M x K x N."""
        return f"{self.product.m} x {self.product.k} x {self.product.n}"


def all_cases() -> list[Case]:
    """Return every shape on every preset, in the dataflows that a mapping of ZigZag's names by what it unrolls."""
    return [
        Case(
            Product(m, k, n, TERNARY_BITS, streams_weights=True, input_bytes=m * k, output_bytes=4 * m * n),
            read_accelerator(preset).model_copy(update={"dataflow": dataflow}),
        )
        for preset, dataflow, (m, k, n) in itertools.product(PRESETS, UNROLLED, SHAPES)
    ]


def filling_and_draining_cycles(case: Case, cost: Cost) -> int:
    """Return what our closed form adds to the cycles in which operands stream: fill and drain for every fold."""
    product, tiling, array = case.product, cost.tiling, case.accelerator
    rows, columns = array.array_rows, array.array_columns

    def folds(whole: int, tile: int, elements: int) -> int:
        return sum(ceil(min(tile, whole - first) / elements) for first in range(0, whole, tile))

    over_columns = folds(product.n, tiling.n, columns)
    if array.dataflow is Dataflow.WEIGHT_STATIONARY:
        return ceil(product.m / tiling.m) * folds(product.k, tiling.k, rows) * over_columns * (2 * rows + columns - 2)
    slices = ceil(product.k / tiling.k)
    spatial = folds(product.m, tiling.m, rows) * over_columns
    # A slice of K beyond the first shifts the sums so far back in, a row a cycle.
    return spatial * (slices * (rows + columns - 2) + (slices - 1) * rows)


def beside(case: Case, ours: Cost, theirs: dict[str, Any]) -> dict[str, Any]:
    """Return both sides' figures of one case, and ratios of ours over theirs."""
    moved, bits = ours.moved.as_dict(), port_bits(case.accelerator)
    ours_bytes = {level.value: moved[f"{level}_read"] + moved[f"{level}_write"] for level in MEMORIES}
    theirs_bytes = {
        level.value: sum(sum(theirs["words"][operand][depth].values()) for operand in held) * bits[level.value] / 8
        for level, (held, depth) in MEMORIES.items()
    }
    pairs = {
        "cycles": (ours.cycles, theirs["cycles"]),
        "array_cycles": (ours.compute_cycles, theirs["temporal_cycles"]),
        "dynamic_energy": (sum(ours.energy_pj[level] for level in (Level.ARRAY, *MEMORIES)), theirs["energy_pj"]),
        **{level: (ours_bytes[level], theirs_bytes[level]) for level in ours_bytes},
    }
    elements = case.accelerator.array_rows * case.accelerator.array_columns
    return {
        "preset": case.accelerator.name,
        "dataflow": case.accelerator.dataflow.value,
        "shape": case.shape,
        "cycles": ours.cycles,
        "zigzag_cycles": theirs["cycles"],
        "utilisation": ours.macs / (ours.cycles * elements),
        "zigzag_utilisation": theirs["ideal_cycles"] / theirs["cycles"],
        "ours_over_zigzag": {name: one / other for name, (one, other) in pairs.items()},
        "array_cycles_unexplained": ours.compute_cycles
        - theirs["temporal_cycles"]
        - filling_and_draining_cycles(case, ours),
        "zigzag_waiting_cycles": {
            what: theirs[f"{what}_cycles"] for what in ("stall", "loading", "unloading", "drain")
        },
    }


def ranges(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return the least and the greatest ratio by dataflow."""
    return {
        dataflow.value: {
            name: [
                pick(row["ours_over_zigzag"][name] for row in rows if row["dataflow"] == dataflow)
                for pick in (min, max)
            ]
            for name in RATIOS
        }
        for dataflow in UNROLLED
    }


@click.command()
@click.option("--environment", type=click.Path(path_type=Path), default=ENVIRONMENT, show_default=True)
def main(environment: Path) -> None:
    """Run all cases through both, print them, and put figures and ratios into summary.json."""
    cases = all_cases()
    costs = [cost_of(case.product, case.accelerator, NONZERO_FRACTION) for case in cases]
    questions = [
        # The array's energy is ours on both sides, so that what differs is movement.
        describe(case.product, case.accelerator, cost.energy_pj[Level.ARRAY] / cost.macs)
        for case, cost in zip(cases, costs, strict=True)
    ]
    theirs = answers(make_environment(environment, REQUIREMENTS), RUNNER, questions)
    rows = [beside(*one) for one in zip(cases, costs, theirs, strict=True)]
    click.echo("ours over ZigZag's:")
    for row in rows:
        ratios = "  ".join(f"{name} {ratio:.2f}" for name, ratio in row["ours_over_zigzag"].items())
        click.echo(f"{row['preset']:9s} {row['dataflow']:18s} {row['shape']:16s} {ratios}")
    merge_summary(
        zigzag_version=VERSION,
        zigzag_cases=len(rows),
        zigzag_array_cycle_mismatches=sum(row["array_cycles_unexplained"] != 0 for row in rows),
        zigzag_ratio_ranges=ranges(rows),
        zigzag=rows,
        zigzag_s=sum(answer["seconds"] for answer in theirs),
    )


if __name__ == "__main__":
    main()
