"""Bytes: what the parameters take, what lives at once, and what crosses each level of memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import ceil, prod

import numpy as np

from hwsim.config import Accelerator, Dataflow
from hwsim.workload import Work, activation_shape
from ti_qat.artifact.encoder import Encoder, Gemm, Operation, OpKind

TERNARY_BITS = 2
ASSUMPTIONS = (
    "Ternary weights take 2 bits each, every row padded to a whole byte; scales, biases and norms are float32.",
    "Weights that do not fit the weight buffer are read from DRAM once every inference; if all fit, never again.",
    "The embedding tables stay in DRAM; the rows of a sentence's tokens are gathered for it.",
    "Live activations beyond the activation buffer go to DRAM once and come back once.",
    "Partial sums that leave the array between two folds of K are written to the activation buffer and read back.",
    "A unit that passes over its input several times reads it from the activation buffer every time.",
)


@dataclass(frozen=True)
class Traffic:
    """Bytes that an operation moves at each level."""

    dram_read: int = 0
    dram_write: int = 0
    weight_buffer_read: int = 0
    weight_buffer_write: int = 0
    activation_buffer_read: int = 0
    activation_buffer_write: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the bytes by name of level and direction."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class OperandReads:
    """Bits that a GEMM's operands and partial sums move between buffers and array."""

    input_read_bits: int
    weight_read_bits: int
    partial_sum_write_bits: int
    partial_sum_read_bits: int


def parameter_bytes(encoder: Encoder, name: str) -> int:
    """Return the bytes of one parameter as the accelerator stores it."""
    spec = encoder.parameters[name]
    sizes = [int(size) for size in spec.shape]
    if spec.ternary:
        return prod(sizes[:-1]) * ceil(sizes[-1] * TERNARY_BITS / 8)
    return prod(sizes) * np.dtype(spec.dtype).itemsize


def operand_reads(gemm: Gemm, weight_bits: int, accelerator: Accelerator) -> OperandReads:
    """Return what one GEMM (all `count` of them) moves under the accelerator's dataflow.

    WS keeps weights and re-reads inputs for every column tile; IS the reverse; OS re-reads both and
    never spills a partial sum. The same counts as SCALE-Sim's, but for its surplus OS output writes.
    """
    rows, columns = accelerator.array_rows, accelerator.array_columns
    inputs, weights, outputs = gemm.m * gemm.k, gemm.n * gemm.k, gemm.m * gemm.n
    folds = ceil(gemm.k / rows)
    match accelerator.dataflow:
        case Dataflow.WEIGHT_STATIONARY:
            inputs *= ceil(gemm.n / columns)
        case Dataflow.INPUT_STATIONARY:
            weights *= ceil(gemm.m / columns)
        case Dataflow.OUTPUT_STATIONARY:
            inputs, weights, folds = inputs * ceil(gemm.n / columns), weights * ceil(gemm.m / rows), 1
    partial_sums = outputs * (folds - 1) * 8 * ceil(accelerator.accumulator_bits / 8)
    return OperandReads(
        input_read_bits=8 * inputs * gemm.count,
        weight_read_bits=weight_bits * weights * gemm.count,
        partial_sum_write_bits=partial_sums * gemm.count,
        partial_sum_read_bits=partial_sums * gemm.count,
    )


def activation_bytes(encoder: Encoder, name: str, tokens: int) -> int:
    """Return the bytes of one activation for a sentence of `tokens` tokens."""
    return prod(activation_shape(encoder, name, tokens)) * np.dtype(encoder.activations[name].dtype).itemsize


def live_bytes(encoder: Encoder, tokens: int) -> tuple[int, ...]:
    """Return, for every operation, the bytes of all activations that must exist while it runs."""
    born = dict.fromkeys(encoder.graph_inputs, 0)
    last_use: dict[str, int] = {}
    for index, op in enumerate(encoder.operations):
        for name in op.outputs:
            born[name] = last_use[name] = index
        for name in op.inputs.values():
            if name in born:
                last_use[name] = index
    change = [0] * (len(encoder.operations) + 1)
    for name, first in born.items():
        size = activation_bytes(encoder, name, tokens)
        change[first] += size
        change[last_use.get(name, first) + 1] -= size
    return tuple(int(live) for live in np.cumsum(change[:-1]))


def stationary_bytes(encoder: Encoder) -> int:
    """Return the bytes of all parameters but the embedding tables."""
    tables = {name for op in encoder.of_kind(OpKind.EMBEDDING) for name in op.inputs.values()}
    return sum(parameter_bytes(encoder, name) for name in encoder.parameters if name not in tables)


def weights_are_resident(encoder: Encoder, accelerator: Accelerator) -> bool:
    """Return whether everything but the embedding tables stays in the weight buffer for good."""
    return stationary_bytes(encoder) <= accelerator.weight_buffer_bytes


def traffic(encoder: Encoder, work: tuple[Work, ...], tokens: int, accelerator: Accelerator) -> tuple[Traffic, ...]:
    """Return the bytes that every operation of one sentence moves."""
    resident = weights_are_resident(encoder, accelerator)
    spilled = [max(0, live - accelerator.activation_buffer_bytes) for live in live_bytes(encoder, tokens)]
    spilled[-1] = 0  # the logits leave the chip, so nothing is put away for later
    return tuple(
        _operation_traffic(encoder, step, tokens, accelerator, resident, (max(0, now - before), max(0, before - now)))
        for step, before, now in zip(work, (0, *spilled[:-1]), spilled, strict=True)
    )


def _operation_traffic(
    encoder: Encoder, step: Work, tokens: int, accelerator: Accelerator, resident: bool, spill: tuple[int, int]
) -> Traffic:
    op, (spill_out, spill_back) = step.operation, spill
    fetched = _fetched_bytes(encoder, op, tokens)
    streamed = fetched if op.kind is OpKind.EMBEDDING or not resident else 0
    written = sum(activation_bytes(encoder, name, tokens) for name in op.outputs)
    read, weight_read = _read_bytes(encoder, step, tokens), fetched
    if step.gemm is not None:
        ternary = op.kind is OpKind.TERNARY_LINEAR
        reads = operand_reads(step.gemm, TERNARY_BITS if ternary else 8, accelerator)
        read = ceil((reads.input_read_bits + reads.partial_sum_read_bits) / 8)
        written += reads.partial_sum_write_bits // 8
        if ternary:
            matrix = parameter_bytes(encoder, op.inputs["weight_codes"])
            weight_read = fetched - matrix + ceil(reads.weight_read_bits / 8)
        else:
            read += reads.weight_read_bits // 8
    return Traffic(
        dram_read=streamed + spill_back,
        dram_write=spill_out,
        weight_buffer_read=weight_read,
        weight_buffer_write=streamed,
        activation_buffer_read=read + spill_out,
        activation_buffer_write=written + spill_back,
    )


def _fetched_bytes(encoder: Encoder, op: Operation, tokens: int) -> int:
    """Return the bytes of parameters that an operation needs: all of them, or the rows it gathers."""
    parameters: Mapping[str, str] = {role: name for role, name in op.inputs.items() if name in encoder.parameters}
    if op.kind is not OpKind.EMBEDDING:
        return sum(parameter_bytes(encoder, name) for name in parameters.values())
    gathered = 0
    for role, name in parameters.items():
        entries = int(encoder.parameters[name].shape[0])
        rows = min(entries, tokens) if role != "word_codes" else tokens
        gathered += parameter_bytes(encoder, name) // entries * rows
    return gathered


def _read_bytes(encoder: Encoder, step: Work, tokens: int) -> int:
    """Return the bytes of activations that a unit other than the array reads."""
    op = step.operation
    if op.kind is OpKind.FIRST_TOKEN:
        return sum(activation_bytes(encoder, name, tokens) for name in op.outputs)
    names = [name for name in op.inputs.values() if name in encoder.activations]
    return step.passes * sum(activation_bytes(encoder, name, tokens) for name in names)
