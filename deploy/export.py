"""Packing an artifact into a bundle: the encoder's operations as an ONNX graph with two-bit weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from deploy.bundle import (
    MANIFEST_FILE,
    MODEL_FILE,
    PAYLOAD_FILES,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    Bundle,
    MacCounts,
    Manifest,
    WeightFigures,
    file_digest,
    manifest_json,
    read_bundle,
)
from deploy.external_data import ExternalData
from deploy.function_bodies import function_protos
from deploy.operators import DOMAIN, DOMAIN_VERSION, IR_VERSION, OPSET, SCHEMAS
from ti_qat.artifact.atomic import whole_directory
from ti_qat.artifact.encoder import Encoder, Operation, OpKind, Tensor, gemms
from ti_qat.artifact.io import Artifact
from ti_qat.artifact.packing import pack_ternary

Array = np.ndarray[Any, Any]
Emitter = Callable[[Operation], list[NodeProto]]

FIRST_TOKEN_INDEX = "first_token.index"
_ONNX_TYPES = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "int8": TensorProto.INT8}


def _custom(name: str, *roles: str) -> Emitter:
    """Emit the custom operator `name`; `roles` are the operation's inputs in the operator's order."""
    schema = SCHEMAS[name]

    def emit(op: Operation) -> list[NodeProto]:
        attributes: dict[str, Any] = {"heads": op.attributes["heads"]} if schema.heads else {}
        inputs = [op.inputs[role] for role in roles]
        return [helper.make_node(name, inputs, list(op.outputs), name=op.name, domain=DOMAIN, **attributes)]

    return emit


def _residual_add(op: Operation) -> list[NodeProto]:
    return [helper.make_node("Add", [op.inputs["x"], op.inputs["residual"]], list(op.outputs), name=op.name)]


def _first_token(op: Operation) -> list[NodeProto]:
    inputs = [op.inputs["x"], FIRST_TOKEN_INDEX]
    return [helper.make_node("Gather", inputs, list(op.outputs), name=op.name, axis=1)]


EMITTERS: Mapping[OpKind, Emitter] = {
    OpKind.EMBEDDING: _custom(
        "TernaryEmbedding", "input_ids", "token_type_ids", "word_codes", "word_scale", "position", "token_type"
    ),
    OpKind.LAYER_NORM: _custom("LayerNorm", "x", "gamma", "beta", "epsilon"),
    OpKind.QUANTIZE: _custom("Quantize", "x", "scale"),
    OpKind.QUANTIZE_PER_TOKEN: _custom("QuantizePerToken", "x"),
    OpKind.TERNARY_LINEAR: _custom("TernaryLinear", "codes", "scale", "weight_codes", "weight_scale", "bias"),
    OpKind.ATTENTION_SCORES: _custom("AttentionScores", "query", "query_scale", "key", "key_scale"),
    OpKind.SOFTMAX: _custom("Softmax", "x", "lengths"),
    OpKind.ATTENTION_CONTEXT: _custom(
        "AttentionContext", "probabilities", "probabilities_scale", "value", "value_scale"
    ),
    OpKind.RESIDUAL_ADD: _residual_add,
    OpKind.GELU: _custom("Gelu", "x"),
    OpKind.FIRST_TOKEN: _first_token,
    OpKind.TANH: _custom("Tanh", "x"),
    OpKind.CLASSIFIER: _custom("Classifier", "x", "weight", "bias"),
}


def pack(artifact: Artifact, out: Path) -> Bundle:
    """Write `artifact` as a bundle directory, whole or not at all; the same artifact gives the same bytes."""
    with whole_directory(out, MANIFEST_FILE) as fresh:
        model, weights = build_model(artifact)
        (fresh / WEIGHTS_FILE).write_bytes(weights)
        (fresh / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
        (fresh / TOKENIZER_FILE).write_text(artifact.tokenizer_json, encoding="utf-8")
        onnx.checker.check_model(str(fresh / MODEL_FILE))
        manifest = _manifest(artifact, {name: file_digest(fresh / name) for name in PAYLOAD_FILES})
        (fresh / MANIFEST_FILE).write_text(manifest_json(manifest), encoding="utf-8")
        read_bundle(fresh)
    return Bundle(Path(out), manifest)


def build_model(artifact: Artifact) -> tuple[onnx.ModelProto, bytes]:
    """Return the ONNX model and the contents of its weights file."""
    encoder = artifact.encoder
    nodes = [node for op in encoder.operations for node in EMITTERS[op.kind](op)]
    data = ExternalData(WEIGHTS_FILE)
    for name, spec in encoder.parameters.items():
        value = artifact.parameters[name]
        data.add(name, pack_ternary(value) if spec.ternary else value)
    data.add(FIRST_TOKEN_INDEX, np.array(0, np.int64))
    graph = helper.make_graph(
        nodes,
        "encoder",
        [_value_info(encoder.activations[name]) for name in encoder.graph_inputs],
        [_value_info(encoder.activations[encoder.graph_output])],
        data.initializers,
    )
    model = helper.make_model(
        graph,
        functions=function_protos(encoder.shape),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        ir_version=IR_VERSION,
        producer_name="ti-qat",
    )
    return model, data.content()


def _value_info(tensor: Tensor) -> ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, _ONNX_TYPES[tensor.dtype], list(tensor.shape))


def _manifest(artifact: Artifact, digests: Mapping[str, str]) -> Manifest:
    header, of_kind = artifact.header, artifact.encoder.of_kind
    linears = [(op.inputs["weight_codes"], op.inputs["weight_scale"]) for op in of_kind(OpKind.TERNARY_LINEAR)]
    embedding = [(op.inputs["word_codes"], op.inputs["word_scale"]) for op in of_kind(OpKind.EMBEDDING)]
    return Manifest(
        task=header.task.name,
        labels=header.task.labels,
        metric=header.task.metric.value,
        text_columns=header.task.text_columns,
        max_length=header.tokenization.max_length,
        pad_token_id=header.tokenization.pad_token_id,
        operators=DOMAIN_VERSION,
        opset=OPSET,
        artifact=artifact.digest,
        ternary_linears=_figures(artifact.parameters, linears),
        word_embedding=_figures(artifact.parameters, embedding),
        macs=_mac_counts(artifact.encoder),
        files=dict(digests),
    )


def _mac_counts(encoder: Encoder) -> MacCounts:
    """Return the coefficients of a sequence's multiply-accumulates, which are a polynomial of its tokens."""
    none, one, two = (sum(gemm.macs for gemm in gemms(encoder, 1, tokens)) for tokens in range(3))
    squared = (two - 2 * one + none) // 2
    return MacCounts(per_token=one - none - squared, per_token_squared=squared, per_sequence=none)


def _figures(parameters: Mapping[str, Array], names: Sequence[tuple[str, str]]) -> WeightFigures:
    weights = sum(parameters[codes].size for codes, _ in names)
    packed_bytes = sum(pack_ternary(parameters[codes]).nbytes for codes, _ in names)
    scale_bytes = sum(parameters[scale].nbytes for _, scale in names)
    return WeightFigures(
        weights=weights,
        packed_bytes=packed_bytes,
        scale_bytes=scale_bytes,
        bits_per_weight=8 * packed_bytes / weights,
        bits_per_weight_with_scales=8 * (packed_bytes + scale_bytes) / weights,
    )
