"""Two simulations, or two runs, side by side: figures with their ratios, and where energy and cycles go in each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from hwsim.errors import SimulatorError
from hwsim.estimate import Split
from hwsim.reporting.inputs import read_simulation
from hwsim.reporting.report import JSON_FILE, SIMULATION_FOLDER, Summary, read_summary
from hwsim.simulate import SIMULATION_FILE, Simulation

ALLOWED_BY = "--different-artifacts"
_PAPERWORK = frozenset({"name", "description"})  # an accelerator's fields that change nothing


class Side(BaseModel):
    """What is compared: a folder as it was given, and what was simulated there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    label: str
    accelerator: str
    profile: str
    artifact_digest: str


class Difference(BaseModel):
    """A condition in which the two sides differ, in words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    first: str
    second: str


class ComparedFigure(BaseModel):
    """One figure of both sides; `ratio` is second over first, None where one is missing or the first is 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    unit: str
    first: float | None
    second: float | None
    ratio: float | None

    @classmethod
    def of(cls, name: str, unit: str, first: float | None, second: float | None) -> Self:
        """Return the figure with its ratio."""
        ratio = None if first is None or second is None or first == 0 else second / first
        return cls(name=name, unit=unit, first=first, second=second, ratio=ratio)


class Comparison(BaseModel):
    """The content of comparison.json. `energy_pj` and `cycles` by way (unit, layer, level) list every part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    first: Side
    second: Side
    differences: tuple[Difference, ...]
    figures: tuple[ComparedFigure, ...]
    energy_pj: dict[str, tuple[ComparedFigure, ...]]
    cycles: dict[str, tuple[ComparedFigure, ...]]


def read_side(folder: Path) -> tuple[Simulation, Summary | None]:
    """Read a simulation's folder or a run's; a run brings its summary as well. Raises SimulatorError."""
    if (folder / SIMULATION_FILE).is_file():
        return read_simulation(folder), None
    if (folder / SIMULATION_FOLDER).is_dir():
        summary = read_summary(folder / JSON_FILE) if (folder / JSON_FILE).is_file() else None
        return read_simulation(folder / SIMULATION_FOLDER), summary
    expected = f"the output of `ti-qat simulate` or `ti-qat run`, with {SIMULATION_FILE}"
    raise SimulatorError(folder, "folder", expected=expected, found="none of that name")


def compare(first: Path, second: Path, *, different_artifacts: bool = False) -> Comparison:
    """Compare two folders. Raises SimulatorError, also where they hold different artifacts and that is not allowed."""
    (a, run_a), (b, run_b) = read_side(first), read_side(second)
    different = tuple(_artifact_differences(a, b))
    if different and not different_artifacts:
        said = "; ".join(f"{d.name} {d.second}, not {d.first}" for d in different)
        raise SimulatorError(
            second, "artifact", expected=f"that of {first} (or {ALLOWED_BY})", found=f"another one: {said}"
        )
    figures = [ComparedFigure.of(name, unit, *pair) for name, unit, pair in _figures(a, b)]
    if run_a is not None and run_b is not None:
        figures += _stages(run_a, run_b)
    return Comparison(
        first=_side("A", first, a),
        second=_side("B", second, b),
        differences=(*different, *_conditions(a, b)),
        figures=tuple(figures),
        energy_pj=_split(a.estimate.energy_pj, b.estimate.energy_pj, "pJ"),
        cycles=_split(a.estimate.cycles, b.estimate.cycles, "cycles"),
    )


def _side(letter: str, folder: Path, found: Simulation) -> Side:
    return Side(
        source=str(folder),
        label=f"{letter}: {found.accelerator.name}, {found.profile.value}",
        accelerator=found.accelerator.name,
        profile=found.profile.value,
        artifact_digest=found.artifact_digest,
    )


def _artifact_differences(a: Simulation, b: Simulation) -> Iterator[Difference]:
    if a.artifact_digest == b.artifact_digest:
        return
    yield Difference(name="artifact digest", first=a.artifact_digest[:12], second=b.artifact_digest[:12])
    facts = (
        ("metric", a.metric, b.metric),
        ("ternary weights", f"{_weights(a):,}", f"{_weights(b):,}"),
        ("operations", f"{len(a.estimate.operations):,}", f"{len(b.estimate.operations):,}"),
        ("zero weights", f"{a.zero_weight_fraction:.2%}", f"{b.zero_weight_fraction:.2%}"),
    )
    yield from _unequal(facts)


def _weights(found: Simulation) -> int:
    return found.estimate.memory.ternary_linear_weights


def _conditions(a: Simulation, b: Simulation) -> Iterator[Difference]:
    """Return what else was not the same: rows, profile, and every field of the accelerator that matters."""
    yield from _unequal((("rows", str(a.rows), str(b.rows)), ("profile", a.profile.value, b.profile.value)))
    fields = [found.accelerator.model_dump(mode="json", exclude=set(_PAPERWORK)) for found in (a, b)]
    tables = dict.fromkeys(n for described in fields for n, value in described.items() if isinstance(value, dict))
    for table in tables:
        for described in fields:
            described |= {f"{table}.{name}": value for name, value in (described.pop(table) or {}).items()}
    names = dict.fromkeys(name for described in fields for name in described)
    yield from _unequal((name, *(_written(described.get(name)) for described in fields)) for name in names)


def _written(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _unequal(facts: Iterable[tuple[str, ...]]) -> Iterator[Difference]:
    for name, first, second in facts:
        if first != second:
            yield Difference(name=name.replace("_", " "), first=first, second=second)


def _figures(a: Simulation, b: Simulation) -> Iterator[tuple[str, str, tuple[float | None, float | None]]]:
    names = {name: unit for found in (a, b) for name, unit, _ in _figures_of(found)}
    values = [{name: value for name, _, value in _figures_of(found)} for found in (a, b)]
    for name, unit in names.items():
        yield name, unit, (values[0].get(name), values[1].get(name))


def _figures_of(found: Simulation) -> Iterator[tuple[str, str, float | None]]:
    """Return the figures of a simulation that are compared, with their units."""
    cost, memory = found.estimate, found.estimate.memory
    yield found.metric, "", found.score
    yield "label agreement with the torch student", "", found.label_agreement
    yield "label agreement with the teacher", "", found.teacher_agreement
    yield "accumulator overflows", "", found.overflow_events
    yield "latency", "ms", found.latency_ms
    yield "latency of the longest sentence", "ms", cost.longest_latency_ms
    yield "cycles", "cycles", found.cycles_per_inference
    yield "cycles computing", "cycles", cost.compute_cycles_per_inference
    yield "cycles waiting for a buffer", "cycles", cost.buffer_stall_cycles_per_inference
    yield "cycles waiting for DRAM", "cycles", cost.dram_stall_cycles_per_inference
    yield "part of the array in use", "", cost.array_utilisation
    yield "energy", "pJ", found.energy_pj_per_inference
    yield "energy, lowest of its band", "pJ", cost.energy_band.low_pj
    yield "energy, highest of its band", "pJ", cost.energy_band.high_pj
    yield "average power", "W", cost.efficiency.average_power_w.nominal
    yield "efficiency", "TOPS/W", cost.efficiency.tops_per_w.nominal
    yield "area", "mm²", sum(cost.area_mm2.values()) if cost.area_mm2 else None
    yield "parameters", "bytes", memory.parameter_bytes
    yield "activations at their peak", "bytes", memory.activation_peak_bytes
    yield "activations that spill", "bytes", memory.activation_spilled_bytes
    for name, moved in memory.traffic_bytes_per_inference.items():
        yield f"{name.replace('_', ' ').replace('dram', 'DRAM')} an inference", "bytes", moved


def _stages(a: Summary, b: Summary) -> Iterator[ComparedFigure]:
    """Return what two runs measured of their teacher, student and deployed model."""
    for stage in ("teacher", "student", "deployed"):
        first, second = getattr(a.stages, stage), getattr(b.stages, stage)
        for field, words, unit in (("score", "score", ""), ("bytes", "size", "bytes"), ("latency_ms", "latency", "ms")):
            yield ComparedFigure.of(f"{stage}, {words}", unit, getattr(first, field), getattr(second, field))


def _split(a: Split, b: Split, unit: str) -> dict[str, tuple[ComparedFigure, ...]]:
    found = {}
    for way in ("unit", "layer", "level"):
        first, second = getattr(a, f"by_{way}"), getattr(b, f"by_{way}")
        names = dict.fromkeys((*first, *second))
        found[way] = tuple(ComparedFigure.of(n, unit, first.get(n, 0.0), second.get(n, 0.0)) for n in names)
    return found
