"""One design point from the shape of a model alone: no artifact, no value, no report."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from hwsim.config import Accelerator, Profile
from hwsim.energy import prices as energy
from hwsim.energy.area import area_mm2
from hwsim.energy.bands import energy_range_pj
from hwsim.errors import SimulatorError
from hwsim.schedule.execution import Inference, PlannedOperation, Schedule, plan_inference, schedule
from hwsim.units.actions import Action
from hwsim.widths import FixedWidths
from ti_qat.artifact.encoder import Encoder, OpKind, build_encoder
from ti_qat.artifact.schema import ActivationScaling, EncoderShape, Granularity, Quantization

STATIC_SCALES = Quantization(
    linear_weights=Granularity.PER_ROW,
    word_embedding=Granularity.PER_ROW,
    activations=ActivationScaling.STATIC,
)
BERT_BASE = EncoderShape(
    family="bert",
    layers=12,
    hidden=768,
    heads=12,
    feed_forward=3072,
    vocabulary=30522,
    positions=512,
    token_types=2,
    labels=2,
)


@dataclass(frozen=True)
class DesignPoint:
    """What one inference costs: the figures of hwsim.estimate for a sentence of that length.

    `area_mm2` is None where the energy tables give no areas.
    """

    cycles: int
    compute_cycles: int
    dram_read_bytes: int
    dram_write_bytes: int
    weight_buffer_bytes: int
    activation_buffer_bytes: int
    energy_pj: float
    energy_low_pj: float
    energy_high_pj: float
    energy_pj_by_level: dict[str, float]
    latency_ms: float
    area_mm2: float | None
    weights_resident: bool
    activations_fit: bool


def evaluate_design(
    shape: EncoderShape,
    accelerator: Accelerator,
    tokens: int,
    nonzero_fraction: float,
    quantization: Quantization = STATIC_SCALES,
    profile: Profile = Profile.EXACT,
) -> DesignPoint:
    """Return cycles, bytes, energy and area of a sentence of `tokens` tokens.

    `nonzero_fraction` of every linear's ternary weights are taken to be nonzero; the buffers' bytes are
    read and written ones together. The same model as `ti-qat simulate`, in milliseconds.
    Raises SimulatorError where a price is missing, tokens exceed the positions or the fraction is none.
    """
    if not 0 <= nonzero_fraction <= 1:
        raise SimulatorError("design", "nonzero_fraction", expected="0 to 1", found=str(nonzero_fraction))
    if not 1 <= tokens <= shape.positions:
        raise SimulatorError("design", "tokens", expected=f"1 to {shape.positions}", found=str(tokens))
    fixed = accelerator.widths_of(profile)
    return evaluate_inference(_inference(shape, quantization, tokens, nonzero_fraction, fixed), accelerator)


def evaluate_inference(inference: Inference, accelerator: Accelerator) -> DesignPoint:
    """Return what one described sentence costs. Raises SimulatorError where a price is missing."""
    planned, placement = plan_inference(inference, accelerator)
    run = schedule(planned, accelerator, keep_transfers=False)
    actions = _actions(planned, run, accelerator)
    price = energy.prices(accelerator)
    spent = energy.energy_by_level_pj(actions, price)
    low_pj, high_pj = energy_range_pj(actions, price)
    areas = area_mm2(accelerator, inference.fixed)
    moved = [operation.moved for operation in planned]
    return DesignPoint(
        cycles=run.cycles,
        compute_cycles=sum(taken.compute_cycles for taken in run.operations),
        dram_read_bytes=sum(m.dram_read for m in moved),
        dram_write_bytes=sum(m.dram_write for m in moved),
        weight_buffer_bytes=sum(m.weight_buffer_read + m.weight_buffer_write for m in moved),
        activation_buffer_bytes=sum(m.activation_buffer_read + m.activation_buffer_write for m in moved),
        energy_pj=sum(spent.values()),
        energy_low_pj=low_pj,
        energy_high_pj=high_pj,
        energy_pj_by_level={level.value: picojoules for level, picojoules in spent.items()},
        latency_ms=run.cycles / accelerator.clock_hz * 1e3,
        area_mm2=sum(areas.values()) if areas else None,
        weights_resident=inference.stationary_bytes <= accelerator.weight_buffer_bytes,
        activations_fit=not placement.in_dram,
    )


def _actions(planned: tuple[PlannedOperation, ...], run: Schedule, accelerator: Accelerator) -> dict[Action, float]:
    """Return the actions of all operations; those that are alike, down to their cycles, are counted once."""
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, (operation, taken) in enumerate(zip(planned, run.operations, strict=True)):
        step = operation.work
        size = step.gemm and (step.gemm.m, step.gemm.k, step.gemm.n, step.gemm.count)
        alike[step.unit, size, id(step.actions), id(operation.moved), taken.cycles].append(index)
    actions: defaultdict[Action, float] = defaultdict(float)
    for members in alike.values():
        operation, taken = planned[members[0]], run.operations[members[0]]
        counted = energy.counted_actions(operation.work, operation.moved, taken.cycles, accelerator)
        for action, count in counted.items():
            actions[action] += len(members) * count
    return actions


@lru_cache(maxsize=64)
def _inference(
    shape: EncoderShape, quantization: Quantization, tokens: int, nonzero_fraction: float, fixed: FixedWidths | None
) -> Inference:
    """Describe a sentence once for all accelerators."""
    encoder = build_encoder(shape, quantization)
    return Inference.of(encoder, tokens, share_of_weights(encoder, nonzero_fraction), fixed)


def share_of_weights(encoder: Encoder, fraction: float) -> dict[str, int]:
    """Return that share of every ternary linear's weights, by operation, as a number of them."""
    sizes = {
        op.name: prod(map(int, encoder.parameters[op.inputs["weight_codes"]].shape))
        for op in encoder.of_kind(OpKind.TERNARY_LINEAR)
    }
    return {name: round(fraction * weights) for name, weights in sizes.items()}
