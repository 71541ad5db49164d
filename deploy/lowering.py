"""Operations of the encoder as ONNX nodes: one custom operator, or a standard one, for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onnx import NodeProto, helper

from deploy.operators import DOMAIN, HEADS, PACKING, SCHEMAS
from ti_qat.artifact.encoder import Operation, OpKind
from ti_qat.artifact.packing import TWO_BITS, Packing

FIRST_TOKEN_INDEX = "first_token.index"

# The custom operator of a kind, and the operation's inputs in the operator's order.
CUSTOM_OPERATORS: Mapping[OpKind, tuple[str, tuple[str, ...]]] = {
    OpKind.EMBEDDING: (
        "TernaryEmbedding",
        ("input_ids", "token_type_ids", "word_codes", "word_scale", "position", "token_type"),
    ),
    OpKind.LAYER_NORM: ("LayerNorm", ("x", "gamma", "beta", "epsilon")),
    OpKind.QUANTIZE: ("Quantize", ("x", "scale")),
    OpKind.QUANTIZE_PER_TOKEN: ("QuantizePerToken", ("x",)),
    OpKind.TERNARY_LINEAR: ("TernaryLinear", ("codes", "scale", "weight_codes", "weight_scale", "bias")),
    OpKind.ATTENTION_SCORES: ("AttentionScores", ("query", "query_scale", "key", "key_scale")),
    OpKind.SOFTMAX: ("Softmax", ("x", "lengths")),
    OpKind.ATTENTION_CONTEXT: (
        "AttentionContext",
        ("probabilities", "probabilities_scale", "value", "value_scale"),
    ),
    OpKind.GELU: ("Gelu", ("x",)),
    OpKind.TANH: ("Tanh", ("x",)),
    OpKind.CLASSIFIER: ("Classifier", ("x", "weight", "bias")),
}


def attributes_of(operator: str, packing: Packing, heads: int) -> dict[str, Any]:
    """Return a custom operator's attributes; the default packing goes without saying."""
    schema = SCHEMAS[operator]
    told = {PACKING: packing.codes_per_byte} if schema.packed and packing is not TWO_BITS else {}
    return ({HEADS: heads} if schema.heads else {}) | told


def _custom(op: Operation, packing: Packing) -> NodeProto:
    name, roles = CUSTOM_OPERATORS[op.kind]
    attributes = attributes_of(name, packing, op.attributes.get(HEADS, 0))
    inputs = [op.inputs[role] for role in roles]
    return helper.make_node(name, inputs, list(op.outputs), name=op.name, domain=DOMAIN, **attributes)


def _residual_add(op: Operation, _packing: Packing) -> NodeProto:
    return helper.make_node("Add", [op.inputs["x"], op.inputs["residual"]], list(op.outputs), name=op.name)


def _first_token(op: Operation, _packing: Packing) -> NodeProto:
    inputs = [op.inputs["x"], FIRST_TOKEN_INDEX]
    return helper.make_node("Gather", inputs, list(op.outputs), name=op.name, axis=1)


LOWERINGS: Mapping[OpKind, Callable[[Operation, Packing], NodeProto]] = {
    **dict.fromkeys(CUSTOM_OPERATORS, _custom),
    OpKind.RESIDUAL_ADD: _residual_add,
    OpKind.FIRST_TOKEN: _first_token,
}


def node_of(op: Operation, packing: Packing = TWO_BITS) -> NodeProto:
    """Return the node that computes one operation, under the operation's own names, on weights so packed."""
    return LOWERINGS[op.kind](op, packing)
