"""A sweep made ready: the space file read, its names checked, and what is inferred described."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from hwsim.config import Accelerator, parse_toml, read_accelerator
from hwsim.design import BERT_BASE, STATIC_SCALES, share_of_weights
from hwsim.errors import SimulatorError
from hwsim.exploration.axes import Value, axis_values
from hwsim.exploration.costs import Candidate, Workload, cost
from hwsim.exploration.designs import Axes, check_axes
from hwsim.exploration.space import MAX_POINTS, Space, Workers
from hwsim.exploration.strategies import tries
from hwsim.exploration.values import VALUE_FIGURES
from hwsim.schedule.workload import nonzero_weights
from ti_qat.artifact import io
from ti_qat.artifact.atomic import sha256_of
from ti_qat.artifact.encoder import build_encoder
from ti_qat.artifact.schema import EncoderShape, Frozen

DEFAULT_TOKENS, DEFAULT_NONZERO_FRACTION = 128, 0.6


class Settings(Frozen):
    """All that a sweep's results depend on; two sweeps of equal settings find the same.

    `own_tables` are the SHA-256 of the user's energy tables by path, `sentences` pairs (tokens, how many of
    that length), `rows` how many have their values computed: 0 where no figure asks for values.
    """

    tool_version: str
    space: Space
    accelerator: Accelerator
    own_tables: dict[str, str]
    artifact_digest: str | None
    shape: EncoderShape
    sentences: tuple[tuple[int, int], ...]
    rows: int

    def as_json(self) -> str:
        """Return the settings as JSON; who evaluates is none of them."""
        return self.model_dump_json(by_alias=True, exclude={"space": {"workers"}}, indent=2) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 of the settings, in hexadecimal."""
        return hashlib.sha256(self.as_json().encode()).hexdigest()


@dataclass(frozen=True)
class Plan:
    """A sweep made ready. `artifact_dir` is None where a shape stands for an artifact."""

    source: str
    settings: Settings
    axes: Axes
    workload: Workload
    workers: Workers
    artifact_dir: Path | None

    @property
    def base(self) -> Candidate:
        """What the axes do not set."""
        return Candidate(self.settings.accelerator, self.settings.space.profile)

    @property
    def tries(self) -> int:
        """How many designs are tried."""
        return tries(self.settings.space.strategy, self.axes)


def prepare(space_file: Path, artifact_dir: Path | None) -> Plan:
    """Read and check all that a sweep needs. Raises SimulatorError or ArtifactError, naming the field."""
    source, space = str(space_file), parse_toml(space_file, Space)
    base = read_accelerator(str(_beside(space_file, space.accelerator)))
    axes = {name: tuple(_beside(space_file, value) for value in axis_values(axis)) for name, axis in space.axes.items()}
    check_axes(source, axes, base)
    if tries(space.strategy, axes) > MAX_POINTS:
        found = f"{tries(space.strategy, axes):,}; the strategies random and optuna try a part of them"
        raise SimulatorError(source, "axes", expected=f"at most {MAX_POINTS:,} designs", found=found)
    artifact = None if artifact_dir is None else io.load(artifact_dir)
    workload = _of_shape(source, space) if artifact is None else _of_artifact(source, space, artifact)
    of_base = cost(workload, Candidate(base, space.profile))
    known = tuple(of_base)
    _check_asked(source, space, known if artifact is None else (*known, *VALUE_FIGURES))
    for name in space.objectives:
        if name in of_base and of_base[name] is None and "energy_tables" not in axes:
            found = "none: the accelerator's tables lack what it takes"
            raise SimulatorError(source, f"objectives.{name}", expected="a figure that designs have", found=found)
    settings = Settings(
        tool_version=metadata.version("ti-qat"),
        space=space.model_copy(update={"workers": Workers()}),
        accelerator=base,
        own_tables=_own_tables(base, axes),
        artifact_digest=None if artifact is None else artifact.digest,
        shape=workload.shape,
        sentences=workload.sentences,
        rows=_rows(space, artifact) if artifact is not None and _asks_for_values(space) else 0,
    )
    return Plan(source, settings, axes, workload, space.workers, artifact_dir)


def _beside(space_file: Path, value: Value) -> Value:
    """Return a file's name as the space file means it, from its own folder, and any other value as it is."""
    if isinstance(value, tuple):
        return tuple(str(_beside(space_file, each)) for each in value)
    return str(space_file.parent / value) if isinstance(value, str) and value.endswith(".toml") else value


def _own_tables(base: Accelerator, axes: Axes) -> dict[str, str]:
    choices = (base.energy_tables, *axes.get("energy_tables", ()))
    names = {name for choice in choices if isinstance(choice, tuple) for name in choice}
    return {name: sha256_of(Path(name)) for name in sorted(names) if Path(name).is_file()}


def _of_shape(source: str, space: Space) -> Workload:
    if space.limit is not None:
        raise SimulatorError(source, "limit", expected="none without an artifact", found=str(space.limit))
    shape, tokens = space.shape or BERT_BASE, space.tokens or DEFAULT_TOKENS
    _check_tokens(source, tokens, shape)
    fraction = DEFAULT_NONZERO_FRACTION if space.nonzero_fraction is None else space.nonzero_fraction
    nonzero = share_of_weights(build_encoder(shape, STATIC_SCALES), fraction)
    return Workload(shape, STATIC_SCALES, ((tokens, 1),), tuple(nonzero.items()))


def _of_artifact(source: str, space: Space, artifact: io.Artifact) -> Workload:
    for field in ("shape", "nonzero_fraction"):
        if getattr(space, field) is not None:
            raise SimulatorError(source, field, expected="none beside an artifact, which has its own", found="one")
    header = artifact.header
    lengths = Counter(artifact.evaluation.lengths[: _rows(space, artifact)].tolist())
    if space.tokens is not None:
        _check_tokens(source, space.tokens, header.encoder)
        lengths = Counter({space.tokens: 1})
    nonzero = nonzero_weights(artifact.encoder, artifact.parameters)
    return Workload(header.encoder, header.quantization, tuple(sorted(lengths.items())), tuple(nonzero.items()))


def _check_tokens(source: str, tokens: int, shape: EncoderShape) -> None:
    if tokens > shape.positions:
        raise SimulatorError(source, "tokens", expected=f"at most {shape.positions} positions", found=str(tokens))


def _rows(space: Space, artifact: io.Artifact) -> int:
    return min(space.limit or artifact.evaluation.rows, artifact.evaluation.rows)


def _asks_for_values(space: Space) -> bool:
    return not space.asked_figures.keys().isdisjoint(VALUE_FIGURES)


def _check_asked(source: str, space: Space, known: tuple[str, ...]) -> None:
    """Raise SimulatorError where an objective or a constraint is of a figure that no point will have."""
    for name, where in space.asked_figures.items():
        if name not in known:
            found = f"{name}, which needs an artifact" if name in VALUE_FIGURES else name
            raise SimulatorError(source, where, expected=f"one of {', '.join(known)}", found=found)
