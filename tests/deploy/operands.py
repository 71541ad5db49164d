"""Operands for every operator, of sizes that are no multiple of a vector, and what the oracle makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deploy.blocks import FIRST_TOKEN_ONLY, Block, blocks
from deploy.operators import SCHEMAS
from deploy.panels import pack_panels
from tests.builders import tiny_parameters, tiny_quantization, tiny_shape
from ti_qat.artifact import numerics, reference
from ti_qat.artifact.encoder import INPUT_IDS, LENGTHS, TOKEN_TYPE_IDS, Encoder, build_encoder
from ti_qat.artifact.packing import pack_ternary
from ti_qat.artifact.schema import ActivationScaling, Granularity

TINY_SCALE = np.array([0.0123], np.float32)


@dataclass(frozen=True)
class Case:
    """One call of one operator: operands in order, those a model would hold as constants, expected results."""

    operator: str
    operands: tuple[np.ndarray, ...]
    constants: tuple[str, ...]
    expected: tuple[np.ndarray, ...]
    heads: int = 0


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def random_codes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-127, 128, shape).astype(np.int8)


def random_ternary(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-1, 2, shape).astype(np.int8)


def random_floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def special_floats() -> np.ndarray:
    """A grid over the range of the activation functions, the neighbourhood of zero, and both zeros."""
    grid = np.concatenate([np.linspace(-12, 12, 4001), np.linspace(-1e-4, 1e-4, 101), [0.0, -0.0, 90.0, -90.0]])
    return grid.astype(np.float32)


def all_cases() -> list[Case]:
    rng = np.random.default_rng(3)
    return [*_pointwise_cases(rng), *_linear_cases(rng), *_attention_cases(rng), *_block_cases(rng)]


def linear_case(tokens: int, *, inputs: int, outputs: int) -> Case:
    """A TernaryLinear with the largest codes there are, and a scale for every token and channel."""
    rng = np.random.default_rng(tokens)
    codes = rng.choice(np.array([-127, 127, 126, 0], np.int8), (tokens, inputs))
    weight_codes, bias = random_ternary(rng, outputs, inputs), random_floats(rng, outputs)
    scale, weight_scale = np.abs(random_floats(rng, tokens, 1)), np.abs(random_floats(rng, outputs))
    expected = reference.ternary_linear(codes, scale, weight_codes, weight_scale, bias)
    operands = (codes, scale, pack_panels(weight_codes), weight_scale, bias)
    return Case("TernaryLinear", operands, ("weight", "weight_scale", "bias"), (expected,))


def _pointwise_cases(rng: np.random.Generator) -> list[Case]:
    x, points = random_floats(rng, 2, 7, 24), special_floats()
    gamma, beta, epsilon = random_floats(rng, 24), random_floats(rng, 24), np.array([1e-12], np.float32)
    with_zero_token = x.copy()
    with_zero_token[1, 2] = 0
    return [
        Case("Quantize", (points, TINY_SCALE), ("scale",), (reference.quantize(points, TINY_SCALE),)),
        Case("QuantizePerToken", (with_zero_token,), (), reference.quantize_per_token(with_zero_token)),
        Case(
            "LayerNorm",
            (x, gamma, beta, epsilon),
            ("gamma", "beta", "epsilon"),
            (reference.layer_norm(x, gamma, beta, epsilon),),
        ),
        Case("Gelu", (points,), (), (numerics.gelu(points),)),
        Case("Tanh", (points,), (), (numerics.tanh(points),)),
    ]


def _linear_cases(rng: np.random.Generator) -> list[Case]:
    codes, weight_codes, bias = random_codes(rng, 2, 7, 23), random_ternary(rng, 33, 23), random_floats(rng, 33)
    weight = pack_panels(weight_codes)
    cases = []
    for scale in (TINY_SCALE, np.abs(random_floats(rng, 2, 7, 1))):
        for weight_scale in (TINY_SCALE, np.abs(random_floats(rng, 33))):
            expected = reference.ternary_linear(codes, scale, weight_codes, weight_scale, bias)
            operands = (codes, scale, weight, weight_scale, bias)
            constants = ("weight", "weight_scale", "bias", *(("scale",) if scale is TINY_SCALE else ()))
            cases.append(Case("TernaryLinear", operands, constants, (expected,)))
    ids, types = rng.integers(0, 61, (2, 7)).astype(np.int32), rng.integers(0, 2, (2, 7)).astype(np.int32)
    word_codes, position, token_type = (
        random_ternary(rng, 61, 23),
        random_floats(rng, 19, 23),
        random_floats(rng, 2, 23),
    )
    for word_scale in (TINY_SCALE, np.abs(random_floats(rng, 61))):
        expected = reference.embedding(ids, types, word_codes, word_scale, position, token_type)
        operands = (ids, types, pack_ternary(word_codes), word_scale, position, token_type)
        cases.append(Case("TernaryEmbedding", operands, ("word", "word_scale", "position", "token_type"), (expected,)))
    x, weight, bias = random_floats(rng, 3, 24), random_floats(rng, 2, 24), random_floats(rng, 2)
    cases.append(Case("Classifier", (x, weight, bias), ("weight", "bias"), (reference.classifier(x, weight, bias),)))
    return cases


def _attention_cases(rng: np.random.Generator) -> list[Case]:
    query, key, value = (random_codes(rng, 2, 7, 24) for _ in range(3))
    scale, heads = TINY_SCALE, 3
    scores = reference.attention_scores(query, scale, key, scale, heads)
    lengths = np.array([7, 3], np.int32)
    probabilities = reference.softmax(scores, lengths)
    p_scale = np.array([numerics.PROBABILITY_SCALE])
    p_codes = reference.quantize(probabilities, p_scale)
    context = reference.attention_context(p_codes, p_scale, value, scale, heads)
    return [
        Case("AttentionScores", (query, scale, key, scale), ("query_scale", "key_scale"), (scores,), heads),
        Case("Softmax", (scores, lengths), (), (probabilities,)),
        Case(
            "AttentionContext",
            (p_codes, p_scale, value, scale),
            ("probabilities_scale", "value_scale"),
            (context,),
            heads,
        ),
    ]


def _block_cases(rng: np.random.Generator) -> list[Case]:
    """Every block's operator; the expected results are those of the encoder's own operations, one after the other."""
    cases = []
    for granularity in (Granularity.PER_ROW, Granularity.PER_TENSOR):
        for scaling in (ActivationScaling.STATIC, ActivationScaling.DYNAMIC_PER_TOKEN):
            quantization = tiny_quantization(
                linear_weights=granularity, word_embedding=granularity, activations=scaling
            )
            encoder = build_encoder(tiny_shape(layers=2), quantization)
            parameters = tiny_parameters(encoder.shape, quantization)
            steps = [step for step in blocks(encoder) if isinstance(step, Block)]
            cases += [_block_case(rng, encoder, step, parameters) for step in steps]
    return cases


# Of three sequences of 11 tokens: how many exist, and how many of these a block is asked for.
BLOCK_TOKENS, BLOCK_LENGTHS, BLOCK_COUNTS = 11, (11, 1, 6), (4, 1, 6)


def _block_case(rng: np.random.Generator, encoder: Encoder, block: Block, parameters: dict[str, np.ndarray]) -> Case:
    batch, tokens, shape = len(BLOCK_LENGTHS), BLOCK_TOKENS, encoder.shape
    values = {
        INPUT_IDS: rng.integers(0, shape.vocabulary, (batch, tokens)).astype(np.int32),
        TOKEN_TYPE_IDS: rng.integers(0, shape.token_types, (batch, tokens)).astype(np.int32),
        LENGTHS: np.array(BLOCK_LENGTHS, np.int32),
        FIRST_TOKEN_ONLY: np.array(BLOCK_COUNTS, np.int32),
    }
    hidden = random_floats(rng, batch, tokens, shape.hidden)
    values |= parameters | {name: hidden for name in block.inputs if name not in parameters and name not in values}
    for op in block.operations:
        result = reference.KERNELS[op.kind](**{role: values[name] for role, name in op.inputs.items()}, **op.attributes)
        values.update(zip(op.outputs, result if isinstance(result, tuple) else (result,), strict=True))
    roles = SCHEMAS[block.operator].inputs
    computed = np.arange(tokens) < values[block.inputs[roles.index(block.computed)]][:, None]
    expected = np.where(computed[..., None], values[block.output], np.float32(0))
    constants = tuple(role for role, name in zip(roles, block.inputs, strict=True) if name in parameters)
    heads = shape.heads if SCHEMAS[block.operator].heads else 0
    return Case(
        block.operator, tuple(_packed(name, values[name]) for name in block.inputs), constants, (expected,), heads
    )


def _packed(name: str, value: np.ndarray) -> np.ndarray:
    if value.dtype != np.int8:
        return value
    return pack_ternary(value) if name == "embedding.word_codes" else pack_panels(value)
