"""The operators for onnx.reference.ReferenceEvaluator: the NumPy oracle behind the packed signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from deploy.blocks import canonical_block, computed_role, is_block
from deploy.lowering import CUSTOM_OPERATORS
from deploy.operators import DOMAIN, HEADS, PACKING, SCHEMAS
from deploy.panels import unpack_panels
from ti_qat.artifact import numerics, reference
from ti_qat.artifact.encoder import Operation
from ti_qat.artifact.packing import PACKINGS, TWO_BITS, unpack_ternary

Array = np.ndarray[Any, Any]

_PACKINGS = {packing.codes_per_byte: packing for packing in PACKINGS}


def _ternary_linear(
    codes: Array,
    scale: Array,
    weight: Array,
    weight_scale: Array,
    bias: Array,
    packing: int = TWO_BITS.codes_per_byte,
) -> Array:
    weight_codes = unpack_panels(weight, len(bias), codes.shape[-1], _PACKINGS[packing])
    return reference.ternary_linear(codes, scale, weight_codes, weight_scale, bias)


def _ternary_embedding(
    input_ids: Array,
    token_type_ids: Array,
    word: Array,
    word_scale: Array,
    position: Array,
    token_type: Array,
    packing: int = TWO_BITS.codes_per_byte,
) -> Array:
    word_codes = unpack_ternary(word, position.shape[-1], _PACKINGS[packing])
    return reference.embedding(input_ids, token_type_ids, word_codes, word_scale, position, token_type)


_KERNELS = {
    "Quantize": reference.quantize,
    "QuantizePerToken": reference.quantize_per_token,
    "TernaryLinear": _ternary_linear,
    "TernaryEmbedding": _ternary_embedding,
    "LayerNorm": reference.layer_norm,
    "AttentionScores": reference.attention_scores,
    "Softmax": reference.softmax,
    "AttentionContext": reference.attention_context,
    "Gelu": numerics.gelu,
    "Tanh": numerics.tanh,
    "Classifier": reference.classifier,
}


def _run_operation(
    op: Operation, operands: Mapping[str, Array], attributes: Mapping[str, int]
) -> Array | tuple[Array, ...]:
    if op.kind in CUSTOM_OPERATORS:
        name, roles = CUSTOM_OPERATORS[op.kind]
        schema = SCHEMAS[name]
        own = {key: attributes[key] for key, has in ((HEADS, schema.heads), (PACKING, schema.packed)) if has}
        return _KERNELS[name](*(operands[role] for role in roles), **own)  # type: ignore[operator]
    return reference.KERNELS[op.kind](**operands)


def _block(name: str) -> Callable[..., Array]:
    """Return what runs a block operation by operation, and puts zeros where no result is asked for."""

    def run(*inputs: Array, heads: int = 0, packing: int = TWO_BITS.codes_per_byte) -> Array:
        attributes = {HEADS: heads, PACKING: packing}
        values = dict(zip(SCHEMAS[name].inputs, inputs, strict=True))
        for op in canonical_block(name):
            result = _run_operation(op, {role: values[tensor] for role, tensor in op.inputs.items()}, attributes)
            values.update(zip(op.outputs, result if isinstance(result, tuple) else (result,), strict=True))
        y = values[op.outputs[0]]
        computed = np.arange(y.shape[1]) < values[computed_role(name)][:, None]
        return np.where(computed[..., None], y, np.float32(0))

    return run


def _operator(name: str) -> type[OpRun]:
    kernel = _block(name) if is_block(name) else _KERNELS[name]

    def _run(self: OpRun, *inputs: Array, **attributes: Any) -> tuple[Array, ...]:
        result = kernel(*inputs, **attributes)  # type: ignore[operator]
        return result if isinstance(result, tuple) else (result,)

    # Without op_schema the evaluator would take the attributes of a standard operator of that name.
    return type(name, (OpRun,), {"op_domain": DOMAIN, "op_schema": None, "_run": _run})


REFERENCE_OPS: tuple[type[OpRun], ...] = tuple(_operator(name) for name in SCHEMAS)
