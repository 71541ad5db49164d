"""SCALE-Sim 3.0.0 in an environment of its own, since it needs an older NumPy than this project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.simulation.environment import answers
from hwsim.config import Dataflow

VERSION = "3.0.0"
REQUIREMENTS = ("numpy==1.26.*", f"scalesim=={VERSION}")
ENVIRONMENT = Path("build/scalesim")
_RUNNER = Path(__file__).with_name("scalesim_runner.py")
_DATAFLOWS = {
    Dataflow.WEIGHT_STATIONARY: "ws",
    Dataflow.OUTPUT_STATIONARY: "os",
    Dataflow.INPUT_STATIONARY: "is",
}


@dataclass(frozen=True)
class Case:
    """x (M, K) times weight (N, K) on an array."""

    m: int
    k: int
    n: int
    rows: int
    columns: int
    dataflow: Dataflow


@dataclass(frozen=True)
class Result:
    """What SCALE-Sim reports: cycles, accesses of its SRAMs in elements, and how long it took."""

    cycles: int
    input_reads: int
    weight_reads: int
    output_writes: int
    seconds: float


def run(python: Path, cases: Sequence[Case]) -> list[Result]:
    """Run `cases` one after the other in one process."""
    told = [asdict(case) | {"dataflow": _DATAFLOWS[case.dataflow]} for case in cases]
    return [Result(**result) for result in answers(python, _RUNNER, told)]
