"""What an average inference costs on one accelerator, as named figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import fsum, isfinite
from typing import Any

from hwsim.config import Accelerator, Profile
from hwsim.design import evaluate_inference
from hwsim.errors import SimulatorError
from hwsim.schedule.execution import Inference
from hwsim.widths import FixedWidths
from ti_qat.artifact.encoder import build_encoder
from ti_qat.artifact.schema import EncoderShape, Quantization

Figure = bool | int | float | None
Figures = Mapping[str, Figure]


@dataclass(frozen=True)
class Workload:
    """What is inferred: sentences of some lengths by a model of some shape.

    `sentences` are pairs (tokens, how many of that length), `nonzero` pairs (ternary linear, its nonzero weights).
    """

    shape: EncoderShape
    quantization: Quantization
    sentences: tuple[tuple[int, int], ...]
    nonzero: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Candidate:
    """An accelerator in one of its profiles."""

    accelerator: Accelerator
    profile: Profile


@dataclass(frozen=True)
class Cost:
    """The figures of a candidate, or the reason why there are none."""

    figures: dict[str, Figure]
    failure: str | None = None


def cost_of_each(workload: Workload, candidates: Sequence[Candidate]) -> list[Cost]:
    """Return the cost of every candidate, in their order; one that cannot be evaluated does not stop the others."""
    costs = []
    for candidate in candidates:
        try:
            costs.append(Cost(cost(workload, candidate)))
        except SimulatorError as error:
            costs.append(Cost({}, str(error)))
    return costs


def cost(workload: Workload, candidate: Candidate) -> dict[str, Figure]:
    """Return the figures of an average inference: every numeric field of a DesignPoint, by name.

    Numbers are means over the sentences, statements hold where they hold for all, and the entries of a
    field that is a table are named `field.entry`. Raises SimulatorError.
    """
    inferences = _inferences(workload, candidate.accelerator.widths_of(candidate.profile))
    points = [figures_of(asdict(evaluate_inference(each, candidate.accelerator))) for each in inferences]
    counts = [count for _, count in workload.sentences]
    return {name: _mean([point[name] for point in points], counts) for name in points[0]}


def figures_of(fields: Mapping[str, Any], parent: str = "") -> dict[str, Figure]:
    """Return the numbers, statements and gaps among `fields`, those of tables within as `field.entry`.

    What is no finite number is a gap, None: JSON has no other word for it.
    """
    figures: dict[str, Figure] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            figures |= figures_of(value, f"{parent}{name}.")
        elif value is None or isinstance(value, bool | int | float):
            figures[parent + name] = value if value is None or isfinite(value) else None
    return figures


def _mean(values: Sequence[Figure], counts: Sequence[int]) -> Figure:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    if all(isinstance(value, bool) for value in known):
        return all(known)
    if len(set(known)) == 1:
        return known[0]
    return fsum(value * count for value, count in zip(known, counts, strict=True)) / sum(counts)


@lru_cache(maxsize=64)
def _inferences(workload: Workload, fixed: FixedWidths | None) -> tuple[Inference, ...]:
    """Describe the sentences once for all accelerators."""
    encoder = build_encoder(workload.shape, workload.quantization)
    nonzero = dict(workload.nonzero)
    return tuple(Inference.of(encoder, tokens, nonzero, fixed) for tokens, _ in workload.sentences)
