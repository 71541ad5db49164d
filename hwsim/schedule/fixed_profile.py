"""The fixed profile as the schedule sees it: integer units' actions, and activations of their own widths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from hwsim.errors import SimulatorError
from hwsim.units import (
    integer_classifier,
    integer_gelu,
    integer_layer_norm,
    integer_softmax,
    integer_tanh,
    requantizer,
    residual_alignment,
    ternary_embedding,
)
from hwsim.units.actions import Actions, total
from hwsim.widths import FixedWidths
from ti_qat.artifact.encoder import Encoder, OpKind

ASSUMPTIONS = (
    "In the fixed profile a wide activation takes two bytes where its width is at most 16 bits, four else; scales, "
    "biases and norms take the four bytes each that they take in float32.",
    "In the fixed profile a product counts as a 32 x 32 bit one, a quotient as 32 subtractions, a table access as two "
    "entries of 24 bits.",
)

# From output rows, output width, input width and the widths; of a matrix product: its output stage alone, since
# the array's additions and multiplications are those of the exact profile.
FIXED_ACTIONS: Mapping[OpKind, Callable[[int, int, int, FixedWidths], Actions]] = {
    OpKind.EMBEDDING: lambda rows, width, _, __: ternary_embedding.actions(rows * width),
    OpKind.LAYER_NORM: lambda rows, width, _, __: integer_layer_norm.actions(rows, width),
    OpKind.QUANTIZE: lambda rows, width, _, __: requantizer.actions(rows * width, biased=False),
    OpKind.TERNARY_LINEAR: lambda rows, width, _, __: requantizer.actions(rows * width, biased=True),
    OpKind.ATTENTION_SCORES: lambda rows, width, _, __: requantizer.actions(rows * width, biased=False),
    OpKind.SOFTMAX: lambda rows, width, _, widths: integer_softmax.actions(rows, width, widths.exponential),
    OpKind.ATTENTION_CONTEXT: lambda rows, width, _, __: requantizer.actions(rows * width, biased=False),
    OpKind.RESIDUAL_ADD: lambda rows, width, _, __: residual_alignment.actions(rows * width),
    OpKind.GELU: lambda rows, width, _, widths: integer_gelu.actions(rows * width, widths.gelu),
    OpKind.FIRST_TOKEN: lambda rows, width, _, __: total(),
    OpKind.TANH: lambda rows, width, _, __: integer_tanh.actions(rows * width),
    OpKind.CLASSIFIER: lambda _, width, inputs, __: integer_classifier.actions(inputs, width),
}
REFUSED = frozenset({OpKind.QUANTIZE_PER_TOKEN})

# What the residual stream carries, in `residual_bits`; every other wide activation has `activation_bits`.
_RESIDUAL_KINDS = (OpKind.EMBEDDING, OpKind.RESIDUAL_ADD, OpKind.LAYER_NORM)


def activation_bits(kind: OpKind, widths: FixedWidths) -> int:
    """Return the width of the wide activation that an operation makes."""
    return widths.residual_bits if kind in _RESIDUAL_KINDS else widths.activation_bits


def require_static_scales(source: Path | str, encoder: Encoder) -> None:
    """Raise SimulatorError, naming the artifact, where an operation has no integer form."""
    refused = [op for op in encoder.operations if op.kind in REFUSED]
    if refused:
        raise SimulatorError(
            source,
            f"quantization.activations ({refused[0].name})",
            expected="static scales for the fixed profile",
            found="dynamic_per_token, whose scales are divisions of real numbers at run time",
        )


def with_integer_activations(encoder: Encoder, widths: FixedWidths) -> Encoder:
    """Return the encoder with its wide activations in integers; int8 codes, inputs and logits stay as they are."""
    activations = dict(encoder.activations)
    for op in encoder.operations:
        name = op.outputs[0]
        if activations[name].dtype == "float32" and name != encoder.graph_output:
            # The first token is of the residual stream that it is taken from.
            source = op.inputs["x"] if op.kind is OpKind.FIRST_TOKEN else None
            dtype = activations[source].dtype if source else _dtype(activation_bits(op.kind, widths))
            activations[name] = replace(activations[name], dtype=dtype)
    return replace(encoder, activations=activations)


def _dtype(bits: int) -> str:
    return "int16" if bits <= 16 else "int32"
