"""The custom operators of a bundle: domain, version and signatures, in one place.

deploy/csrc/kernels/operator_table.cpp implements the same names for ONNX Runtime, reference_ops.py
for the ONNX reference evaluator, and function_bodies.py spells each out in standard operators.
"""

from __future__ import annotations

from dataclasses import dataclass

DOMAIN = "ti_qat"
DOMAIN_VERSION = 1
# Pinned: onnx writes newer ones by default than the supported ONNX Runtimes read.
OPSET = 18
IR_VERSION = 10


@dataclass(frozen=True)
class OperatorSchema:
    """Signature of one operator; `heads` tells whether it has that integer attribute."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    heads: bool = False


SCHEMAS = {
    schema.name: schema
    for schema in (
        OperatorSchema("Quantize", ("x", "scale"), ("codes",)),
        OperatorSchema("QuantizePerToken", ("x",), ("codes", "scale")),
        OperatorSchema("TernaryLinear", ("codes", "scale", "weight", "weight_scale", "bias"), ("y",)),
        OperatorSchema(
            "TernaryEmbedding",
            ("input_ids", "token_type_ids", "word", "word_scale", "position", "token_type"),
            ("y",),
        ),
        OperatorSchema("LayerNorm", ("x", "gamma", "beta", "epsilon"), ("y",)),
        OperatorSchema("AttentionScores", ("query", "query_scale", "key", "key_scale"), ("y",), heads=True),
        OperatorSchema("Softmax", ("x", "lengths"), ("y",)),
        OperatorSchema(
            "AttentionContext", ("probabilities", "probabilities_scale", "value", "value_scale"), ("y",), heads=True
        ),
        OperatorSchema("Gelu", ("x",), ("y",)),
        OperatorSchema("Tanh", ("x",), ("y",)),
        OperatorSchema("Classifier", ("x", "weight", "bias"), ("y",)),
    )
}
