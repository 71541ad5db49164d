"""Packing an artifact into a bundle: the encoder's operations as an ONNX graph with two-bit weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, ValueInfoProto, helper

from deploy.blocks import FIRST_TOKEN_ONLY, blocks, lower
from deploy.bundle import (
    MANIFEST_FILE,
    MODEL_FILE,
    PAYLOAD_FILES,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    Bundle,
    Manifest,
    WeightFigures,
    manifest_json,
    read_bundle,
)
from deploy.bundle_files import digest_and_stamp
from deploy.external_data import ExternalData
from deploy.function_bodies import function_protos
from deploy.lowering import FIRST_TOKEN_INDEX
from deploy.mac_counts import mac_counts
from deploy.operators import DOMAIN, DOMAIN_VERSION, IR_VERSION, OPSET
from deploy.panels import pack_panels
from ti_qat.artifact.atomic import whole_directory
from ti_qat.artifact.encoder import LENGTHS, Encoder, OpKind, Tensor
from ti_qat.artifact.io import Artifact
from ti_qat.artifact.packing import pack_ternary

Array = np.ndarray[Any, Any]

ONE_TOKEN = "first_token.one"
_ONNX_TYPES = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "int8": TensorProto.INT8}


def pack(artifact: Artifact, out: Path) -> Bundle:
    """Write `artifact` as a bundle directory, whole or not at all; the same artifact gives the same bytes."""
    with whole_directory(out, MANIFEST_FILE) as fresh:
        model, weights = build_model(artifact)
        (fresh / WEIGHTS_FILE).write_bytes(weights)
        (fresh / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
        (fresh / TOKENIZER_FILE).write_text(artifact.tokenizer_json, encoding="utf-8")
        onnx.checker.check_model(str(fresh / MODEL_FILE))
        manifest = _manifest(artifact, {name: digest_and_stamp(fresh / name)[0] for name in PAYLOAD_FILES})
        (fresh / MANIFEST_FILE).write_text(manifest_json(manifest), encoding="utf-8")
        read_bundle(fresh)
    return Bundle(Path(out), manifest)


def build_model(artifact: Artifact) -> tuple[onnx.ModelProto, bytes]:
    """Return the ONNX model and the contents of its weights file."""
    encoder = artifact.encoder
    first_only = helper.make_node("Min", [LENGTHS, ONE_TOKEN], [FIRST_TOKEN_ONLY], name=FIRST_TOKEN_ONLY)
    nodes = [first_only, *(lower(step) for step in blocks(encoder))]
    data = ExternalData(WEIGHTS_FILE)
    for name, spec in encoder.parameters.items():
        value = artifact.parameters[name]
        data.add(name, _packed(name, value, encoder) if spec.ternary else value)
    data.add(FIRST_TOKEN_INDEX, np.array(0, np.int64))
    data.add(ONE_TOKEN, np.array([1], np.int32))
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


def _packed(name: str, codes: Array, encoder: Encoder) -> Array:
    """Return codes as the operators read them: rows of the embedding are gathered, linears are read in panels."""
    gathered = {op.inputs["word_codes"] for op in encoder.of_kind(OpKind.EMBEDDING)}
    return pack_ternary(codes) if name in gathered else pack_panels(codes)


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
        ternary_linears=_figures(artifact.encoder, artifact.parameters, linears),
        word_embedding=_figures(artifact.encoder, artifact.parameters, embedding),
        macs=mac_counts(artifact.encoder),
        files=dict(digests),
    )


def _figures(encoder: Encoder, parameters: Mapping[str, Array], names: Sequence[tuple[str, str]]) -> WeightFigures:
    weights = sum(parameters[codes].size for codes, _ in names)
    packed_bytes = sum(_packed(codes, parameters[codes], encoder).nbytes for codes, _ in names)
    scale_bytes = sum(parameters[scale].nbytes for _, scale in names)
    return WeightFigures(
        weights=weights,
        packed_bytes=packed_bytes,
        scale_bytes=scale_bytes,
        bits_per_weight=8 * packed_bytes / weights,
        bits_per_weight_with_scales=8 * (packed_bytes + scale_bytes) / weights,
    )
