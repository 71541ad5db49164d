"""The custom operators of a bundle: domain, version and signatures, in one place.

deploy/csrc/kernels/operator_table.cpp implements the same names for ONNX Runtime, reference_ops.py
for the ONNX reference evaluator, and function_bodies.py spells each out in standard operators.
docs/operators.md describes them.
"""

from __future__ import annotations

from dataclasses import dataclass

DOMAIN = "ti_qat"
# 1: one operator for each kind of operation. 2: whole blocks as well.
DOMAIN_VERSION = 2
# Pinned: onnx writes newer ones by default than the supported ONNX Runtimes read.
OPSET = 18
IR_VERSION = 10
HEADS = "heads"
PACKING = "packing"


@dataclass(frozen=True)
class OperatorSchema:
    """Signature of one operator; `heads` tells whether it has that integer attribute.

    An operator that is `packed` has the integer attribute `packing`: how many codes a byte of its packed
    inputs holds, 4 (the default) or 5; see ti_qat.artifact.packing.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    heads: bool = False

    @property
    def packed(self) -> bool:
        """Whether it reads packed codes."""
        return self.name.startswith("Ternary")


_NORM = ("gamma", "beta", "epsilon")


def _linear(name: str) -> tuple[str, ...]:
    return (f"{name}_weight", f"{name}_weight_scale", f"{name}_bias")


def _projection(name: str) -> tuple[str, ...]:
    return (*_linear(name), f"{name}_scale")


def _attention(name: str, *, static: bool) -> OperatorSchema:
    """Return the schema of the attention block; under per-token scales the linears' inputs have none of their own."""
    first, second = (("input_scale",), ("output_input_scale",)) if static else ((), ())
    projections = (*_projection("query"), *_projection("key"), *_projection("value"))
    inputs = (
        "x",
        *first,
        *projections,
        "lengths",
        "queries",
        "probabilities_scale",
        *second,
        *_linear("output"),
        *_NORM,
    )
    return OperatorSchema(name, inputs, ("y",), heads=True)


def _feed_forward(name: str, *, static: bool) -> OperatorSchema:
    first, second = (("up_input_scale",), ("down_input_scale",)) if static else ((), ())
    return OperatorSchema(name, ("x", *first, *_linear("up"), *second, *_linear("down"), *_NORM, "lengths"), ("y",))


_EMBEDDING = ("input_ids", "token_type_ids", "word", "word_scale", "position", "token_type")

SCHEMAS = {
    schema.name: schema
    for schema in (
        OperatorSchema("Quantize", ("x", "scale"), ("codes",)),
        OperatorSchema("QuantizePerToken", ("x",), ("codes", "scale")),
        OperatorSchema("TernaryLinear", ("codes", "scale", "weight", "weight_scale", "bias"), ("y",)),
        OperatorSchema("TernaryEmbedding", _EMBEDDING, ("y",)),
        OperatorSchema("LayerNorm", ("x", "gamma", "beta", "epsilon"), ("y",)),
        OperatorSchema("AttentionScores", ("query", "query_scale", "key", "key_scale"), ("y",), heads=True),
        OperatorSchema("Softmax", ("x", "lengths"), ("y",)),
        OperatorSchema(
            "AttentionContext", ("probabilities", "probabilities_scale", "value", "value_scale"), ("y",), heads=True
        ),
        OperatorSchema("Gelu", ("x",), ("y",)),
        OperatorSchema("Tanh", ("x",), ("y",)),
        OperatorSchema("Classifier", ("x", "weight", "bias"), ("y",)),
        OperatorSchema("TernaryEmbeddingNorm", (*_EMBEDDING, *_NORM, "lengths"), ("y",)),
        _attention("TernaryAttention", static=True),
        _attention("TernaryAttentionPerToken", static=False),
        _feed_forward("TernaryFeedForward", static=True),
        _feed_forward("TernaryFeedForwardPerToken", static=False),
    )
}
