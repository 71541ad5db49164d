"""Cycles, memory and energy of an average inference, from counts alone: no value is computed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

from hwsim.config import Accelerator, Profile
from hwsim.energy import area, array_actions, bands
from hwsim.energy import efficiency as figures
from hwsim.energy import prices as energy
from hwsim.energy.area import area_mm2
from hwsim.energy.bands import EnergyBand, energy_band
from hwsim.energy.efficiency import Efficiency, efficiency
from hwsim.energy.operation_cost import OperationCost, OperationSums
from hwsim.schedule import fixed_profile, memory, pipeline, placement, tiling, tiling_search, timing
from hwsim.schedule.execution import Inference, OperationTime, PlannedOperation, Schedule, plan_inference, schedule
from hwsim.schedule.footprint import Memory, footprint
from hwsim.units.actions import Action
from ti_qat.artifact.encoder import Encoder

ASSUMPTIONS = (
    *timing.ASSUMPTIONS,
    *tiling.ASSUMPTIONS,
    *tiling_search.ASSUMPTIONS,
    *pipeline.ASSUMPTIONS,
    *placement.ASSUMPTIONS,
    *memory.ASSUMPTIONS,
    *fixed_profile.ASSUMPTIONS,
    *energy.ASSUMPTIONS,
    *bands.ASSUMPTIONS,
    *area.ASSUMPTIONS,
    *figures.ASSUMPTIONS,
    *array_actions.ASSUMPTIONS,
)


class Split(BaseModel):
    """One quantity of an average inference, split three ways; each way sums to the whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by_unit: dict[str, float]
    by_layer: dict[str, float]
    by_level: dict[str, float]


class TimelineEntry(BaseModel):
    """One operation of the longest sentence, from its first cycle to the next operation's first.

    `activation_bytes`: all activations that must exist meanwhile; `activation_buffer_bytes`: what is in the
    activation buffer, staging included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: str
    unit: str
    layer: str
    start_cycle: int
    end_cycle: int
    compute_cycles: int
    buffer_stall_cycles: int
    dram_stall_cycles: int
    dram_read_bytes: int
    dram_write_bytes: int
    activation_bytes: int
    activation_buffer_bytes: int


class Timeline(BaseModel):
    """The longest sentence's inference; `transfers` are (start cycle, end cycle, bytes read, bytes written) of DRAM."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int
    operations: tuple[TimelineEntry, ...]
    transfers: tuple[tuple[int, int, int, int], ...]


class Estimate(BaseModel):
    """What an average inference over the given sentence lengths costs on an accelerator.

    `area_mm2` by component is empty where the energy tables give no areas.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Profile
    cycles_per_inference: float
    compute_cycles_per_inference: float
    buffer_stall_cycles_per_inference: float
    dram_stall_cycles_per_inference: float
    latency_ms: float
    longest_latency_ms: float
    array_utilisation: float
    energy_pj_per_inference: float
    energy_band: EnergyBand
    efficiency: Efficiency
    area_mm2: dict[str, float]
    macs_per_inference: dict[str, float]
    cycles: Split
    energy_pj: Split
    operations: tuple[OperationCost, ...]
    actions_per_inference: dict[str, float]
    memory: Memory
    accelerator_peak_bytes: int
    timeline: Timeline


class _Sums:
    """Sums over sentences; divided by their number in the end."""

    def __init__(self) -> None:
        self.cycles: dict[str, Counter[str]] = {"unit": Counter(), "layer": Counter(), "level": Counter()}
        self.energy_pj: dict[str, defaultdict[str, float]] = {
            way: defaultdict(float) for way in ("unit", "layer", "level")
        }
        self.actions: defaultdict[str, float] = defaultdict(float)
        self.traffic: Counter[str] = Counter()
        self.macs: Counter[str] = Counter()
        self.operations: dict[str, OperationSums] = {}

    def add(
        self,
        planned: PlannedOperation,
        taken: OperationTime,
        counted: Mapping[Action, float],
        spent: Mapping[energy.Level, float],
        sentences: int,
    ) -> None:
        step = planned.work
        self.operations.setdefault(step.operation.name, OperationSums(step)).add(planned, taken, spent, sentences)
        for way, name in (("unit", step.unit.value), ("layer", step.layer)):
            self.cycles[way][name] += taken.cycles * sentences
            self.energy_pj[way][name] += sum(spent.values()) * sentences
        for level, picojoules in spent.items():
            self.energy_pj["level"][level.value] += picojoules * sentences
        for action, count in counted.items():
            self.actions[action.value] += count * sentences
        for level_name, moved_bytes in planned.moved.as_dict().items():
            self.traffic[level_name] += moved_bytes * sentences
        if step.gemm is not None:
            self.macs[step.unit.value] += step.gemm.macs * sentences

    def add_levels(self, run: Schedule, latency_cycles: int, sentences: int) -> None:
        """Add where an inference's cycles went; `latency_cycles` is what DRAM's latency alone costs."""
        waited = sum(taken.dram_stall_cycles for taken in run.operations)
        levels = self.cycles["level"]
        levels["compute"] += sentences * sum(taken.compute_cycles for taken in run.operations)
        levels["buffer_stall"] += sentences * sum(taken.buffer_stall_cycles for taken in run.operations)
        levels["dram_bandwidth_stall"] += sentences * (waited - latency_cycles)
        levels["dram_latency_stall"] += sentences * latency_cycles


def estimate(
    encoder: Encoder,
    accelerator: Accelerator,
    lengths: Iterable[int],
    nonzero: Mapping[str, int],
    profile: Profile = Profile.EXACT,
) -> Estimate:
    """Return the cost of an average inference over sentences of the given `lengths` (tokens).

    `nonzero` as from hwsim.schedule.workload.nonzero_weights. Raises SimulatorError where a price is missing or
    the encoder has no form in the profile.
    """
    price = energy.prices(accelerator)
    histogram = Counter(int(length) for length in lengths)
    sums = _Sums()
    for tokens, sentences in sorted(histogram.items()):
        inference = Inference.of(encoder, tokens, nonzero, accelerator.widths_of(profile))
        planned, placed = plan_inference(inference, accelerator)
        run = schedule(planned, accelerator)
        for operation, taken in zip(planned, run.operations, strict=True):
            counted = energy.counted_actions(operation.work, operation.moved, taken.cycles, accelerator)
            sums.add(operation, taken, counted, energy.energy_by_level_pj(counted, price), sentences)
        prompt = schedule(planned, accelerator, latency_cycles=0, keep_transfers=False)
        sums.add_levels(run, run.cycles - prompt.cycles, sentences)
    # The last one was the longest.
    traffic = {name: value / histogram.total() for name, value in sums.traffic.items()}
    described = footprint(inference, accelerator, planned, placed, traffic)
    longest = _timeline(inference, planned, placed, run)
    return _summarise(accelerator, profile, sums, histogram.total(), described, longest)


def _summarise(
    accelerator: Accelerator, profile: Profile, sums: _Sums, count: int, described: Memory, longest: Timeline
) -> Estimate:
    def mean(totals: Mapping[str, float]) -> dict[str, float]:
        return {name: value / count for name, value in totals.items()}

    levels = mean(sums.cycles["level"])
    cycles = sum(levels.values())
    energy_split = Split(**{f"by_{way}": mean(totals) for way, totals in sums.energy_pj.items()})
    macs = mean(sums.macs)
    actions = mean(sums.actions)
    band = energy_band({Action(name): number for name, number in actions.items()}, energy.prices(accelerator))
    latency_ms = cycles / accelerator.clock_hz * 1e3
    return Estimate(
        profile=profile,
        cycles_per_inference=cycles,
        compute_cycles_per_inference=levels["compute"],
        buffer_stall_cycles_per_inference=levels["buffer_stall"],
        dram_stall_cycles_per_inference=levels["dram_bandwidth_stall"] + levels["dram_latency_stall"],
        latency_ms=latency_ms,
        longest_latency_ms=longest.operations[-1].end_cycle / accelerator.clock_hz * 1e3,
        array_utilisation=sum(macs.values()) / (cycles * accelerator.array_rows * accelerator.array_columns),
        energy_pj_per_inference=sum(energy_split.by_level.values()),
        energy_band=band,
        efficiency=efficiency(band, macs, latency_ms, accelerator.battery),
        area_mm2=area_mm2(accelerator, accelerator.widths_of(profile)),
        macs_per_inference=macs,
        cycles=Split(**{f"by_{way}": mean(totals) for way, totals in sums.cycles.items()}),
        energy_pj=energy_split,
        operations=tuple(operation.mean(count) for operation in sums.operations.values()),
        actions_per_inference=actions,
        memory=described,
        accelerator_peak_bytes=described.parameter_bytes + described.activation_peak_bytes,
        timeline=longest,
    )


def _timeline(
    inference: Inference, planned: tuple[PlannedOperation, ...], placed: placement.Placement, run: Schedule
) -> Timeline:
    entries = tuple(
        TimelineEntry(
            operation=operation.work.operation.name,
            unit=operation.work.unit.value,
            layer=operation.work.layer,
            start_cycle=taken.start_cycle,
            end_cycle=taken.end_cycle,
            compute_cycles=taken.compute_cycles,
            buffer_stall_cycles=taken.buffer_stall_cycles,
            dram_stall_cycles=taken.dram_stall_cycles,
            dram_read_bytes=operation.moved.dram_read,
            dram_write_bytes=operation.moved.dram_write,
            activation_bytes=live,
            activation_buffer_bytes=in_buffer,
        )
        for operation, taken, live, in_buffer in zip(
            planned, run.operations, inference.activations.live, placed.in_buffer, strict=True
        )
    )
    return Timeline(
        tokens=inference.tokens,
        operations=entries,
        transfers=tuple((t.start_cycle, t.end_cycle, t.read_bytes, t.write_bytes) for t in run.transfers),
    )
