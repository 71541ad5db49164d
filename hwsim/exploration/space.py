"""The file that describes a sweep: which accelerators, what is wanted of them, and how they are tried."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isfinite
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hwsim.config import Profile
from hwsim.exploration.axes import Axis, flattened
from hwsim.exploration.costs import Figures
from ti_qat.artifact.schema import EncoderShape, Frozen

CLUSTERS = ("dask", "ray")  # backends of many machines
MAX_POINTS = 1_000_000
_CONSTRAINT = re.compile(r"^\s*(?P<figure>[\w.]+)\s*(?P<relation><=|>=|=)\s*(?P<limit>true|false|[-+.\deE]+)\s*$")


class Direction(StrEnum):
    """Which end of a figure is the better one."""

    MINIMISE = "minimise"
    MAXIMISE = "maximise"

    def cost(self, value: float) -> float:
        """Return what is the smaller, the better `value` is."""
        return value if self is Direction.MINIMISE else -value


@dataclass(frozen=True)
class Constraint:
    """What a figure has to keep, such as `area_mm2 <= 2.0` or `weights_resident = true`."""

    figure: str
    relation: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read a constraint as it is written. Raises ValueError."""
        found = _CONSTRAINT.match(text)
        if found is None:
            raise ValueError("FIGURE <= NUMBER, FIGURE >= NUMBER, FIGURE = NUMBER or FIGURE = true|false")
        figure, relation, limit = found.group("figure", "relation", "limit")
        if limit in ("true", "false") and relation != "=":
            raise ValueError(f"= before {limit}")
        number = float({"true": 1, "false": 0}.get(limit, limit))
        if not isfinite(number):
            raise ValueError(f"a finite limit, not {limit}")
        return cls(figure, relation, number)

    def violation(self, figures: Figures) -> float:
        """Return by how much of the limit a point misses it: 0 where it is kept, inf where the figure is unknown."""
        value = figures.get(self.figure)
        if value is None:
            return inf
        excess = value - self.limit
        missed = {"<=": excess, ">=": -excess, "=": abs(excess)}[self.relation]
        return max(0.0, missed / (abs(self.limit) or 1.0))


class Grid(Frozen):
    """Every combination of the axes' values, the last axis varying fastest."""

    kind: Literal["grid"] = "grid"


class RandomChoice(Frozen):
    """`points` different combinations, each as likely as any other; all of them where there are no more."""

    kind: Literal["random"]
    points: Annotated[int, Field(ge=1, le=MAX_POINTS)]
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0


class Guided(Frozen):
    """`trials` combinations that Optuna asks for, `batch` at a time: a generation of NSGA-II, or a stride of TPE."""

    kind: Literal["optuna"]
    trials: Annotated[int, Field(ge=1, le=100_000)]
    sampler: Literal["nsga2", "tpe"] = "nsga2"
    batch: Annotated[int, Field(ge=2, le=1000)] = 32
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0


class Workers(Frozen):
    """Who evaluates: a joblib backend, `jobs` at once (all there are by default), `points_per_task` points a task.

    `address` is that of a cluster's scheduler. Results do not depend on any of it.
    """

    backend: Literal["loky", "threading", "sequential", "dask", "ray"] = "loky"
    jobs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    points_per_task: Annotated[int, Field(ge=1, le=10_000)] = 16
    address: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _only_clusters_have_an_address(self) -> Self:
        if self.address is not None and self.backend not in CLUSTERS:
            raise ValueError(f"an address with {' or '.join(CLUSTERS)} only, not with {self.backend}")
        return self


def _readable(text: str) -> str:
    Constraint.parse(text)
    return text


class Space(Frozen):
    """The content of a space file. docs/exploration.md describes the fields."""

    accelerator: Annotated[str, Field(min_length=1)]
    axes: Annotated[dict[str, Axis], BeforeValidator(flattened), Field(min_length=1)]
    objectives: Annotated[dict[str, Direction], Field(min_length=1)]
    constraints: tuple[Annotated[str, AfterValidator(_readable)], ...] = ()
    strategy: Annotated[Grid | RandomChoice | Guided, Field(discriminator="kind")] = Grid()
    profile: Profile = Profile.EXACT
    limit: Annotated[int, Field(ge=1)] | None = None
    tokens: Annotated[int, Field(ge=1)] | None = None
    nonzero_fraction: Annotated[float, Field(ge=0, le=1)] | None = None
    shape: EncoderShape | None = None
    workers: Workers = Workers()

    @property
    def limits(self) -> tuple[Constraint, ...]:
        """The constraints, read."""
        return tuple(Constraint.parse(text) for text in self.constraints)

    @property
    def asked_figures(self) -> dict[str, str]:
        """The figures that objectives and constraints speak of, and the field of the file that does."""
        asked = {limit.figure: f"constraints.{index}" for index, limit in enumerate(self.limits)}
        return asked | {name: f"objectives.{name}" for name in self.objectives}
