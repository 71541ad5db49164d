"""The figures that need values: an artifact's score on an accelerator, once for all that compute alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hwsim.config import Accelerator
from hwsim.errors import SimulatorError
from hwsim.exploration.costs import Cost, figures_of
from hwsim.simulate import Profile, simulate
from ti_qat.artifact import io

VALUE_FIGURES = ("score", "label_agreement", "overflow_events")
VALUE_FIELDS = {
    Profile.EXACT: ("accumulator_bits", "accumulator_overflow"),
    Profile.FIXED: ("accumulator_bits", "accumulator_overflow", "fixed"),
}


@dataclass(frozen=True)
class ValueClass:
    """All accelerators that compute the same values: `accelerator` is one of them, told by what changes values."""

    accelerator: Accelerator
    profile: Profile

    @classmethod
    def of(cls, accelerator: Accelerator, profile: Profile, base: Accelerator) -> ValueClass:
        """Return the class of an accelerator that differs from `base`, whose other fields stand for all."""
        changes = {name: getattr(accelerator, name) for name in VALUE_FIELDS[profile]}
        return cls(base.model_copy(update=changes), profile)


@dataclass(frozen=True)
class ValueTask:
    """A value class, and on which rows of which artifact it is to be simulated."""

    value_class: ValueClass
    artifact_dir: Path
    artifact_digest: str
    rows: int


def simulate_values(task: ValueTask, on_rows: Callable[[int], None] = lambda rows: None) -> Cost:
    """Return VALUE_FIGURES, or the reason why there are none; `on_rows` receives the number of rows just done."""
    artifact = _artifact(task.artifact_dir, task.artifact_digest)
    chosen = task.value_class
    try:
        report, _ = simulate(artifact, chosen.accelerator, profile=chosen.profile, limit=task.rows, on_progress=on_rows)
    except SimulatorError as error:
        return Cost({}, str(error))
    return Cost(figures_of({name: getattr(report, name) for name in VALUE_FIGURES}))


@lru_cache(maxsize=1)
def _artifact(path: Path, digest: str) -> io.Artifact:
    artifact = io.load(path)
    if artifact.digest != digest:
        raise SimulatorError(path, "artifact.json", expected=f"the SHA-256 {digest}", found=artifact.digest)
    return artifact
