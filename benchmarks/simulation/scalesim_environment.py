"""SCALE-Sim 3.0.0 in an environment of its own, since it needs an older NumPy than this project."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

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


def make_environment(folder: Path) -> Path:
    """Create the environment unless it is there; return its Python."""
    python = folder / "bin" / "python"
    if not python.is_file():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
    return python


def run(python: Path, cases: Sequence[Case]) -> list[Result]:
    """Run `cases` one after the other in one process."""
    told = json.dumps([asdict(case) | {"dataflow": _DATAFLOWS[case.dataflow]} for case in cases])
    done = subprocess.run(
        [python.absolute(), "-I", _RUNNER.absolute()], input=told, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"SCALE-Sim ended with status {done.returncode}")
    return [Result(**result) for result in json.loads(done.stdout)]
