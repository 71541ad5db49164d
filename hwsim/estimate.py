"""Cycles, memory and energy of an average inference, from counts alone: no value is computed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

from hwsim import energy, memory, timing
from hwsim.actions import Action
from hwsim.config import Accelerator
from hwsim.workload import Work, workload
from ti_qat.artifact.encoder import Encoder, OpKind

ASSUMPTIONS = (*timing.ASSUMPTIONS, *memory.ASSUMPTIONS, *energy.ASSUMPTIONS)


class Split(BaseModel):
    """One quantity of an average inference, split three ways; each way sums to the whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by_unit: dict[str, float]
    by_layer: dict[str, float]
    by_level: dict[str, float]


class Memory(BaseModel):
    """Bytes that the parameters take and that the longest sentence needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameter_bytes: int
    ternary_linear_bytes: int
    ternary_linear_weights: int
    bits_per_linear_weight: float
    word_embedding_bytes: int
    other_parameter_bytes: int
    weights_resident: bool
    activation_peak_bytes: int
    activations_fit: bool
    activation_spilled_bytes: int
    traffic_bytes_per_inference: dict[str, float]


class Estimate(BaseModel):
    """What an average inference over the given sentence lengths costs on an accelerator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cycles_per_inference: float
    compute_cycles_per_inference: float
    dram_stall_cycles_per_inference: float
    latency_ms: float
    longest_latency_ms: float
    array_utilisation: float
    energy_pj_per_inference: float
    macs_per_inference: dict[str, float]
    cycles: Split
    energy_pj: Split
    actions_per_inference: dict[str, float]
    memory: Memory
    accelerator_peak_bytes: int


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

    def add(
        self,
        step: Work,
        moved: memory.Traffic,
        taken: timing.OperationCycles,
        counted: Mapping[Action, float],
        spent: Mapping[energy.Level, float],
        sentences: int,
    ) -> None:
        for way, name in (("unit", step.unit.value), ("layer", step.layer)):
            self.cycles[way][name] += taken.total * sentences
            self.energy_pj[way][name] += sum(spent.values()) * sentences
        self.cycles["level"]["compute"] += taken.compute * sentences
        self.cycles["level"]["dram_stall"] += (taken.total - taken.compute) * sentences
        for level, picojoules in spent.items():
            self.energy_pj["level"][level.value] += picojoules * sentences
        for action, count in counted.items():
            self.actions[action.value] += count * sentences
        for level_name, moved_bytes in moved.as_dict().items():
            self.traffic[level_name] += moved_bytes * sentences
        if step.gemm is not None:
            self.macs[step.unit.value] += step.gemm.macs * sentences


def estimate(
    encoder: Encoder, accelerator: Accelerator, lengths: Iterable[int], nonzero: Mapping[str, int]
) -> Estimate:
    """Return the cost of an average inference over sentences of the given `lengths` (tokens).

    `nonzero` as from hwsim.workload.nonzero_weights. Raises SimulatorError where a price is missing.
    """
    price = energy.prices(accelerator)
    histogram = Counter(int(length) for length in lengths)
    first = timing.first_latency_cycles(accelerator)
    sums = _Sums()
    for tokens, sentences in sorted(histogram.items()):
        steps = workload(encoder, tokens, nonzero)
        moves = memory.traffic(encoder, steps, tokens, accelerator)
        longest_cycles = first
        for step, moved in zip(steps, moves, strict=True):
            taken = timing.operation_cycles(step, moved, accelerator)
            longest_cycles += taken.total
            counted = energy.counted_actions(step, moved, taken.total, accelerator)
            sums.add(step, moved, taken, counted, energy.energy_by_level_pj(counted, price), sentences)
        sums.cycles["level"]["dram_latency"] += first * sentences
        for way in ("unit", "layer"):
            sums.cycles[way]["dram_latency"] += first * sentences
    return _summarise(encoder, accelerator, sums, histogram, longest_cycles)


def _summarise(
    encoder: Encoder, accelerator: Accelerator, sums: _Sums, histogram: Counter[int], longest_cycles: int
) -> Estimate:
    count = histogram.total()

    def mean(totals: Mapping[str, float]) -> dict[str, float]:
        return {name: value / count for name, value in totals.items()}

    levels = mean(sums.cycles["level"])
    cycles = sum(levels.values())
    energy_split = Split(**{f"by_{way}": mean(totals) for way, totals in sums.energy_pj.items()})
    macs = mean(sums.macs)
    described = _memory(encoder, accelerator, max(histogram), mean(sums.traffic))
    return Estimate(
        cycles_per_inference=cycles,
        compute_cycles_per_inference=levels["compute"],
        dram_stall_cycles_per_inference=levels["dram_stall"] + levels["dram_latency"],
        latency_ms=cycles / accelerator.clock_hz * 1e3,
        longest_latency_ms=longest_cycles / accelerator.clock_hz * 1e3,
        array_utilisation=sum(macs.values()) / (cycles * accelerator.array_rows * accelerator.array_columns),
        energy_pj_per_inference=sum(energy_split.by_level.values()),
        macs_per_inference=macs,
        cycles=Split(**{f"by_{way}": mean(totals) for way, totals in sums.cycles.items()}),
        energy_pj=energy_split,
        actions_per_inference=mean(sums.actions),
        memory=described,
        accelerator_peak_bytes=described.parameter_bytes + described.activation_peak_bytes,
    )


def _memory(encoder: Encoder, accelerator: Accelerator, longest: int, traffic: dict[str, float]) -> Memory:
    def stored(names: Iterable[str]) -> int:
        return sum(memory.parameter_bytes(encoder, name) for name in names)

    linears = encoder.of_kind(OpKind.TERNARY_LINEAR)
    weights = sum(int(k) * int(n) for n, k in (encoder.parameters[op.inputs["weight_codes"]].shape for op in linears))
    linear_bytes = stored(op.inputs[role] for op in linears for role in ("weight_codes", "weight_scale"))
    words = stored(op.inputs[r] for op in encoder.of_kind(OpKind.EMBEDDING) for r in ("word_codes", "word_scale"))
    everything = stored(encoder.parameters)
    peak = max(memory.live_bytes(encoder, longest))
    return Memory(
        parameter_bytes=everything,
        ternary_linear_bytes=linear_bytes,
        ternary_linear_weights=weights,
        bits_per_linear_weight=8 * linear_bytes / weights,
        word_embedding_bytes=words,
        other_parameter_bytes=everything - linear_bytes - words,
        weights_resident=memory.weights_are_resident(encoder, accelerator),
        activation_peak_bytes=peak,
        activations_fit=peak <= accelerator.activation_buffer_bytes,
        activation_spilled_bytes=max(0, peak - accelerator.activation_buffer_bytes),
        traffic_bytes_per_inference=traffic,
    )
