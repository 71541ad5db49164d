"""What one inference asks of the accelerator: for each operation its unit, its GEMM and its actions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import prod

import numpy as np

from hwsim.schedule.fixed_profile import FIXED_ACTIONS
from hwsim.units import embedding, gelu, int8_mac, layer_norm, quantizer, softmax, ternary_mac, vector
from hwsim.units.actions import Actions, total
from hwsim.widths import FixedWidths
from ti_qat.artifact.encoder import Encoder, Gemm, Operation, OpKind, gemms


class Unit(StrEnum):
    """Hardware unit that an operation occupies."""

    TERNARY_ARRAY = "ternary_array"
    INT8_ARRAY = "int8_array"
    SOFTMAX = "softmax"
    LAYER_NORM = "layer_norm"
    GELU = "gelu"
    QUANTIZER = "quantizer"
    EMBEDDING = "embedding"
    VECTOR = "vector"


_UNITS: Mapping[OpKind, tuple[Unit, int]] = {  # and how often it passes over its input
    OpKind.EMBEDDING: (Unit.EMBEDDING, 1),
    OpKind.LAYER_NORM: (Unit.LAYER_NORM, layer_norm.PASSES),
    OpKind.QUANTIZE: (Unit.QUANTIZER, 1),
    OpKind.QUANTIZE_PER_TOKEN: (Unit.QUANTIZER, 2),
    OpKind.TERNARY_LINEAR: (Unit.TERNARY_ARRAY, 1),
    OpKind.ATTENTION_SCORES: (Unit.INT8_ARRAY, 1),
    OpKind.SOFTMAX: (Unit.SOFTMAX, softmax.PASSES),
    OpKind.ATTENTION_CONTEXT: (Unit.INT8_ARRAY, 1),
    OpKind.RESIDUAL_ADD: (Unit.VECTOR, 1),
    OpKind.GELU: (Unit.GELU, 1),
    OpKind.FIRST_TOKEN: (Unit.VECTOR, 1),
    OpKind.TANH: (Unit.GELU, 1),
    OpKind.CLASSIFIER: (Unit.VECTOR, 1),
}

# From output rows, output width and input width; of a matrix product: its output stage alone.
EXACT_ACTIONS: Mapping[OpKind, Callable[[int, int, int], Actions]] = {
    OpKind.EMBEDDING: lambda rows, width, _: embedding.actions(rows * width),
    OpKind.LAYER_NORM: lambda rows, width, _: layer_norm.actions(rows, width),
    OpKind.QUANTIZE: lambda rows, width, _: quantizer.actions(rows * width),
    OpKind.QUANTIZE_PER_TOKEN: lambda rows, width, _: quantizer.per_token_actions(rows, width),
    OpKind.TERNARY_LINEAR: lambda rows, width, _: ternary_mac.output_actions(rows * width),
    OpKind.ATTENTION_SCORES: lambda rows, width, _: int8_mac.output_actions(rows * width),
    OpKind.SOFTMAX: lambda rows, width, _: softmax.actions(rows, width),
    OpKind.ATTENTION_CONTEXT: lambda rows, width, _: int8_mac.output_actions(rows * width),
    OpKind.RESIDUAL_ADD: lambda rows, width, _: vector.residual_actions(rows * width),
    OpKind.GELU: lambda rows, width, _: gelu.gelu_actions(rows * width),
    OpKind.FIRST_TOKEN: lambda rows, width, _: total(),
    OpKind.TANH: lambda rows, width, _: gelu.tanh_actions(rows * width),
    OpKind.CLASSIFIER: lambda rows, width, inputs: vector.classifier_actions(inputs, width),
}


@dataclass(frozen=True)
class Work:
    """One operation of one inference. `layer` is layers.I, embedding, pooler or classifier."""

    operation: Operation
    unit: Unit
    layer: str
    passes: int
    elements: int
    gemm: Gemm | None
    actions: Actions


def activation_shape(encoder: Encoder, name: str, tokens: int) -> tuple[int, ...]:
    """Return the shape of an activation for one sentence of `tokens` tokens."""
    symbols = {"B": 1, "S": tokens}
    return tuple(symbols[size] if isinstance(size, str) else size for size in encoder.activations[name].shape)


def nonzero_weights(encoder: Encoder, parameters: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Return the number of nonzero weights of every ternary linear, by operation."""
    return {
        op.name: int(np.count_nonzero(parameters[op.inputs["weight_codes"]]))
        for op in encoder.of_kind(OpKind.TERNARY_LINEAR)
    }


def workload(
    encoder: Encoder, tokens: int, nonzero: Mapping[str, int], fixed: FixedWidths | None = None
) -> tuple[Work, ...]:
    """Return the work of one sentence of `tokens` tokens; `nonzero` as from `nonzero_weights`.

    In float32 units, or in integer ones of the widths `fixed`.
    """
    products = {gemm.operation: gemm for gemm in gemms(encoder, 1, tokens)}
    found = []
    for op in encoder.operations:
        unit, passes = _UNITS[op.kind]
        gemm = products.get(op.name)
        output = activation_shape(encoder, op.outputs[0], tokens)
        inputs = activation_shape(encoder, next(iter(op.inputs.values())), tokens)[-1]
        macs = gemm and gemm.macs
        actions = _actions(op.kind, prod(output[:-1]), output[-1], inputs, macs, nonzero.get(op.name), fixed)
        found.append(Work(op, unit, layer_of(op.name), passes, prod(output), gemm, actions))
    return tuple(found)


def layer_of(name: str) -> str:
    """Return the layer of an operation: layers.I, or the first part of its name."""
    match = re.match(r"layers\.\d+", name)
    return match.group() if match else name.partition(".")[0]


def unit_actions(kind: OpKind, rows: int, width: int, input_width: int, fixed: FixedWidths | None) -> Actions:
    """Return the actions of a unit for `rows` rows of `width` values; of a matrix product, its output stage's.

    In float32, or in integers of the widths `fixed`.
    """
    if fixed is None:
        return EXACT_ACTIONS[kind](rows, width, input_width)
    return FIXED_ACTIONS[kind](rows, width, input_width, fixed)


@lru_cache(maxsize=4096)  # layers repeat each other, and what this returns is only read
def _actions(
    kind: OpKind,
    rows: int,
    width: int,
    input_width: int,
    macs: int | None,
    nonzero_weights: int | None,
    fixed: FixedWidths | None,
) -> Actions:
    beside = unit_actions(kind, rows, width, input_width, fixed)
    if macs is None:
        return beside
    if nonzero_weights is None:
        return total(int8_mac.mac_actions(macs), beside)
    return total(ternary_mac.mac_actions(rows, nonzero_weights, macs // rows - nonzero_weights), beside)
