"""The `standard` profile: the encoder in operators that every ONNX Runtime from 1.24 on has, and no library of ours.

Linears are ONNX Runtime's MatMulNBits at 2 bits a weight. Its quick kernels (accuracy level 4) quantise
the inputs of each block of weights anew, under the largest of them. Here the last input of every block
is 127 and its weight is code 0: the largest is then always 127, quantising changes no code, and the
sums are those of docs/numerics.md, exactly. Where a version has no such kernel it computes in binary32,
in which these sums are exact as well. Codes, scales and the products of attention have the function
bodies of the custom operators; softmax, GELU, tanh, LayerNorm and classifier are ONNX's own, whose last
bits differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from deploy.external_data import ExternalData
from deploy.lowering import node_of
from ti_qat.artifact.encoder import INPUT_IDS, LENGTHS, Encoder, Operation, OpKind
from ti_qat.artifact.packing import CODES_PER_BYTE, TWO_BITS, pack_ternary, packed_width

Array = np.ndarray[Any, Any]

CONTRIB_DOMAIN, CONTRIB_VERSION = "com.microsoft", 1
BLOCK_CODES = 64
INPUTS_PER_BLOCK = BLOCK_CODES - 1
# MatMulNBits quantises its inputs to int8 and has quick kernels for it.
ACCURACY_LEVEL = 4
ZERO_POINTS_OF_ONE = 0b01_01_01_01
LARGEST_CODE = 127
PADDING_MASK = "padding.mask"


def blocks_of(inputs: int) -> int:
    """Return how many blocks of weights a linear of so many inputs has."""
    return -(-inputs // INPUTS_PER_BLOCK)


def pack_blocks(codes: Array) -> Array:
    """Pack int8 codes (N, K) as MatMulNBits reads them, uint8 (N, blocks, 16): 63 codes and a code 0 a block."""
    rows, width = codes.shape
    blocks = blocks_of(width)
    padded = np.zeros((rows, blocks * INPUTS_PER_BLOCK), np.int8)
    padded[:, :width] = codes
    with_sentinels = np.zeros((rows, blocks, BLOCK_CODES), np.int8)
    with_sentinels[..., :INPUTS_PER_BLOCK] = padded.reshape(rows, blocks, INPUTS_PER_BLOCK)
    return pack_ternary(with_sentinels.reshape(rows, -1)).reshape(rows, blocks, BLOCK_CODES // CODES_PER_BYTE)


class StandardGraph:
    """Writes the nodes of an encoder's operations, and the constants that only they need."""

    def __init__(self, encoder: Encoder, parameters: Mapping[str, Array], data: ExternalData) -> None:
        self._encoder, self._parameters, self._data = encoder, parameters, data
        self._made: set[str] = set()
        self.nodes: list[NodeProto] = []
        stock: Mapping[OpKind, Callable[[Operation], None]] = {
            OpKind.TERNARY_LINEAR: self._linear,
            OpKind.LAYER_NORM: self._layer_norm,
            OpKind.SOFTMAX: self._softmax,
            OpKind.GELU: self._gelu,
            OpKind.TANH: self._tanh,
            OpKind.CLASSIFIER: self._classifier,
        }
        for op in encoder.operations:
            if op.kind in stock:
                stock[op.kind](op)
            else:
                self.nodes.append(node_of(op))

    def _node(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def _constant(self, name: str, value: Array) -> str:
        if name not in self._made:
            self._made.add(name)
            self._data.add(name, value)
        return name

    def _ints(self, *values: int) -> str:
        return self._constant("ints." + ".".join(map(str, values)), np.array(values, np.int64))

    def _in_blocks(self, codes: str) -> str:
        """Return int8 codes (..., K) as float32 (..., 64 blocks): 63 codes and a 127 a block; once for all linears."""
        name = codes + ".blocks"
        if name in self._made:
            return name
        self._made.add(name)
        *rows, width = self._encoder.activations[codes].shape
        assert isinstance(width, int)
        blocks, kept = blocks_of(width), [0] * len(rows)
        last = self._ints(-1)
        padding = self._ints(0, blocks * INPUTS_PER_BLOCK - width)
        zero, largest = (self._constant(f"code.{code}", np.array(code, np.int8)) for code in (0, LARGEST_CODE))
        padded = self._node("Pad", [codes, padding, zero, last], codes + ".padded")
        split = self._node("Reshape", [padded, self._ints(*kept, blocks, INPUTS_PER_BLOCK)], codes + ".split")
        topped = self._node("Pad", [split, self._ints(0, 1), largest, last], codes + ".topped")
        merged = self._node("Reshape", [topped, self._ints(*kept, blocks * BLOCK_CODES)], codes + ".merged")
        return self._node("Cast", [merged], name, to=TensorProto.FLOAT)

    def _linear(self, op: Operation) -> None:
        channels, width = self._parameters[op.inputs["weight_codes"]].shape
        blocks = blocks_of(width)
        ones = self._constant(f"ones.{channels}.{blocks}", np.ones((channels, blocks), np.float32))
        points = np.full((channels, packed_width(blocks, TWO_BITS)), ZERO_POINTS_OF_ONE, np.uint8)
        accumulator = self._node(
            "MatMulNBits",
            [
                self._in_blocks(op.inputs["codes"]),
                op.inputs["weight_codes"],
                ones,
                self._constant(f"zero_points.{channels}.{blocks}", points),
            ],
            op.name + ".accumulator",
            CONTRIB_DOMAIN,
            K=blocks * BLOCK_CODES,
            N=channels,
            bits=2,
            block_size=BLOCK_CODES,
            accuracy_level=ACCURACY_LEVEL,
        )
        scale = self._node("Mul", [op.inputs["scale"], op.inputs["weight_scale"]], op.name + ".scale")
        scaled = self._node("Mul", [accumulator, scale], op.name + ".scaled")
        self._node("Add", [scaled, op.inputs["bias"]], op.outputs[0])

    def _layer_norm(self, op: Operation) -> None:
        epsilon = float(self._parameters[op.inputs["epsilon"]][0])
        inputs = [op.inputs[role] for role in ("x", "gamma", "beta")]
        self._node("LayerNormalization", inputs, op.outputs[0], axis=-1, epsilon=epsilon)

    def _softmax(self, op: Operation) -> None:
        masked = self._node("Add", [op.inputs["x"], self._padding_mask()], op.name + ".masked")
        self._node("Softmax", [masked], op.outputs[0], axis=-1)

    def _padding_mask(self) -> str:
        """Return float32 (B, 1, 1, S): 0 for a token, the lowest number for padding."""
        if PADDING_MASK in self._made:
            return PADDING_MASK
        self._made.add(PADDING_MASK)
        shape = self._node("Shape", [INPUT_IDS], "padding.shape", start=1)
        tokens = self._node("Squeeze", [shape], "padding.tokens")
        start, step = (self._constant(f"int.{value}", np.array(value, np.int64)) for value in (0, 1))
        positions = self._node("Range", [start, tokens, step], "padding.positions")
        lengths = self._node("Cast", [LENGTHS], "padding.lengths", to=TensorProto.INT64)
        ends = self._node("Unsqueeze", [lengths, self._ints(1, 2, 3)], "padding.ends")
        valid = self._node("Less", [positions, ends], "padding.valid")
        kept = self._constant("padding.kept", np.array(0, np.float32))
        dropped = self._constant("padding.dropped", np.array(np.finfo(np.float32).min, np.float32))
        return self._node("Where", [valid, kept, dropped], PADDING_MASK)

    def _gelu(self, op: Operation) -> None:
        self._node("Gelu", [op.inputs["x"]], op.outputs[0], CONTRIB_DOMAIN)

    def _tanh(self, op: Operation) -> None:
        self._node("Tanh", [op.inputs["x"]], op.outputs[0])

    def _classifier(self, op: Operation) -> None:
        self._node("Gemm", [op.inputs[role] for role in ("x", "weight", "bias")], op.outputs[0], transB=1)
