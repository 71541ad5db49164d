"""One inference, operation by operation: cut into tiles, then walked through time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Self

from hwsim.config import Accelerator
from hwsim.schedule.fixed_profile import require_static_scales, with_integer_activations
from hwsim.schedule.memory import TERNARY_BITS, Demand, Traffic, demand, stationary_bytes, traffic
from hwsim.schedule.pipeline import Pipeline, Repeat, Tile, Transfer, total
from hwsim.schedule.placement import Activations, Placement, activations_of, place
from hwsim.schedule.tiling import Product, partial_sum_bytes, representatives, share, staging_bytes
from hwsim.schedule.tiling_search import best_plan
from hwsim.schedule.timing import port_cycles, vector_cycles
from hwsim.schedule.workload import Work, workload
from hwsim.widths import FixedWidths
from ti_qat.artifact.encoder import Encoder, Gemm, OpKind

Body = tuple[Tile | Repeat, ...]


@dataclass(frozen=True)
class Inference:
    """What one sentence asks of any accelerator, in float32 units or in integer ones of the widths `fixed`."""

    encoder: Encoder
    tokens: int
    work: tuple[Work, ...]
    demands: tuple[Demand, ...]
    activations: Activations
    stationary_bytes: int
    fixed: FixedWidths | None

    @classmethod
    def of(cls, encoder: Encoder, tokens: int, nonzero: Mapping[str, int], fixed: FixedWidths | None = None) -> Self:
        """Describe a sentence of `tokens` tokens; `nonzero` as from hwsim.schedule.workload.nonzero_weights.

        In the exact profile, or in the fixed one of the widths `fixed`. Raises SimulatorError where the encoder has
        no integer form.
        """
        if fixed is not None:
            require_static_scales("encoder", encoder)
            encoder = with_integer_activations(encoder, fixed)
        work = workload(encoder, tokens, nonzero, fixed)
        demands = tuple(demand(encoder, step, tokens) for step in work)
        return cls(encoder, tokens, work, demands, activations_of(encoder, tokens), stationary_bytes(encoder), fixed)


@dataclass(frozen=True)
class PlannedOperation:
    """An operation cut into tiles. `tiles` is their sum; `rereads` where it reads activations from DRAM."""

    work: Work
    body: Body
    tiles: Tile
    moved: Traffic
    rereads: bool


@dataclass(frozen=True)
class OperationTime:
    """When an operation ran, in cycles from the start of the inference.

    From start to end it computes, waits for the buffers' ports and waits for DRAM.
    """

    start_cycle: int
    end_cycle: int
    compute_cycles: int
    buffer_stall_cycles: int

    @property
    def cycles(self) -> int:
        """Cycles from start to end."""
        return self.end_cycle - self.start_cycle

    @property
    def dram_stall_cycles(self) -> int:
        """Cycles that the operation waited for DRAM."""
        return self.cycles - self.compute_cycles - self.buffer_stall_cycles


@dataclass(frozen=True)
class Schedule:
    """The time of every operation and of the DRAM channel."""

    operations: tuple[OperationTime, ...]
    transfers: tuple[Transfer, ...]

    @property
    def cycles(self) -> int:
        """Cycles of the whole inference."""
        return self.operations[-1].end_cycle


def plan_inference(inference: Inference, accelerator: Accelerator) -> tuple[tuple[PlannedOperation, ...], Placement]:
    """Return every operation in tiles, and where the activations are."""
    resident = inference.stationary_bytes <= accelerator.weight_buffer_bytes
    staging = staging_bytes(accelerator)
    sums = [
        min(staging, partial_sum_bytes(step.gemm.m, step.gemm.k, step.gemm.n, accelerator)) if step.gemm else 0
        for step in inference.work
    ]
    placement = place(inference.encoder, inference.activations, sums, accelerator)
    cut = _Cutter(accelerator)
    planned = []
    for step, needs in zip(inference.work, inference.demands, strict=True):
        op = step.operation
        streamed = needs.parameters if op.kind is OpKind.EMBEDDING or not resident else 0
        spilled = placement.read_bytes(op, needs.written)
        written = placement.written_bytes(op)
        if step.gemm is None:
            operands: tuple[int, ...] = (spilled,)
        else:
            names = [name for name in op.inputs.values() if name in inference.encoder.activations]
            operands = tuple(placement.in_dram.get(name, 0) for name in names)
        body, tiles, moved = cut(step, needs, streamed, operands, written)
        planned.append(PlannedOperation(step, body, tiles, moved, spilled > 0))
    return tuple(planned), placement


def schedule(
    planned: tuple[PlannedOperation, ...],
    accelerator: Accelerator,
    *,
    latency_cycles: int | None = None,
    keep_transfers: bool = True,
) -> Schedule:
    """Walk all operations through the pipeline, with DRAM's own latency unless another is given."""
    pipeline = Pipeline(accelerator, latency_cycles=latency_cycles, keep_transfers=keep_transfers)
    times = []
    for number, operation in enumerate(planned):
        start = pipeline.now_cycle
        run = pipeline.run if keep_transfers else pipeline.run_again
        run(operation.body, after_writes=operation.rereads)
        if number == len(planned) - 1:
            pipeline.finish()
        compute, occupied = operation.tiles.compute_cycles, operation.tiles.occupied_cycles
        times.append(OperationTime(start, pipeline.now_cycle, compute, occupied - compute))
    return Schedule(tuple(times), tuple(pipeline.transfers or ()))


class _Cutter:
    """Cuts operations into tiles; layers repeat each other, so equal operations are cut once."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._known: dict[tuple[object, ...], tuple[Body, Tile, Traffic]] = {}

    def __call__(
        self, step: Work, needs: Demand, streamed: int, operands: tuple[int, ...], written: int
    ) -> tuple[Body, Tile, Traffic]:
        """Return tiles, their sum and what moves; `operands` and `written` are bytes of activations in DRAM."""
        gemm = step.gemm
        size = gemm and (gemm.m, gemm.k, gemm.n, gemm.count)
        key = (step.unit, step.elements, size, needs, streamed, operands, written)
        if key not in self._known:
            if gemm is None:
                body = _vector_body(step, needs, self._accelerator, streamed, (operands[0], written))
            else:
                body = _gemm_body(gemm, needs, self._accelerator, streamed, operands, written)
            tiles = total(body)
            self._known[key] = body, tiles, traffic(step, needs, tiles)
        return self._known[key]


def _gemm_body(
    gemm: Gemm, needs: Demand, accelerator: Accelerator, streamed: int, operands: tuple[int, ...], written: int
) -> Body:
    """Return the tiles of all products of an operation."""
    ternary = needs.matrix > 0
    first, second = (sum(operands), 0) if ternary else (operands[0], sum(operands[1:]))
    matrix = needs.matrix if streamed else 0
    body: list[Tile | Repeat] = []
    for index, times in representatives(gemm.count):
        product = Product(
            gemm.m,
            gemm.k,
            gemm.n,
            weight_bits=TERNARY_BITS if ternary else 8,
            streams_weights=matrix > 0,
            parameter_bytes=share(streamed - matrix, gemm.count, index),
            operand_bytes=share(second, gemm.count, index),
            input_bytes=share(first, gemm.count, index),
            output_bytes=share(written, gemm.count, index),
        )
        found = best_plan(product, accelerator).body
        body += found if times == 1 else (Repeat(times, found),)
    return tuple(body)


def _vector_body(step: Work, needs: Demand, accelerator: Accelerator, streamed: int, spilled: tuple[int, int]) -> Body:
    """Return the tiles of a unit beside the array: one, or as many as what passes by needs."""
    inputs, outputs = spilled
    through_activations = needs.read + needs.written + inputs + outputs
    passing = ceil(2 * (inputs + outputs) / staging_bytes(accelerator))
    pieces = min(step.elements, max(1, passing, ceil(2 * streamed / accelerator.weight_buffer_bytes)))

    def piece(index: int) -> Tile:
        compute = vector_cycles(share(step.elements, pieces, index), step.passes, accelerator)
        activation_ports = port_cycles(
            share(through_activations, pieces, index), accelerator.activation_buffer_bytes_per_cycle
        )
        weight_ports = port_cycles(
            share(needs.parameters + streamed, pieces, index), accelerator.weight_buffer_bytes_per_cycle
        )
        return Tile(
            compute,
            max(compute, activation_ports, weight_ports),
            *(share(moved, pieces, index) for moved in (streamed, inputs, outputs)),
        )

    return tuple(
        Repeat(times, (piece(index),)) if times > 1 else piece(index) for index, times in representatives(pieces)
    )
