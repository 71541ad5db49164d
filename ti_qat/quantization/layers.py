"""Linear and embedding layers with ternary weights and straight-through gradients."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from ti_qat.artifact.schema import Granularity
from ti_qat.config import QuantizerSettings
from ti_qat.quantization.quantizers import Mode, Quantized, Quantizer
from ti_qat.quantization.weight_quantizers import LayerWeights, layer_weights


class _TernaryProduct(torch.autograd.Function):
    """float32(x_codes @ w_codes.T) * (x_scale * w_scale) + bias, the contract's linear.

    `weight` gets the gradient of the ternary weight; its value does not enter.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_codes: Tensor,
        x_scale: Tensor,
        weight: Tensor,
        w_codes: Tensor,
        w_scale: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        scale = x_scale * w_scale
        result = (x_codes @ w_codes.T).mul_(scale)
        if bias is not None:
            result.add_(bias)
        ctx.save_for_backward(x_codes, x_scale, w_codes, scale, bias, result if ctx.needs_input_grad[1] else None)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_codes, x_scale, w_codes, scale, bias, result = ctx.saved_tensors
        rows = grad.flatten(0, -2)  # one matrix: queries, keys and values come back in strides of their heads
        # It can then scale the smaller operand, or the result. A single token has one too, but in its own shape.
        one_scale = x_scale.ndim == 1
        grad_codes = grad_scale = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            scaled = rows if one_scale else rows * scale.flatten(0, -2)
            grad_codes = (scaled @ (w_codes * scale[:, None] if one_scale else w_codes)).view(x_codes.shape)
        if ctx.needs_input_grad[2]:
            scaled = rows if one_scale else rows * x_scale.flatten(0, -2)
            grad_weight = scaled.T @ x_codes.flatten(0, -2)
            grad_weight = grad_weight.mul_(x_scale) if one_scale else grad_weight
        if bias is not None:
            grad_bias = rows.sum(dim=0)
        if ctx.needs_input_grad[1]:
            # The product is what the result is without the bias, and grows in proportion to the scale.
            over_result = torch.dot(rows.flatten(), result.flatten())
            over_product = over_result if bias is None else over_result - torch.dot(grad_bias, bias)
            grad_scale = over_product / x_scale
        return grad_codes, grad_scale, grad_weight, None, None, grad_bias


class _TernaryWeight(nn.Module):
    """Mixin of a layer whose `weight` acts as its approximation by codes: ternary, or of `weight_bits`.

    With `blend` below 1 training goes on with blend * quantised + (1 - blend) * weight; evaluation never does.
    """

    weight: Tensor
    weight_quantizer: LayerWeights
    ternary_enabled: bool
    blend: float
    _cached: tuple[list[tuple[int, int]], Quantized] | None

    def train(self, mode: bool = True) -> Self:
        """Change the mode and forget the codes: a fused optimiser changes weights without a new version."""
        self._cached = None
        return super().train(mode)

    def _set_ternary(self, settings: QuantizerSettings, granularity: Granularity) -> None:
        self.weight_quantizer = layer_weights(settings, granularity, self.weight)
        self.ternary_enabled, self.blend, self._cached = True, 1.0, None

    @property
    def _blending(self) -> bool:
        return self.training and self.blend != 1

    def ternary_weight(self) -> Quantized:
        """Return the codes and scale of the current weight; remembered outside training."""
        if self.training:
            return self.weight_quantizer(self.weight)
        read = (self.weight, *self.weight_quantizer.parameters())
        state = [(tensor.data_ptr(), tensor._version) for tensor in read]
        if self._cached is None or self._cached[0] != state:
            self._cached = (state, self.weight_quantizer(self.weight))
        return self._cached[1]


def set_blend(model: nn.Module, blend: float) -> None:
    """Let `model` train on blend * quantised + (1 - blend) * float, weights and activations alike.

    1 is quantised, 0 full precision; a model in evaluation mode is always quantised. The gradual
    quantisation of Mekkouri et al., Fine-tuning LLMs to 1.58 bit (2024), where it is called lambda.
    Raises `ValueError` outside 0 to 1.
    """
    if not 0 <= blend <= 1:
        raise ValueError(f"blend: expected 0 to 1, found {blend}")
    for module in model.modules():
        if isinstance(module, Quantizer | _TernaryWeight):
            module.blend = blend


def with_gradient_of(latent: Tensor, values: Tensor) -> Tensor:
    """Return `values` to the bit, with the gradient of `latent`."""
    return values + (latent - latent.detach())


class TernaryLinear(_TernaryWeight, nn.Linear):
    """Linear layer on int8 input codes and ternary weight codes, x (..., K) to (..., N)."""

    @classmethod
    def from_linear(cls, linear: nn.Linear | Conv1D, settings: QuantizerSettings, quantizer: Quantizer) -> Self:
        """Take over the parameters of `linear`, a Conv1D's transposed; its input passes through `quantizer`."""
        if isinstance(linear, Conv1D):
            linear = _linear(linear.weight.detach().T, linear.bias.detach())
        layer = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        layer.weight, layer.bias = linear.weight, linear.bias
        layer._set_ternary(settings, settings.linear_weights)
        # Not a registered child: query, key and value share one quantiser, which the model owns.
        layer._quantizer = (quantizer,)
        return layer

    @property
    def quantizer(self) -> Quantizer:
        """The quantiser of this layer's input."""
        return self._quantizer[0]

    def forward(self, x: Tensor) -> Tensor:
        """Quantise `x` (..., K) and return the product with the ternary weight plus bias (..., N)."""
        if not self.ternary_enabled and self.quantizer.mode is Mode.OFF:
            return super().forward(x)
        quantized = self.quantizer(x)
        if not self.ternary_enabled:
            return functional.linear(quantized.value, self.weight, self.bias)
        ternary = self.ternary_weight()
        latent = self.weight_quantizer.straight_through(self.weight)
        if self._blending:
            weight = with_gradient_of(latent, ternary.codes * ternary.scale[:, None])
            return functional.linear(quantized.value, torch.lerp(self.weight, weight, self.blend), self.bias)
        return _TernaryProduct.apply(quantized.codes, quantized.scale, latent, ternary.codes, ternary.scale, self.bias)


class FusedResults(NamedTuple):
    """What GPT-2 splits into query, key and value; in parts already.

    One tensor of all three would give each a gradient of zeros where only another one has any, and an
    optimiser moves a weight by its decay and its past unless the gradient is absent.
    """

    query: Tensor
    key: Tensor
    value: Tensor

    def split(self, size: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three results."""
        return self


class FusedLinears(nn.Module):
    """Query, key and value linears in the place of one linear that computes all three."""

    def __init__(self, query: nn.Linear, key: nn.Linear, value: nn.Linear) -> None:
        super().__init__()
        self.query, self.key, self.value = query, key, value

    def forward(self, x: Tensor) -> FusedResults:
        """Return the three results of `x` (..., K), each (..., N)."""
        return FusedResults(self.query(x), self.key(x), self.value(x))


def split_fused(fused: Conv1D) -> FusedLinears:
    """Return the three linears that `fused` computes in one: each gets its own scales and hooks."""
    parts = zip(fused.weight.detach().chunk(3, dim=1), fused.bias.detach().chunk(3), strict=True)
    return FusedLinears(*(_linear(weight.T, bias) for weight, bias in parts))


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight, linear.bias = (
        nn.Parameter(weight.clone(memory_format=torch.contiguous_format)),
        nn.Parameter(bias.clone()),
    )
    return linear


class TernaryEmbedding(_TernaryWeight, nn.Embedding):
    """Embedding table of ternary codes with one scale per row (or for the table), ids to (..., H)."""

    @classmethod
    def from_embedding(cls, embedding: nn.Embedding, settings: QuantizerSettings) -> Self:
        """Take over the table of `embedding`."""
        layer = cls(embedding.num_embeddings, embedding.embedding_dim, embedding.padding_idx, device="meta")
        layer.weight = embedding.weight
        layer._set_ternary(settings, settings.word_embedding)
        return layer

    def forward(self, ids: Tensor) -> Tensor:
        """Return the ternary rows of `ids` (B, S) as float32 (B, S, H)."""
        rows = super().forward(ids)
        if not self.ternary_enabled:
            return rows
        used = ids.flatten()
        flat = rows.reshape(len(used), -1)
        if self.training and self.weight_quantizer.granularity is Granularity.PER_ROW:
            # Only the rows in use: ternarising the whole table costs more than the rest of a step.
            ternary = self.weight_quantizer(flat, used)
        else:
            table = self.ternary_weight()
            scale = table.scale[used] if len(table.scale) > 1 else table.scale
            ternary = Quantized(functional.embedding(used, table.codes), scale)
        latent = self.weight_quantizer.straight_through(flat, used)
        values = with_gradient_of(latent, ternary.codes * ternary.scale[:, None]).reshape(*ids.shape, -1)
        return torch.lerp(rows, values, self.blend) if self._blending else values
