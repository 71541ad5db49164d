"""Cycles of one tile: closed forms for the array, lanes for the other units, ports of the buffers for both."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isinf

from hwsim.config import Accelerator, Dataflow

ASSUMPTIONS = (
    "A tile takes the longest of its array cycles and of what crosses each buffer's ports; operands are interleaved "
    "over the banks, so that none conflict. A buffer without a number of banks never holds anything up.",
    "Every tile fills and drains the array; under output stationary, a tile that goes on with partial sums first "
    "shifts them in, a row a cycle.",
    "A non-linear unit takes one element a lane and cycle for every pass over its input, and fills its pipeline once a "
    "pass.",
)


@dataclass(frozen=True)
class OperandCounts:
    """Elements that one product moves between buffers and array."""

    input_reads: int
    weight_reads: int
    partial_sum_writes: int
    partial_sum_reads: int


def gemm_cycles(dataflow: Dataflow, m: int, k: int, n: int, rows: int, columns: int) -> int:
    """Return SCALE-Sim's cycles of x (M, K) times weight (N, K) on a rows x columns systolic array.

    Closed forms of SCALE-Sim 3 (Samajdar et al., ISPASS 2020): folds times (fill + stream + drain),
    less one, since it tells the number of the last cycle and counts from 0.
    """
    return array_cycles(dataflow, m, k, n, rows, columns) - 1


def array_cycles(
    dataflow: Dataflow, m: int, k: int, n: int, rows: int, columns: int, *, cycles_per_step: int = 1
) -> int:
    """Return for how many cycles the array is taken: one more than the number of the last.

    A bit-serial array takes `cycles_per_step` for what a parallel one takes in a cycle; fill and drain stay, since
    neighbours start one cycle after the other either way.
    """
    fill_and_drain = 2 * rows + columns - 2
    match dataflow:
        case Dataflow.WEIGHT_STATIONARY:
            return ceil(k / rows) * ceil(n / columns) * (m * cycles_per_step + fill_and_drain)
        case Dataflow.OUTPUT_STATIONARY:
            return ceil(m / rows) * ceil(n / columns) * (k * cycles_per_step + fill_and_drain - rows)
        case Dataflow.INPUT_STATIONARY:
            return ceil(k / rows) * ceil(m / columns) * (n * cycles_per_step + fill_and_drain)


def operand_counts(
    dataflow: Dataflow, m: int, k: int, n: int, rows: int, columns: int, *, starts: bool = True, ends: bool = True
) -> OperandCounts:
    """Return what one product moves; as a slice of K it `starts` or `ends` the sums or goes on with them.

    WS keeps weights and re-reads inputs for every column tile; IS the reverse; OS re-reads both and
    spills no partial sum within a slice. SCALE-Sim's counts, but that it writes every fold's sums, the
    last one's too, and under OS R + C more a fold than there are outputs.
    """
    inputs, weights, outputs = m * k, n * k, m * n
    folds = ceil(k / rows)
    match dataflow:
        case Dataflow.WEIGHT_STATIONARY:
            inputs *= ceil(n / columns)
        case Dataflow.INPUT_STATIONARY:
            weights *= ceil(m / columns)
        case Dataflow.OUTPUT_STATIONARY:
            inputs, weights, folds = inputs * ceil(n / columns), weights * ceil(m / rows), 1
    return OperandCounts(inputs, weights, outputs * (folds - ends), outputs * (folds - starts))


def loading_steps(columns: int, k: int, array_rows: int) -> int:
    """Return how often a register is clocked while (columns, k) operands are shifted in from above, to stay."""
    folds, rest = divmod(k, array_rows)
    return columns * (folds * array_rows * (array_rows + 1) // 2 + rest * (rest + 1) // 2)


def vector_cycles(elements: int, passes: int, accelerator: Accelerator) -> int:
    """Return the cycles of `passes` over `elements` on the lanes."""
    return passes * (ceil(elements / accelerator.vector_lanes) + accelerator.vector_pipeline_cycles)


def port_cycles(moved_bytes: float, bytes_per_cycle: float) -> int:
    """Return the cycles that `moved_bytes` need at a buffer's ports."""
    return 0 if isinf(bytes_per_cycle) else ceil(moved_bytes / bytes_per_cycle)
