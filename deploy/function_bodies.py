"""Each operator as an ONNX function of standard operators, with the bits of the compiled one.

A bundle carries them, so it also runs where the compiled operators are absent. ONNX Runtime
rewrites some patterns into ones that round differently; the two that the arithmetic would hit are
kept apart on purpose: `_reciprocal` (1 / x times y would become y / x) and `_dequantize` (a cast of
an integer product times a product of scales would become one fused operator).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, helper, numpy_helper

from deploy.blocks import RESULT, canonical_block, computed_role, is_block
from deploy.lowering import node_of
from deploy.operators import DOMAIN, DOMAIN_VERSION, HEADS, OPSET, PACKING, SCHEMAS
from deploy.panels import PANEL_CHANNELS, WORD_CODES
from ti_qat.artifact import numerics
from ti_qat.artifact.packing import TWO_BITS, Packing
from ti_qat.artifact.schema import EncoderShape

Value = str | np.ndarray[Any, Any] | np.generic


class Body:
    """Collects the nodes of one function; an operand is the name of a value or a constant."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []

    def __call__(self, op_type: str, *operands: Value, output: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        names = [operand if isinstance(operand, str) else self._constant(operand) for operand in operands]
        name = output or self._fresh()
        self.nodes.append(helper.make_node(op_type, names, [name], **attributes))
        return name

    def add(self, node: NodeProto) -> None:
        """Add a node as it is, but for the number of heads, which becomes the function's."""
        for attribute in node.attribute:
            if attribute.name == HEADS:
                attribute.CopyFrom(AttributeProto(name=HEADS, ref_attr_name=HEADS, type=AttributeProto.INT))
        self.nodes.append(node)

    def attribute(self, name: str) -> str:
        """Return the function's integer attribute `name` as an int64 vector of one element."""
        node = helper.make_node("Constant", [], [self._fresh()])
        node.attribute.append(AttributeProto(name="value_int", ref_attr_name=name, type=AttributeProto.INT))
        self.nodes.append(node)
        return self("Reshape", node.output[0], _ints(1))

    def _constant(self, value: np.ndarray[Any, Any] | np.generic) -> str:
        name = self._fresh()
        tensor = numpy_helper.from_array(np.asarray(value))
        self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def _fresh(self) -> str:
        return f"v{len(self.nodes)}"


def function_protos(shape: EncoderShape, packing: Packing = TWO_BITS) -> list[FunctionProto]:
    """Return one function for each operator; sums are padded for an encoder of `shape`, weights are so packed."""
    hidden_width = numerics.power_of_two_at_least(shape.hidden)
    token_width = numerics.power_of_two_at_least(shape.positions)
    bodies: dict[str, Callable[[Body], None]] = {
        "Quantize": _quantize,
        "QuantizePerToken": _quantize_per_token,
        "TernaryLinear": lambda body: _ternary_linear(body, packing),
        "TernaryEmbedding": lambda body: _ternary_embedding(body, packing),
        "LayerNorm": lambda body: _layer_norm(body, hidden_width),
        "AttentionScores": _attention_scores,
        "Softmax": lambda body: _softmax(body, token_width),
        "AttentionContext": _attention_context,
        "Gelu": _gelu,
        "Tanh": _tanh,
        "Classifier": lambda body: _classifier(body, hidden_width),
    }
    for name in filter(is_block, SCHEMAS):
        bodies[name] = partial(_block, operator=name, packing=packing)
    return [_function(name, bodies[name]) for name in SCHEMAS]


def _function(name: str, write: Callable[[Body], None]) -> FunctionProto:
    schema = SCHEMAS[name]
    body = Body()
    write(body)
    return helper.make_function(
        DOMAIN,
        name,
        list(schema.inputs),
        list(schema.outputs),
        body.nodes,
        [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        [HEADS] if schema.heads else [],
        [helper.make_attribute(PACKING, TWO_BITS.codes_per_byte)] if schema.packed else [],
    )


def _block(body: Body, operator: str, packing: Packing) -> None:
    """Write the block's operations, one custom operator each, and zeros where no result is asked for."""
    for op in canonical_block(operator):
        body.add(node_of(op, packing))
    _computed_only(body, op.outputs[0], computed_role(operator))


def _computed_only(body: Body, x: str, counts: str) -> None:
    """Write y: x (B, S, H) at the first counts[b] tokens of each sequence, zero elsewhere."""
    tokens = body("Squeeze", body("Cast", body("Shape", x, start=1, end=2), to=TensorProto.INT32), _ints(0))
    positions = body("Range", np.int32(0), tokens, np.int32(1))
    computed = body("Less", positions, body("Unsqueeze", counts, _ints(1)))
    body("Where", body("Unsqueeze", computed, _ints(-1)), x, np.float32(0), output=RESULT)


def _ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def _reciprocal(body: Body, x: str) -> str:
    """Return 1 / x, correctly rounded: in binary64 and rounded once more, which for division changes nothing."""
    wide = body("Div", np.float64(1), body("Cast", x, to=TensorProto.DOUBLE))
    return body("Cast", wide, to=TensorProto.FLOAT)


def _square_root(body: Body, x: str) -> str:
    """Return the correctly rounded square root, by way of binary64 as in `_reciprocal`."""
    wide = body("Sqrt", body("Cast", x, to=TensorProto.DOUBLE))
    return body("Cast", wide, to=TensorProto.FLOAT)


def _polynomial(body: Body, x: str, coefficients: tuple[np.float32, ...]) -> str:
    p: Value = coefficients[0]
    for coefficient in coefficients[1:]:
        p = body("Add", body("Mul", p, x), coefficient)
    assert isinstance(p, str)
    return p


def _exp_nonpositive(body: Body, x: str) -> str:
    x = body("Max", x, numerics.EXP_MIN)
    n = body("Round", body("Mul", x, numerics.LOG2_E))
    r = body("Sub", body("Sub", x, body("Mul", n, numerics.LN2_HIGH)), body("Mul", n, numerics.LN2_LOW))
    p = _polynomial(body, r, numerics.EXP_COEFFICIENTS)
    y = body("Add", body("Add", body("Mul", p, body("Mul", r, r)), r), numerics.ONE)
    index = body("Cast", body("Neg", n), to=TensorProto.INT64)
    return body("Mul", y, body("Gather", numerics.NEGATIVE_POWERS_OF_TWO, index, axis=0))


def _copy_sign(body: Body, magnitude: str, x: str, output: str | None = None) -> str:
    """Return |magnitude| with the sign of x, of a zero too: 1 / x tells it, and only a product can return it."""
    negative = body("Less", body("Min", x, body("Div", numerics.ONE, x)), np.float32(0))
    sign = body("Where", negative, -numerics.ONE, numerics.ONE)
    return body("Mul", body("Abs", magnitude), sign, output=output)


def _tree_sum(body: Body, x: str, width: int) -> str:
    """Return the sum of the last axis, kept as an axis of one, padded to `width` and folded by halving."""
    missing = body("Sub", _ints(width), body("Shape", x, start=-1))
    pads = body("Concat", _ints(0), missing, axis=0)
    x = body("Pad", x, pads, np.float32(0), _ints(-1))
    while width > 1:
        width //= 2
        lower = body("Slice", x, _ints(0), _ints(width), _ints(-1))
        upper = body("Slice", x, _ints(width), _ints(2 * width), _ints(-1))
        x = body("Add", lower, upper)
    return x


def _quantize_codes(body: Body, x: str, scale: str) -> None:
    scaled = body("Round", body("Mul", x, _reciprocal(body, scale)))
    clipped = body("Min", body("Max", scaled, -numerics.CODE_MAX), numerics.CODE_MAX)
    body("Cast", clipped, to=TensorProto.INT8, output="codes")


def _quantize(body: Body) -> None:
    _quantize_codes(body, "x", "scale")


def _quantize_per_token(body: Body) -> None:
    largest = body("ReduceMax", body("Abs", "x"), _ints(-1), keepdims=1)
    scale = body("Div", largest, numerics.CODE_MAX)
    scale = body("Where", body("Greater", largest, np.float32(0)), scale, numerics.ONE, output="scale")
    _quantize_codes(body, "x", scale)


def _unpack_digits(body: Body, packed: str, packing: Packing) -> str:
    """Return the digits code + 1 of packed bytes (rows..., bytes) as uint8 (rows..., all that they hold)."""
    # A table instead of divisions, which early versions lack for bytes; Gather refuses a byte beyond it.
    table = (np.arange(packing.legal_bytes)[:, None] // packing.places % packing.base).astype(np.uint8)
    digits = body("Gather", table, body("Cast", packed, to=TensorProto.INT32), axis=0)
    rows = body("Shape", packed, end=-1)
    return body("Reshape", digits, body("Concat", rows, _ints(-1), axis=0))


def _first_columns(body: Body, x: str, width: str) -> str:
    return body("Slice", x, _ints(0), width, _ints(-1))


def _unpack_panels(body: Body, weight: str, width: str, channels: str, packing: Packing) -> str:
    """Return the digits of a linear's weight, in panels, as uint8 (channels, width)."""
    digits = _unpack_digits(body, body("Flatten", weight, axis=1), packing)
    whole_words = body("Div", body("Shape", digits, start=-1), _ints(PANEL_CHANNELS * WORD_CODES))
    digits = _first_columns(body, digits, body("Mul", whole_words, _ints(PANEL_CHANNELS * WORD_CODES)))
    by_word = body("Reshape", digits, _ints(0, -1, PANEL_CHANNELS, WORD_CODES))
    by_channel = body("Flatten", body("Transpose", by_word, perm=[0, 2, 1, 3]), axis=2)
    return _first_columns(body, body("Slice", by_channel, _ints(0), channels, _ints(0)), width)


def _offset_codes(body: Body, codes: str) -> str:
    """Return int8 codes as uint8 with zero point 128: the one pair of types that every processor multiplies exactly."""
    wide = body("Add", body("Cast", codes, to=TensorProto.INT32), np.int32(128))
    return body("Cast", wide, to=TensorProto.UINT8)


def _dequantize(body: Body, accumulator: str, scale: str, output: str | None = None) -> str:
    """Return float32(accumulator) * scale; the cast through int64 changes nothing and keeps the product unfused."""
    wide = body("Cast", accumulator, to=TensorProto.INT64)
    return body("Mul", body("Cast", wide, to=TensorProto.FLOAT), scale, output=output)


def _ternary_linear(body: Body, packing: Packing) -> None:
    digits = _unpack_panels(body, "weight", body("Shape", "codes", start=-1), body("Shape", "bias"), packing)
    weight = body("Transpose", digits, perm=[1, 0])
    accumulator = body("MatMulInteger", _offset_codes(body, "codes"), weight, np.uint8(128), np.uint8(1))
    scaled = _dequantize(body, accumulator, body("Mul", "scale", "weight_scale"))
    body("Add", scaled, "bias", output="y")


def _ternary_embedding(body: Body, packing: Packing) -> None:
    digits = _unpack_digits(body, body("Gather", "word", "input_ids", axis=0), packing)
    digits = _first_columns(body, digits, body("Shape", "position", start=-1))
    codes = body("Sub", body("Cast", digits, to=TensorProto.FLOAT), numerics.ONE)
    scales = body("Cast", body("Shape", "word_scale"), to=TensorProto.INT32)
    # One shared scale: every id modulo 1 is its index.
    scale = body("Gather", "word_scale", body("Mod", "input_ids", scales), axis=0)
    word = body("Mul", codes, body("Unsqueeze", scale, _ints(-1)))
    typed = body("Add", word, body("Gather", "token_type", "token_type_ids", axis=0))
    position = body("Slice", "position", _ints(0), body("Shape", "input_ids", start=1), _ints(0))
    body("Add", typed, position, output="y")


def _layer_norm(body: Body, padded_width: int) -> None:
    width = body("Cast", body("Shape", "x", start=-1), to=TensorProto.FLOAT)
    mean = body("Div", _tree_sum(body, "x", padded_width), width)
    centred = body("Sub", "x", mean)
    variance = body("Div", _tree_sum(body, body("Mul", centred, centred), padded_width), width)
    inverse_deviation = _reciprocal(body, _square_root(body, body("Add", variance, "epsilon")))
    scaled = body("Mul", body("Mul", centred, inverse_deviation), "gamma")
    body("Add", scaled, "beta", output="y")


def _split_heads(body: Body, codes: str, order: list[int]) -> str:
    """Return (B, S, H) codes as offset codes, split into (B, S, heads, D) and transposed."""
    shape = body("Concat", _ints(0, 0), body.attribute("heads"), _ints(-1), axis=0)
    return body("Transpose", body("Reshape", _offset_codes(body, codes), shape), perm=order)


def _attention_scores(body: Body) -> None:
    query = _split_heads(body, "query", [0, 2, 1, 3])
    key = _split_heads(body, "key", [0, 2, 3, 1])
    accumulator = body("MatMulInteger", query, key, np.uint8(128), np.uint8(128))
    head_size = body("Div", body("Shape", "query", start=-1), body.attribute("heads"))
    root = body("Sqrt", body("Cast", head_size, to=TensorProto.DOUBLE))
    head_scale = body("Cast", body("Div", np.float64(1), root), to=TensorProto.FLOAT)
    scale = body("Mul", body("Mul", "query_scale", "key_scale"), head_scale)
    _dequantize(body, accumulator, scale, output="y")


def _softmax(body: Body, padded_width: int) -> None:
    tokens = body("Cast", body("Shape", "x", start=-1), to=TensorProto.INT32)
    tokens = body("Squeeze", tokens, _ints(0))
    positions = body("Range", np.int32(0), tokens, np.int32(1))
    valid = body("Less", positions, body("Unsqueeze", "lengths", _ints(1, 2, 3)))
    zero = np.float32(0)
    maximum = body("ReduceMax", body("Where", valid, "x", np.float32(-np.inf)), _ints(-1), keepdims=1)
    shifted = body("Where", valid, body("Sub", "x", maximum), zero)
    exponential = body("Where", valid, _exp_nonpositive(body, shifted), zero)
    body("Div", exponential, _tree_sum(body, exponential, padded_width), output="y")


def _attention_context(body: Body) -> None:
    value = _split_heads(body, "value", [0, 2, 1, 3])
    codes = _offset_codes(body, "probabilities")
    accumulator = body("MatMulInteger", codes, value, np.uint8(128), np.uint8(128))
    context = _dequantize(body, accumulator, body("Mul", "probabilities_scale", "value_scale"))
    merged = body("Transpose", context, perm=[0, 2, 1, 3])
    body("Reshape", merged, body("Shape", "value"), output="y")


def _gelu(body: Body) -> None:
    x = body("Mul", "x", numerics.SQRT_HALF)
    a = body("Abs", x)
    t = _reciprocal(body, body("Add", body("Mul", a, numerics.ERF_P), numerics.ONE))
    p = _polynomial(body, t, numerics.ERF_COEFFICIENTS)
    tail = body("Mul", body("Mul", p, t), _exp_nonpositive(body, body("Neg", body("Mul", a, a))))
    erf = _copy_sign(body, body("Sub", numerics.ONE, tail), x)
    body("Mul", body("Mul", "x", numerics.HALF), body("Add", erf, numerics.ONE), output="y")


def _tanh(body: Body) -> None:
    t = _exp_nonpositive(body, body("Neg", body("Mul", body("Abs", "x"), numerics.TWO)))
    magnitude = body("Div", body("Sub", numerics.ONE, t), body("Add", t, numerics.ONE))
    _copy_sign(body, magnitude, "x", output="y")


def _classifier(body: Body, padded_width: int) -> None:
    products = body("Mul", body("Unsqueeze", "x", _ints(1)), "weight")
    sums = body("Squeeze", _tree_sum(body, products, padded_width), _ints(-1))
    body("Add", sums, "bias", output="y")
