"""Packing an artifact into a bundle: the encoder's operations as an ONNX graph with packed weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper
from onnx.inliner import inline_local_functions

from deploy.blocks import FIRST_TOKEN_ONLY, blocks, lower
from deploy.bundle import (
    MANIFEST_FILE,
    MODEL_FILE,
    PAYLOAD_FILES,
    PROFILES,
    STANDARD,
    TOKENIZER_FILE,
    WEIGHT_BITS,
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
from deploy.standard import CONTRIB_DOMAIN, CONTRIB_VERSION, StandardGraph, pack_blocks
from ti_qat.artifact.atomic import whole_directory
from ti_qat.artifact.encoder import LENGTHS, Encoder, OpKind, Tensor
from ti_qat.artifact.io import Artifact
from ti_qat.artifact.packing import PACKINGS, TWO_BITS, Packing, pack_ternary

Array = np.ndarray[Any, Any]

ONE_TOKEN = "first_token.one"
_ONNX_TYPES = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "int8": TensorProto.INT8}


class PackingChoiceError(ValueError):
    """A profile and a packing that do not go together, or do not exist."""


@dataclass(frozen=True)
class _Form:
    """How a bundle holds the ternary weights."""

    profile: str
    packing: Packing
    gathered: frozenset[str]  # tables whose rows are gathered; the other weights are linears'

    def packed(self, name: str, codes: Array) -> Array:
        """Return int8 codes (N, K) as the operators read them, uint8."""
        if name in self.gathered:
            return pack_ternary(codes, self.packing)
        return pack_blocks(codes) if self.profile == STANDARD else pack_panels(codes, self.packing)


def pack(artifact: Artifact, out: Path, *, profile: str = PROFILES[0], weight_bits: float = WEIGHT_BITS[0]) -> Bundle:
    """Write `artifact` as a bundle directory, whole or not at all; the same call gives the same bytes.

    `profile` is "ops", the custom operators with their function bodies, or "standard", ONNX Runtime's own
    operators; `weight_bits` is 2.0 or, with "ops", 1.6. Raises PackingChoiceError for anything else.
    """
    form = _form(artifact.encoder, profile, weight_bits)
    with whole_directory(out, MANIFEST_FILE) as fresh:
        model, weights = _standard_model(artifact, form) if profile == STANDARD else _ops_model(artifact, form)
        (fresh / WEIGHTS_FILE).write_bytes(weights)
        (fresh / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
        (fresh / TOKENIZER_FILE).write_text(artifact.tokenizer_json, encoding="utf-8")
        onnx.checker.check_model(str(fresh / MODEL_FILE))
        manifest = _manifest(artifact, form, {name: digest_and_stamp(fresh / name)[0] for name in PAYLOAD_FILES})
        (fresh / MANIFEST_FILE).write_text(manifest_json(manifest), encoding="utf-8")
        read_bundle(fresh)
    return Bundle(Path(out), manifest)


def _form(encoder: Encoder, profile: str, weight_bits: float) -> _Form:
    if profile not in PROFILES:
        raise PackingChoiceError(f"profile: expected {' or '.join(PROFILES)}, found {profile}")
    packing = next((packing for packing in PACKINGS if packing.weight_bits == weight_bits), None)
    if packing is None:
        raise PackingChoiceError(f"weight_bits: expected 2 or 1.6, found {weight_bits}")
    if profile == STANDARD and packing is not TWO_BITS:
        raise PackingChoiceError(f"weight_bits: expected 2 with the profile {STANDARD}, found {weight_bits}")
    return _Form(profile, packing, frozenset(op.inputs["word_codes"] for op in encoder.of_kind(OpKind.EMBEDDING)))


def _ops_model(artifact: Artifact, form: _Form) -> tuple[onnx.ModelProto, bytes]:
    """Return the model in custom operators and the contents of its weights file."""
    data = _parameters(artifact, form)
    data.add(ONE_TOKEN, np.array([1], np.int32))
    first_only = helper.make_node("Min", [LENGTHS, ONE_TOKEN], [FIRST_TOKEN_ONLY], name=FIRST_TOKEN_ONLY)
    nodes = [first_only, *(lower(step, form.packing) for step in blocks(artifact.encoder))]
    return _model(artifact.encoder, nodes, data, form), data.content()


def _standard_model(artifact: Artifact, form: _Form) -> tuple[onnx.ModelProto, bytes]:
    """Return the model in ONNX Runtime's operators and the contents of its weights file."""
    data = _parameters(artifact, form)
    graph = StandardGraph(artifact.encoder, artifact.parameters, data)
    inlined = inline_local_functions(_model(artifact.encoder, graph.nodes, data, form))
    del inlined.opset_import[:]
    inlined.opset_import.extend([helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB_DOMAIN, CONTRIB_VERSION)])
    return inlined, data.content()


def _parameters(artifact: Artifact, form: _Form) -> ExternalData:
    data = ExternalData(WEIGHTS_FILE)
    for name, spec in artifact.encoder.parameters.items():
        value = artifact.parameters[name]
        data.add(name, form.packed(name, value) if spec.ternary else value)
    data.add(FIRST_TOKEN_INDEX, np.array(0, np.int64))
    return data


def _model(encoder: Encoder, nodes: Sequence[NodeProto], data: ExternalData, form: _Form) -> onnx.ModelProto:
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "encoder",
        [_value_info(encoder.activations[name]) for name in encoder.graph_inputs],
        [_value_info(encoder.activations[encoder.graph_output])],
        [tensor for tensor in data.initializers if tensor.name in read],
    )
    domains = [("", OPSET), (DOMAIN, DOMAIN_VERSION)]
    return helper.make_model(
        graph,
        functions=function_protos(encoder.shape, form.packing),
        opset_imports=[helper.make_opsetid(*domain) for domain in domains],
        ir_version=IR_VERSION,
        producer_name="ti-qat",
    )


def _value_info(tensor: Tensor) -> ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, _ONNX_TYPES[tensor.dtype], list(tensor.shape))


def _manifest(artifact: Artifact, form: _Form, digests: Mapping[str, str]) -> Manifest:
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
        profile=form.profile,
        weight_bits=form.packing.weight_bits,
        operators=0 if form.profile == STANDARD else DOMAIN_VERSION,
        opset=OPSET,
        artifact=artifact.digest,
        ternary_linears=_figures(form, artifact.parameters, linears),
        word_embedding=_figures(form, artifact.parameters, embedding),
        macs=mac_counts(artifact.encoder),
        files=dict(digests),
    )


def _figures(form: _Form, parameters: Mapping[str, Array], names: Sequence[tuple[str, str]]) -> WeightFigures:
    weights = sum(parameters[codes].size for codes, _ in names)
    packed_bytes = sum(form.packed(codes, parameters[codes]).nbytes for codes, _ in names)
    scale_bytes = sum(parameters[scale].nbytes for _, scale in names)
    return WeightFigures(
        weights=weights,
        packed_bytes=packed_bytes,
        scale_bytes=scale_bytes,
        bits_per_weight=8 * packed_bytes / weights,
        bits_per_weight_with_scales=8 * (packed_bytes + scale_bytes) / weights,
    )
