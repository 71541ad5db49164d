"""What one inference asks of the accelerator: for each operation its unit, its GEMM and its actions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import prod

import numpy as np

from hwsim.units import embedding, gelu, int8_mac, layer_norm, quantizer, softmax, ternary_mac, vector
from hwsim.units.actions import Actions, total
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

# Actions of the units beside the array, from output rows, output width and input width.
_ACTIONS: Mapping[OpKind, Callable[[int, int, int], Actions]] = {
    OpKind.EMBEDDING: lambda rows, width, _: embedding.actions(rows * width),
    OpKind.LAYER_NORM: lambda rows, width, _: layer_norm.actions(rows, width),
    OpKind.QUANTIZE: lambda rows, width, _: quantizer.actions(rows * width),
    OpKind.QUANTIZE_PER_TOKEN: lambda rows, width, _: quantizer.per_token_actions(rows, width),
    OpKind.SOFTMAX: lambda rows, width, _: softmax.actions(rows, width),
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


def workload(encoder: Encoder, tokens: int, nonzero: Mapping[str, int]) -> tuple[Work, ...]:
    """Return the work of one sentence of `tokens` tokens; `nonzero` as from `nonzero_weights`."""
    products = {gemm.operation: gemm for gemm in gemms(encoder, 1, tokens)}
    found = []
    for op in encoder.operations:
        unit, passes = _UNITS[op.kind]
        gemm = products.get(op.name)
        output = activation_shape(encoder, op.outputs[0], tokens)
        actions = _actions(op, output, gemm, nonzero, encoder, tokens)
        found.append(Work(op, unit, _layer(op.name), passes, prod(output), gemm, actions))
    return tuple(found)


def _layer(name: str) -> str:
    match = re.match(r"layers\.\d+", name)
    return match.group() if match else name.partition(".")[0]


def _actions(
    op: Operation,
    output: tuple[int, ...],
    gemm: Gemm | None,
    nonzero: Mapping[str, int],
    encoder: Encoder,
    tokens: int,
) -> Actions:
    elements, width = prod(output), output[-1]
    if gemm is None:
        source = activation_shape(encoder, next(iter(op.inputs.values())), tokens)
        return _unit_actions(op.kind, elements // width, width, source[-1])
    if op.kind is OpKind.TERNARY_LINEAR:
        return _ternary_actions(gemm.m, nonzero[op.name], gemm.k * gemm.n - nonzero[op.name], elements)
    return _int8_actions(gemm.macs, elements)


# Layers repeat each other, and what these return is only read.


@lru_cache(maxsize=4096)
def _unit_actions(kind: OpKind, rows: int, width: int, input_width: int) -> Actions:
    return _ACTIONS[kind](rows, width, input_width)


@lru_cache(maxsize=4096)
def _ternary_actions(m: int, nonzero: int, zero: int, elements: int) -> Actions:
    return total(ternary_mac.mac_actions(m, nonzero, zero), ternary_mac.output_actions(elements))


@lru_cache(maxsize=4096)
def _int8_actions(macs: int, elements: int) -> Actions:
    return total(int8_mac.mac_actions(macs), int8_mac.output_actions(elements))
