"""The figures that need values: an artifact's score on an accelerator, once for all that compute alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hwsim.config import Accelerator, Profile
from hwsim.errors import SimulatorError
from hwsim.exploration.costs import Candidate, Cost, figures_of
from hwsim.simulate import simulate
from ti_qat.artifact import io

VALUE_FIGURES = ("score", "label_agreement", "overflow_events")
VALUE_FIELDS = {
    Profile.EXACT: ("accumulator_bits", "accumulator_overflow"),
    Profile.FIXED: ("accumulator_bits", "accumulator_overflow", "fixed"),
}


@dataclass(frozen=True)
class ValueTask:
    """What is to be simulated, and on which rows of which artifact."""

    candidate: Candidate
    artifact_dir: Path
    artifact_digest: str
    rows: int


def simulate_values(task: ValueTask, on_rows: Callable[[int], None] = lambda rows: None) -> Cost:
    """Return VALUE_FIGURES, or the reason why there are none; `on_rows` receives the number of rows just done."""
    artifact = _artifact(task.artifact_dir, task.artifact_digest)
    chosen = task.candidate
    try:
        report, _ = simulate(artifact, chosen.accelerator, profile=chosen.profile, limit=task.rows, on_progress=on_rows)
    except SimulatorError as error:
        return Cost({}, str(error))
    return Cost(figures_of({name: getattr(report, name) for name in VALUE_FIGURES}))


def value_class(candidate: Candidate, base: Accelerator) -> Candidate:
    """Return the one that stands for all candidates of the same values: `base` with what changes values."""
    changes = {name: getattr(candidate.accelerator, name) for name in VALUE_FIELDS[candidate.profile]}
    return Candidate(base.model_copy(update=changes), candidate.profile)


@lru_cache(maxsize=1)
def _artifact(path: Path, digest: str) -> io.Artifact:
    artifact = io.load(path)
    if artifact.digest != digest:
        raise SimulatorError(path, "artifact.json", expected=f"the SHA-256 {digest}", found=artifact.digest)
    return artifact
