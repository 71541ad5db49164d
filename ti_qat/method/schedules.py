"""Methods of training a student, and the steps at which the teacher intervenes.

Kim et al.: Teacher Intervention, improving convergence of quantization aware training for ultra-low
precision transformers (EACL 2023). Where the teacher intervenes depends on the seed and the global step
alone, so a resumed run intervenes exactly as the uninterrupted one. Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

_log = logging.getLogger(__name__)


class InterventionPoint(StrEnum):
    """What of the student's attention the teacher replaces."""

    ATTENTION_MAP = "attention_map"  # TI-M: the probabilities, before dropout and quantiser
    CONTEXT = "context"  # TI-C: probabilities times values, the input of the output projection
    OUTPUT = "output"  # TI-O: the output projection's result, before dropout, residual and LayerNorm


class Method(StrEnum):
    """How the student is trained."""

    TI_G = "ti-g"  # gradual: output, then context, then attention map
    TI_INVERTED = "ti-inverted"  # attention map, then context, then output
    TI_STOCHASTIC = "ti-stochastic"  # one of the three at random, anew at every step
    TI_M = "ti-m"
    TI_C = "ti-c"
    TI_O = "ti-o"
    KD = "kd"  # distillation without intervention
    GRADUAL_LAMBDA = "gradual-lambda"  # distillation without intervention, quantised little by little
    NONE = "none"  # cross-entropy with the labels only

    @property
    def distils(self) -> bool:
        """Whether the teacher's values enter the loss."""
        return self is not Method.NONE

    @property
    def intervenes(self) -> bool:
        """Whether the teacher's values enter the student's attention."""
        return self.value.startswith("ti-")


class Schedule(Protocol):
    """Says where the teacher intervenes at a step."""

    def point(self, step: int) -> InterventionPoint | None:
        """Return the point of intervention at the 0-based `step`, None for none."""
        ...


@dataclass(frozen=True)
class ConstantSchedule:
    """One point for the first `steps` steps."""

    where: InterventionPoint | None
    steps: int

    def point(self, step: int) -> InterventionPoint | None:
        """Return the one point, None from `steps` on."""
        return self.where if step < self.steps else None


@dataclass(frozen=True)
class GradualSchedule:
    """TI-G: the output for the first sixth of `steps`, the context to a third, the attention map to the end."""

    steps: int

    def point(self, step: int) -> InterventionPoint | None:
        """Return the point that `step` falls to, None from `steps` on."""
        if step >= self.steps:
            return None
        if 6 * step < self.steps:
            return InterventionPoint.OUTPUT
        if 3 * step < self.steps:
            return InterventionPoint.CONTEXT
        return InterventionPoint.ATTENTION_MAP


@dataclass(frozen=True)
class InvertedSchedule:
    """The attention map for the first third of `steps`, the context to two thirds, the output to the end."""

    steps: int

    def point(self, step: int) -> InterventionPoint | None:
        """Return the point that `step` falls to, None from `steps` on."""
        if step >= self.steps:
            return None
        if 3 * step < self.steps:
            return InterventionPoint.ATTENTION_MAP
        if 3 * step < 2 * self.steps:
            return InterventionPoint.CONTEXT
        return InterventionPoint.OUTPUT


@dataclass(frozen=True)
class StochasticSchedule:
    """One of the three points at each of the first `steps` steps, all equally likely."""

    steps: int
    seed: int

    def point(self, step: int) -> InterventionPoint | None:
        """Return the point drawn for `step`, None from `steps` on."""
        if step >= self.steps:
            return None
        # A hash and no generator: there is no state to save, and no library version in the draw.
        digest = hashlib.sha256(f"intervention {self.seed} {step}".encode()).digest()
        return tuple(InterventionPoint)[int.from_bytes(digest, "little") % len(InterventionPoint)]


@dataclass(frozen=True)
class GradualLambda:
    """How much of the quantisation error the student works with: none of it at first, all from `steps` on.

    Mekkouri et al.: Fine-tuning LLMs to 1.58bit (2024).
    """

    steps: int

    def share(self, step: int) -> float:
        """Return lambda at the 0-based `step`."""
        return min(step / self.steps, 1.0)


_CONSTANT = {
    Method.TI_M: InterventionPoint.ATTENTION_MAP,
    Method.TI_C: InterventionPoint.CONTEXT,
    Method.TI_O: InterventionPoint.OUTPUT,
}


def schedule_for(method: Method, steps: int, seed: int) -> Schedule:
    """Return the schedule of `method` whose intervention ends after `steps` steps; `seed` is for random draws."""
    match method:
        case Method.TI_G:
            return GradualSchedule(steps)
        case Method.TI_INVERTED:
            return InvertedSchedule(steps)
        case Method.TI_STOCHASTIC:
            return StochasticSchedule(steps, seed)
        case _:
            return ConstantSchedule(_CONSTANT.get(method), steps)


def warn_of_idleness(method: Method, intervention_steps: int, gradual_lambda_steps: int, steps: int) -> None:
    """Say so in the log where `method` does nothing, or not all that it is for, in a run of `steps` steps."""
    if method.intervenes and intervention_steps == 0:
        _log.warning(
            "%s: the teacher intervenes at no step of %d: raise epochs, intervention_fraction or intervention_steps,"
            " or choose kd",
            method,
            steps,
        )
    if method is Method.GRADUAL_LAMBDA and steps < gradual_lambda_steps:
        _log.warning(
            "%s: lambda ends at %.2f and not at 1, for the run has %d steps: lower gradual_lambda_steps, now %d,"
            " or raise epochs",
            method,
            GradualLambda(gradual_lambda_steps).share(steps - 1),
            steps,
            gradual_lambda_steps,
        )


def phase(schedule: Schedule, step: int) -> str:
    """Return what the training log calls the intervention at `step`: its point, `stochastic` or `none`."""
    point = schedule.point(step)
    if point is None:
        return "none"
    # Lines of the log stand for several steps; one draw among them says nothing about the others.
    return "stochastic" if isinstance(schedule, StochasticSchedule) else point.value
