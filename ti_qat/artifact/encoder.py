"""The only description of the network: a typed list of operations built from an artifact's header.

The NumPy oracle, the simulator, the exporter, the operation counts and the intervention hooks all
read this list and use its names. Symbols in shapes: B batch, S padded tokens; all else is a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from ti_qat.artifact.schema import ActivationScaling, EncoderShape, Granularity, Quantization

Shape = tuple[int | str, ...]


class OpKind(StrEnum):
    """Kinds of operation; docs/numerics.md gives the arithmetic of each."""

    EMBEDDING = "embedding"
    LAYER_NORM = "layer_norm"
    QUANTIZE = "quantize"
    QUANTIZE_PER_TOKEN = "quantize_per_token"
    TERNARY_LINEAR = "ternary_linear"
    ATTENTION_SCORES = "attention_scores"
    SOFTMAX = "softmax"
    ATTENTION_CONTEXT = "attention_context"
    RESIDUAL_ADD = "residual_add"
    GELU = "gelu"
    FIRST_TOKEN = "first_token"
    TANH = "tanh"
    CLASSIFIER = "classifier"


@dataclass(frozen=True)
class Tensor:
    """A named parameter or activation. `ternary` parameters hold codes in {-1, 0, 1} as int8."""

    name: str
    dtype: str
    shape: Shape
    ternary: bool = False


@dataclass(frozen=True)
class Operation:
    """One step: `inputs` maps the kernel's argument to the name of a parameter or activation."""

    name: str
    kind: OpKind
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoder:
    """Operations in execution order; every tensor they name, parameters apart from activations."""

    shape: EncoderShape
    operations: tuple[Operation, ...]
    parameters: Mapping[str, Tensor]
    activations: Mapping[str, Tensor]
    graph_inputs: tuple[str, ...]
    graph_output: str

    def of_kind(self, kind: OpKind) -> tuple[Operation, ...]:
        """Return the operations of one kind, in order."""
        return tuple(op for op in self.operations if op.kind is kind)


INPUT_IDS, TOKEN_TYPE_IDS, LENGTHS, LOGITS = "input_ids", "token_type_ids", "lengths", "logits"
GRAPH_INPUTS = (INPUT_IDS, TOKEN_TYPE_IDS, LENGTHS)


class _Builder:
    """Collects operations and tensors while the encoder is laid out once, front to back."""

    def __init__(self, shape: EncoderShape, quantization: Quantization) -> None:
        self.shape = shape
        self.quantization = quantization
        self.operations: list[Operation] = []
        self.parameters: dict[str, Tensor] = {}
        self.activations: dict[str, Tensor] = {}

    def parameter(self, name: str, shape: Shape, dtype: str = "float32", *, ternary: bool = False) -> str:
        self.parameters[name] = Tensor(name, dtype, shape, ternary)
        return name

    def activation(self, name: str, shape: Shape, dtype: str = "float32") -> str:
        self.activations[name] = Tensor(name, dtype, shape)
        return name

    def add(
        self,
        name: str,
        kind: OpKind,
        outputs: tuple[str, ...],
        *,
        attributes: Mapping[str, int] | None = None,
        **inputs: str,
    ) -> str:
        self.operations.append(Operation(name, kind, inputs, outputs, attributes or {}))
        return outputs[0]

    def layer_norm(self, name: str, x: str) -> str:
        hidden = self.shape.hidden
        return self.add(
            name,
            OpKind.LAYER_NORM,
            (self.activation(name + ".output", self.activations[x].shape),),
            x=x,
            gamma=self.parameter(name + ".gamma", (hidden,)),
            beta=self.parameter(name + ".beta", (hidden,)),
            epsilon=self.parameter("layer_norm.epsilon", (1,)),
        )

    def quantize_static(self, name: str, x: str) -> tuple[str, str]:
        scale = self.parameter(name + ".scale", (1,))
        codes = self.activation(name + ".codes", self.activations[x].shape, "int8")
        self.add(name, OpKind.QUANTIZE, (codes,), x=x, scale=scale)
        return codes, scale

    def quantize(self, name: str, x: str) -> tuple[str, str]:
        """Quantise the input of a linear as the scheme says."""
        if self.quantization.activations is ActivationScaling.STATIC:
            return self.quantize_static(name, x)
        shape = self.activations[x].shape
        codes = self.activation(name + ".codes", shape, "int8")
        scale = self.activation(name + ".scale", (*shape[:-1], 1))
        self.add(name, OpKind.QUANTIZE_PER_TOKEN, (codes, scale), x=x)
        return codes, scale

    def linear(self, name: str, quantized: tuple[str, str], out_features: int) -> str:
        codes, scale = quantized
        shape = self.activations[codes].shape
        in_features = shape[-1]
        per_row = self.quantization.linear_weights is Granularity.PER_ROW
        return self.add(
            name,
            OpKind.TERNARY_LINEAR,
            (self.activation(name + ".output", (*shape[:-1], out_features)),),
            codes=codes,
            scale=scale,
            weight_codes=self.parameter(name + ".weight_codes", (out_features, in_features), "int8", ternary=True),
            weight_scale=self.parameter(name + ".weight_scale", (out_features if per_row else 1,)),
            bias=self.parameter(name + ".bias", (out_features,)),
        )

    def pointwise(self, name: str, kind: OpKind, **inputs: str) -> str:
        shape = self.activations[next(iter(inputs.values()))].shape
        return self.add(name, kind, (self.activation(name + ".output", shape),), attributes=None, **inputs)


def _embedding(build: _Builder) -> str:
    shape, hidden = build.shape, build.shape.hidden
    per_row = build.quantization.word_embedding is Granularity.PER_ROW
    embedded = build.add(
        "embedding",
        OpKind.EMBEDDING,
        (build.activation("embedding.output", ("B", "S", hidden)),),
        input_ids=build.activation(INPUT_IDS, ("B", "S"), "int32"),
        token_type_ids=build.activation(TOKEN_TYPE_IDS, ("B", "S"), "int32"),
        word_codes=build.parameter("embedding.word_codes", (shape.vocabulary, hidden), "int8", ternary=True),
        word_scale=build.parameter("embedding.word_scale", (shape.vocabulary if per_row else 1,)),
        position=build.parameter("embedding.position", (shape.positions, hidden)),
        token_type=build.parameter("embedding.token_type", (shape.token_types, hidden)),
    )
    return build.layer_norm("embedding.norm", embedded)


def _attention(build: _Builder, name: str, x: str) -> str:
    shape = build.shape
    heads = {"heads": shape.heads}
    quantized = build.quantize(name + ".input", x)
    query, key, value = (
        build.quantize_static(f"{name}.{part}_quantizer", build.linear(f"{name}.{part}", quantized, shape.hidden))
        for part in ("query", "key", "value")
    )
    square: Shape = ("B", shape.heads, "S", "S")
    scores = build.add(
        name + ".scores",
        OpKind.ATTENTION_SCORES,
        (build.activation(name + ".scores.output", square),),
        attributes=heads,
        query=query[0],
        query_scale=query[1],
        key=key[0],
        key_scale=key[1],
    )
    probabilities = build.pointwise(name + ".probabilities", OpKind.SOFTMAX, x=scores, lengths=LENGTHS)
    codes, scale = build.quantize_static(name + ".probabilities_quantizer", probabilities)
    context = build.add(
        name + ".context",
        OpKind.ATTENTION_CONTEXT,
        (build.activation(name + ".context.output", ("B", "S", shape.hidden)),),
        attributes=heads,
        probabilities=codes,
        probabilities_scale=scale,
        value=value[0],
        value_scale=value[1],
    )
    output = build.linear(name + ".output", build.quantize(name + ".output.input", context), shape.hidden)
    summed = build.pointwise(name + ".residual", OpKind.RESIDUAL_ADD, x=output, residual=x)
    return build.layer_norm(name + ".norm", summed)


def _feed_forward(build: _Builder, name: str, x: str) -> str:
    shape = build.shape
    up = build.linear(name + ".up", build.quantize(name + ".up.input", x), shape.feed_forward)
    activated = build.pointwise(name + ".gelu", OpKind.GELU, x=up)
    down = build.linear(name + ".down", build.quantize(name + ".down.input", activated), shape.hidden)
    summed = build.pointwise(name + ".residual", OpKind.RESIDUAL_ADD, x=down, residual=x)
    return build.layer_norm(name + ".norm", summed)


def _head(build: _Builder, x: str) -> str:
    shape = build.shape
    first = build.add(
        "pooler.first_token",
        OpKind.FIRST_TOKEN,
        (build.activation("pooler.first_token.output", ("B", shape.hidden)),),
        x=x,
    )
    pooled = build.linear("pooler", build.quantize("pooler.input", first), shape.hidden)
    activated = build.pointwise("pooler.tanh", OpKind.TANH, x=pooled)
    return build.add(
        "classifier",
        OpKind.CLASSIFIER,
        (build.activation(LOGITS, ("B", shape.labels)),),
        x=activated,
        weight=build.parameter("classifier.weight", (shape.labels, shape.hidden)),
        bias=build.parameter("classifier.bias", (shape.labels,)),
    )


def hidden_state_names(shape: EncoderShape) -> tuple[str, ...]:
    """Return the names of the L+1 hidden states: after the embedding, then after each layer."""
    return ("embedding.norm.output", *(f"layers.{i}.feed_forward.norm.output" for i in range(shape.layers)))


def build_encoder(shape: EncoderShape, quantization: Quantization) -> Encoder:
    """Lay out the encoder of `shape` under `quantization`."""
    build = _Builder(shape, quantization)
    build.activation(LENGTHS, ("B",), "int32")
    x = _embedding(build)
    for i in range(shape.layers):
        x = _attention(build, f"layers.{i}.attention", x)
        x = _feed_forward(build, f"layers.{i}.feed_forward", x)
    logits = _head(build, x)
    return Encoder(shape, tuple(build.operations), build.parameters, build.activations, GRAPH_INPUTS, logits)


Kernel = Callable[..., Any]
Observer = Callable[[Operation, Mapping[str, np.ndarray], tuple[np.ndarray, ...]], None]


def execute(
    encoder: Encoder,
    kernels: Mapping[OpKind, Kernel],
    parameters: Mapping[str, np.ndarray],
    inputs: Mapping[str, np.ndarray],
    observe: Observer | None = None,
) -> np.ndarray:
    """Run the operations with `kernels` and return the logits, float32 (B, labels).

    `inputs` holds input_ids and token_type_ids, int32 (B, S), padded on the right, and lengths,
    int32 (B,). A kernel takes an operation's inputs and attributes by name and returns its output,
    or a tuple of outputs. `observe` sees every operation with its operands and results.
    """
    values: dict[str, np.ndarray] = dict(inputs)
    for op in encoder.operations:
        operands = {
            role: parameters[name] if name in encoder.parameters else values[name] for role, name in op.inputs.items()
        }
        result = kernels[op.kind](**operands, **op.attributes)
        results = result if isinstance(result, tuple) else (result,)
        values.update(zip(op.outputs, results, strict=True))
        if observe is not None:
            observe(op, operands, results)
    return values[encoder.graph_output]


@dataclass(frozen=True)
class Gemm:
    """`count` products of x (M, K) with weight (N, K) into (M, N), all of one operation."""

    operation: str
    kind: OpKind
    m: int
    k: int
    n: int
    count: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all `count` products."""
        return self.m * self.k * self.n * self.count


def gemms(encoder: Encoder, batch: int, tokens: int) -> tuple[Gemm, ...]:
    """Return the integer matrix products of one forward pass over `batch` x `tokens`, in order."""
    found = []
    shape = encoder.shape
    for op in encoder.operations:
        if op.kind is OpKind.TERNARY_LINEAR:
            n, k = encoder.parameters[op.inputs["weight_codes"]].shape
            rows = batch * tokens if "S" in encoder.activations[op.inputs["codes"]].shape else batch
            found.append(Gemm(op.name, op.kind, rows, int(k), int(n)))
        elif op.kind is OpKind.ATTENTION_SCORES:
            found.append(Gemm(op.name, op.kind, tokens, shape.head_size, tokens, batch * shape.heads))
        elif op.kind is OpKind.ATTENTION_CONTEXT:
            found.append(Gemm(op.name, op.kind, tokens, tokens, shape.head_size, batch * shape.heads))
    return tuple(found)
