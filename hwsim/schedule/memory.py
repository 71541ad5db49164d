"""Bytes: what the parameters take in which format, and what an operation moves at each level of memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from math import ceil, prod

import numpy as np

from hwsim.schedule.pipeline import Tile
from hwsim.schedule.placement import activation_bytes
from hwsim.schedule.workload import Work
from ti_qat.artifact.encoder import Encoder, Operation, OpKind

TERNARY_BITS = 2
ASSUMPTIONS = (
    "Ternary weights take 2 bits each, every row padded to a whole byte; scales, biases and norms are float32.",
    "Weights that do not all fit the weight buffer are read from DRAM at every inference; if they fit, never again.",
    "The embedding tables stay in DRAM; the rows of a sentence's tokens are gathered for it.",
    "Partial sums that leave the array between two folds of K are written to the activation buffer and read back.",
    "A unit that passes over its input several times reads it from the activation buffer every time, from DRAM once.",
    "What comes from DRAM is written to its buffer and read from there; what goes there is read from the buffer.",
)


class WeightFormat(StrEnum):
    """How a ternary weight is stored; the accelerator's own is two bits."""

    TWO_BITS = "2"
    FIVE_TRITS_A_BYTE = "1.6"
    INT8 = "8"

    def row_bytes(self, width: int) -> int:
        """Return the bytes of a row of `width` weights, padded to a whole byte."""
        match self:
            case WeightFormat.TWO_BITS:
                return ceil(width * TERNARY_BITS / 8)
            case WeightFormat.FIVE_TRITS_A_BYTE:
                return ceil(width / 5)
            case WeightFormat.INT8:
                return width


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


def parameter_bytes(encoder: Encoder, name: str, stored_as: WeightFormat = WeightFormat.TWO_BITS) -> int:
    """Return the bytes of one parameter as the accelerator stores it."""
    spec = encoder.parameters[name]
    sizes = [int(size) for size in spec.shape]
    if spec.ternary:
        return prod(sizes[:-1]) * stored_as.row_bytes(sizes[-1])
    return prod(sizes) * np.dtype(spec.dtype).itemsize


def table_names(encoder: Encoder) -> frozenset[str]:
    """Return the parameters of the embedding, of which an inference gathers rows."""
    return frozenset(name for op in encoder.of_kind(OpKind.EMBEDDING) for name in op.inputs.values())


def stationary_bytes(encoder: Encoder, stored_as: WeightFormat = WeightFormat.TWO_BITS) -> int:
    """Return the bytes of all parameters but the embedding tables."""
    tables = table_names(encoder)
    return sum(parameter_bytes(encoder, name, stored_as) for name in encoder.parameters if name not in tables)


def fetched_bytes(encoder: Encoder, op: Operation, tokens: int) -> int:
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


@dataclass(frozen=True)
class Demand:
    """What an operation moves on any accelerator, in bytes.

    Parameters that it needs, of them the matrix of ternary weights; activations that a unit other
    than the array reads from the buffer, and those that the operation makes.
    """

    parameters: int
    matrix: int
    read: int
    written: int


def demand(encoder: Encoder, step: Work, tokens: int) -> Demand:
    """Return the demand of one operation of a sentence of `tokens` tokens."""
    op = step.operation
    made = sum(activation_bytes(encoder, name, tokens) for name in op.outputs)
    used = sum(activation_bytes(encoder, name, tokens) for name in op.inputs.values() if name in encoder.activations)
    return Demand(
        parameters=fetched_bytes(encoder, op, tokens),
        matrix=parameter_bytes(encoder, op.inputs["weight_codes"]) if op.kind is OpKind.TERNARY_LINEAR else 0,
        read=made if op.kind is OpKind.FIRST_TOKEN else step.passes * used,
        written=made,
    )


def traffic(step: Work, needs: Demand, tiles: Tile) -> Traffic:
    """Return the bytes that one operation moves; `tiles` is the sum of its tiles."""
    read, weight_read, operands = needs.read, needs.parameters, ceil(tiles.weight_read_bits / 8)
    if step.gemm is not None:
        read = tiles.input_read_bytes + tiles.partial_sum_read_bytes
        if needs.matrix:
            weight_read += operands - needs.matrix
        else:
            read += operands
    return Traffic(
        dram_read=tiles.fetched_bytes,
        dram_write=tiles.output_bytes,
        weight_buffer_read=weight_read,
        weight_buffer_write=tiles.weight_bytes,
        activation_buffer_read=read + tiles.output_bytes,
        activation_buffer_write=needs.written + tiles.partial_sum_write_bytes + tiles.input_bytes,
    )
