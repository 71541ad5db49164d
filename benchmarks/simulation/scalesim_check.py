"""Our closed forms against SCALE-Sim, product by product: cycles must be equal, access counts are explained.

Writes every case with what SCALE-Sim said into a CSV file, which the tests hold the closed forms to.
"""

from __future__ import annotations

import csv
from math import ceil
from pathlib import Path

import click

from benchmarks.simulation.environment import make_environment
from benchmarks.simulation.scalesim_environment import ENVIRONMENT, REQUIREMENTS, VERSION, Case, Result, run
from benchmarks.simulation.summary import merge_summary
from hwsim.config import Dataflow
from hwsim.schedule.timing import gemm_cycles

CASES_FILE = Path(__file__).parents[2] / "tests" / "data" / "scalesim_cases.csv"
# (M, K, N), rows x columns: exact fits, one over and one under them, one-line arrays, a Transformer's shapes. Not a
# single multiply-accumulate on a single element: SCALE-Sim calls that cycle 0 and divides by it.
SHAPES = (
    ((1, 2, 1), (1, 1)), ((1, 1, 1), (4, 4)), ((3, 5, 7), (1, 1)), ((3, 5, 7), (2, 3)), ((3, 5, 7), (3, 2)),
    ((7, 5, 3), (16, 16)), ((1, 64, 10), (8, 8)), ((1, 33, 17), (16, 16)), ((64, 1, 64), (8, 8)),
    ((5, 7, 1), (4, 1)), ((5, 7, 9), (1, 4)), ((16, 16, 16), (16, 16)), ((17, 16, 15), (16, 16)),
    ((15, 17, 16), (16, 16)), ((31, 33, 32), (8, 16)), ((32, 31, 33), (16, 8)), ((13, 29, 11), (5, 7)),
    ((29, 11, 13), (7, 5)), ((40, 24, 56), (3, 11)), ((9, 96, 37), (16, 16)), ((128, 64, 128), (32, 32)),
    ((128, 128, 64), (32, 32)), ((24, 312, 312), (64, 64)), ((37, 192, 100), (12, 20)), ((128, 256, 192), (64, 64)),
    ((1, 768, 3), (16, 16)), ((1, 24, 61), (1, 64)), ((19, 24, 37), (8, 8)), ((19, 37, 24), (8, 8)),
    ((19, 8, 19), (8, 8)), ((2, 2, 2), (2, 2)), ((3, 2, 2), (2, 2)), ((2, 3, 2), (2, 2)), ((2, 2, 3), (2, 2)),
    ((1, 1, 65), (4, 64)), ((65, 1, 1), (64, 4)), ((1, 65, 1), (64, 4)), ((63, 64, 65), (64, 64)),
    ((65, 63, 64), (64, 64)), ((64, 65, 63), (64, 64)), ((7, 100, 11), (1, 16)), ((7, 100, 11), (16, 1)),
    ((11, 7, 100), (2, 31)), ((100, 11, 7), (31, 2)), ((33, 34, 35), (6, 10)), ((128, 96, 33), (96, 4)),
    ((48, 864, 96), (128, 96)), ((16, 40, 24), (5, 1)), ((16, 40, 24), (1, 5)), ((50, 17, 129), (16, 128)),
    ((12, 200, 5), (128, 128)),
)  # fmt: skip


def all_cases() -> list[Case]:
    """Return every shape in every dataflow."""
    return [Case(*shape, *array, dataflow) for shape, array in SHAPES for dataflow in Dataflow]


def our_cycles(case: Case) -> int:
    """Return what the closed form says."""
    return gemm_cycles(case.dataflow, case.m, case.k, case.n, case.rows, case.columns)


def expected_accesses(case: Case) -> tuple[int, int, int]:
    """Return our counts, and what SCALE-Sim adds to them: input reads, weight reads, output writes.

    Partial sums leave the array once a fold of K; under OS SCALE-Sim counts R + C writes a fold too many.
    """
    inputs, weights, outputs = case.m * case.k, case.n * case.k, case.m * case.n
    match case.dataflow:
        case Dataflow.WEIGHT_STATIONARY:
            return inputs * ceil(case.n / case.columns), weights, outputs * ceil(case.k / case.rows)
        case Dataflow.INPUT_STATIONARY:
            return inputs, weights * ceil(case.m / case.columns), outputs * ceil(case.k / case.rows)
        case Dataflow.OUTPUT_STATIONARY:
            row_folds, column_folds = ceil(case.m / case.rows), ceil(case.n / case.columns)
            surplus = row_folds * column_folds * (case.rows + case.columns)
            return inputs * column_folds, weights * row_folds, outputs + surplus


def write_cases(file: Path, cases: list[Case], results: list[Result]) -> None:
    """Write the facts: shapes, and what SCALE-Sim answered."""
    with file.open("w", newline="") as out:
        out.write(f"# SCALE-Sim {VERSION}, CALC mode; written by python -m benchmarks.simulation.scalesim_check\n")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(
            ["dataflow", "m", "k", "n", "rows", "columns", "cycles", "input_reads", "weight_reads", "output_writes"]
        )
        for case, result in zip(cases, results, strict=True):
            writer.writerow(
                [
                    *(case.dataflow.value, case.m, case.k, case.n, case.rows, case.columns),
                    *(result.cycles, result.input_reads, result.weight_reads, result.output_writes),
                ]
            )


@click.command()
@click.option("--environment", type=click.Path(path_type=Path), default=ENVIRONMENT, show_default=True)
@click.option("--cases", "cases_file", type=click.Path(path_type=Path), default=CASES_FILE)
def main(environment: Path, cases_file: Path) -> None:
    """Run all cases, write them down, and put the counts into summary.json."""
    cases = all_cases()
    results = run(make_environment(environment, REQUIREMENTS), cases)
    write_cases(cases_file, cases, results)
    pairs = list(zip(cases, results, strict=True))
    wrong = [(case, result.cycles) for case, result in pairs if result.cycles != our_cycles(case)]
    unexplained = [
        case
        for case, result in pairs
        if (result.input_reads, result.weight_reads, result.output_writes) != expected_accesses(case)
    ]
    merge_summary(
        scalesim_cases=len(cases),
        scalesim_cycle_mismatches=len(wrong),
        scalesim_unexplained_access_counts=len(unexplained),
    )
    click.echo(f"{len(cases)} cases, {len(wrong)} cycle mismatches, {len(unexplained)} unexplained access counts")
    for case, cycles in wrong:
        click.echo(f"  {case}: SCALE-Sim {cycles}, ours {our_cycles(case)}")
    for case in unexplained:
        click.echo(f"  accesses of {case}")


if __name__ == "__main__":
    main()
