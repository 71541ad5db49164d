"""The codes inside a bundle: its model operation by operation, with every quantiser's output as a further output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from deploy.bundle import MODEL_FILE, Bundle
from deploy.lowering import node_of
from deploy.runtime.session import session_options
from ti_qat.artifact.encoder import Encoder, OpKind
from ti_qat.artifact.packing import PACKINGS

Array = np.ndarray[Any, Any]


def quantizer_outputs(encoder: Encoder) -> tuple[str, ...]:
    """Return the activation names of all int8 codes, in execution order."""
    kinds = (OpKind.QUANTIZE, OpKind.QUANTIZE_PER_TOKEN)
    return tuple(op.outputs[0] for op in encoder.operations if op.kind in kinds)


class TappedModel:
    """A copy of a bundle's model in memory that returns logits and codes."""

    def __init__(self, bundle: Bundle, encoder: Encoder, *, threads: int | None = None, isa: str | None = None) -> None:
        self.names = quantizer_outputs(encoder)
        model = onnx.load(str(bundle.path / MODEL_FILE))
        if not bundle.manifest.is_standard:
            # A block keeps its codes to itself; its operations, on the bundle's own weights, do not.
            packing = next(packing for packing in PACKINGS if packing.weight_bits == bundle.manifest.weight_bits)
            del model.graph.node[:]
            model.graph.node.extend(node_of(op, packing) for op in encoder.operations)
        model.graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.INT8, list(encoder.activations[name].shape))
            for name in self.names
        )
        options = session_options(threads=threads, isa=isa, standard=bundle.manifest.is_standard)
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(self, inputs: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Return the logits, float32 (B, labels), and the int8 codes by activation name."""
        logits, *codes = self._session.run(None, dict(inputs))
        return logits, dict(zip(self.names, codes, strict=True))
