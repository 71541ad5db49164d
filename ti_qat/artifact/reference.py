"""The NumPy oracle: every operation kind in the plainest form that obeys docs/numerics.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ti_qat.artifact import numerics
from ti_qat.artifact.encoder import Kernel, OpKind

Array = np.ndarray[Any, Any]


def tree_sum(x: Array) -> Array:
    """Return the sum of the last axis in adder-tree order, float32; see numerics.tree_sum_in_place."""
    width = x.shape[-1]
    buffer = np.zeros((*x.shape[:-1], numerics.power_of_two_at_least(width)), np.float32)
    buffer[..., :width] = x
    return numerics.tree_sum_in_place(buffer)


def embedding(
    input_ids: Array, token_type_ids: Array, word_codes: Array, word_scale: Array, position: Array, token_type: Array
) -> Array:
    """Return word + type + position embeddings, float32 (B, S, H), added in that order."""
    scale = word_scale[input_ids][..., None] if word_scale.size > 1 else word_scale
    word = word_codes[input_ids].astype(np.float32) * scale
    return (word + token_type[token_type_ids]) + position[: input_ids.shape[1]]


def layer_norm(x: Array, gamma: Array, beta: Array, epsilon: Array) -> Array:
    """Return (x - mean) / sqrt(var + epsilon) * gamma + beta over the last axis, float32."""
    width = np.float32(x.shape[-1])
    centred = x - (tree_sum(x) / width)[..., None]
    variance = tree_sum(centred * centred) / width
    inverse_deviation = numerics.ONE / np.sqrt(variance + epsilon[0])
    return (centred * inverse_deviation[..., None]) * gamma + beta


def quantize(x: Array, scale: Array) -> Array:
    """Return int8 codes under one static scale, shape (1,)."""
    return numerics.quantize(x, numerics.inverse_scale(scale[0])).astype(np.int8)


def quantize_per_token(x: Array) -> tuple[Array, Array]:
    """Return int8 codes and float32 scales (..., 1), one scale a token."""
    scale = numerics.token_scale(np.max(np.abs(x), axis=-1, keepdims=True))
    return numerics.quantize(x, numerics.inverse_scale(scale)).astype(np.int8), scale


def accumulate(x_codes: Array, w_codes: Array) -> Array:
    """Return int32 sums over the last axis of x (..., M, K) times w (..., N, K).

    In binary64 every partial sum is an integer below 2**53, so the product is exact in any order;
    NumPy hands it to BLAS, while its integer product is a plain loop, a hundred times slower.
    """
    return np.matmul(x_codes.astype(np.float64), np.swapaxes(w_codes, -1, -2).astype(np.float64)).astype(np.int32)


def ternary_linear(codes: Array, scale: Array, weight_codes: Array, weight_scale: Array, bias: Array) -> Array:
    """Return float32(acc) * (scale * weight_scale) + bias, shape (..., N)."""
    accumulator = accumulate(codes, weight_codes)
    return numerics.dequantize_accumulator(accumulator, scale * weight_scale) + bias


def split_heads(x: Array, heads: int) -> Array:
    """Return (B, S, H) as (B, heads, S, D)."""
    batch, tokens, hidden = x.shape
    return x.reshape(batch, tokens, heads, hidden // heads).transpose(0, 2, 1, 3)


def attention_scores(query: Array, query_scale: Array, key: Array, key_scale: Array, heads: int) -> Array:
    """Return scaled scores, float32 (B, heads, S, S): acc * ((q_scale * k_scale) * attention_scale(D))."""
    q, k = split_heads(query, heads), split_heads(key, heads)
    scale = (query_scale * key_scale) * numerics.attention_scale(q.shape[-1])
    return numerics.dequantize_accumulator(accumulate(q, k), scale)


def softmax(x: Array, lengths: Array) -> Array:
    """Return the softmax of (B, heads, S, S) over the first `lengths[b]` keys; zero beyond them."""
    valid = (np.arange(x.shape[-1]) < lengths[:, None])[:, None, None, :]
    maximum = np.max(np.where(valid, x, np.float32(-np.inf)), axis=-1, keepdims=True)
    shifted = np.where(valid, x - maximum, np.float32(0))
    exponential = np.where(valid, numerics.exp_nonpositive(shifted), np.float32(0))
    return exponential / tree_sum(exponential)[..., None]


def attention_context(
    probabilities: Array, probabilities_scale: Array, value: Array, value_scale: Array, heads: int
) -> Array:
    """Return probabilities times values, float32 (B, S, H): acc * (p_scale * v_scale)."""
    accumulator = accumulate(probabilities, np.swapaxes(split_heads(value, heads), -1, -2))
    context = numerics.dequantize_accumulator(accumulator, probabilities_scale * value_scale)
    return context.transpose(0, 2, 1, 3).reshape(value.shape)


def residual_add(x: Array, residual: Array) -> Array:
    """Return x + residual."""
    return x + residual


def first_token(x: Array) -> Array:
    """Return the first token of each sequence, (B, H)."""
    return x[:, 0]


def classifier(x: Array, weight: Array, bias: Array) -> Array:
    """Return x @ weight.T + bias in float32, each sum in adder-tree order."""
    return tree_sum(x[:, None, :] * weight) + bias


KERNELS: Mapping[OpKind, Kernel] = {
    OpKind.EMBEDDING: embedding,
    OpKind.LAYER_NORM: layer_norm,
    OpKind.QUANTIZE: quantize,
    OpKind.QUANTIZE_PER_TOKEN: quantize_per_token,
    OpKind.TERNARY_LINEAR: ternary_linear,
    OpKind.ATTENTION_SCORES: attention_scores,
    OpKind.SOFTMAX: softmax,
    OpKind.ATTENTION_CONTEXT: attention_context,
    OpKind.RESIDUAL_ADD: residual_add,
    OpKind.GELU: numerics.gelu,
    OpKind.FIRST_TOKEN: first_token,
    OpKind.TANH: numerics.tanh,
    OpKind.CLASSIFIER: classifier,
}
