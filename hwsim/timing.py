"""Cycles: SCALE-Sim's closed forms for the array, lanes for the other units, stalls for DRAM."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from hwsim.config import Accelerator, Dataflow
from hwsim.memory import Traffic
from hwsim.workload import Work

ASSUMPTIONS = (
    "Operations run one after the other; a head's attention product is one GEMM on the whole array.",
    "Tiles are double buffered: an operation takes the longer of its computation and its DRAM transfers.",
    "The first DRAM latency of an inference is exposed, later ones are hidden behind prefetching.",
    "The buffers feed the array at full rate, and the output stage drains it without a stall.",
    "A non-linear unit takes one element a lane and cycle, for every pass over its input.",
)


@dataclass(frozen=True)
class OperationCycles:
    """Cycles that an operation computes and transfers; it takes the longer of the two."""

    compute: int
    transfer: int

    @property
    def total(self) -> int:
        """Cycles until the next operation starts."""
        return max(self.compute, self.transfer)


def gemm_cycles(dataflow: Dataflow, m: int, k: int, n: int, rows: int, columns: int) -> int:
    """Return the cycles of x (M, K) times weight (N, K) on a rows x columns systolic array.

    Closed forms of SCALE-Sim 3 (Samajdar et al., ISPASS 2020), its count from cycle 0 included:
    folds times (fill + stream + drain), less one.
    """
    fill_and_drain = 2 * rows + columns - 2
    match dataflow:
        case Dataflow.WEIGHT_STATIONARY:
            return ceil(k / rows) * ceil(n / columns) * (m + fill_and_drain) - 1
        case Dataflow.OUTPUT_STATIONARY:
            return ceil(m / rows) * ceil(n / columns) * (k + fill_and_drain - rows) - 1
        case Dataflow.INPUT_STATIONARY:
            return ceil(k / rows) * ceil(m / columns) * (n + fill_and_drain) - 1


def operation_cycles(step: Work, moved: Traffic, accelerator: Accelerator) -> OperationCycles:
    """Return the cycles of one operation."""
    if step.gemm is not None:
        gemm = step.gemm
        once = gemm_cycles(
            accelerator.dataflow, gemm.m, gemm.k, gemm.n, accelerator.array_rows, accelerator.array_columns
        )
        compute = once * gemm.count
    else:
        compute = ceil(step.elements / accelerator.vector_lanes) * step.passes
    seconds = (moved.dram_read + moved.dram_write) / accelerator.dram_bandwidth_bytes_per_s
    return OperationCycles(compute, ceil(seconds * accelerator.clock_hz))


def first_latency_cycles(accelerator: Accelerator) -> int:
    """Return the cycles until the first byte arrives from DRAM."""
    return ceil(accelerator.dram_latency_ns * 1e-9 * accelerator.clock_hz)
