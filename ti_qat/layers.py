"""Linear and embedding layers with ternary weights and straight-through gradients."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from ti_qat.artifact.schema import Granularity
from ti_qat.config import QuantizerSettings, WeightQuantizer
from ti_qat.quantizers import Mode, Quantized, Quantizer, ternarize


class _TernaryProduct(torch.autograd.Function):
    """float32(x_codes @ w_codes.T) * (x_scale * w_scale), the contract's linear without its bias.

    The gradient of the latent weight is that of the ternary weight it stands for.
    """

    @staticmethod
    def forward(ctx: Any, x_codes: Tensor, x_scale: Tensor, weight: Tensor, w_codes: Tensor, w_scale: Tensor) -> Tensor:
        scale = x_scale * w_scale
        accumulator = x_codes @ w_codes.T
        ctx.save_for_backward(x_codes, x_scale, w_codes, w_scale, scale)
        ctx.accumulator = accumulator if ctx.needs_input_grad[1] else None
        return accumulator * scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_codes, x_scale, w_codes, w_scale, scale = ctx.saved_tensors
        grad_codes = grad_scale = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_codes = (grad * scale) @ w_codes
        if ctx.needs_input_grad[1]:
            grad_scale = (grad * ctx.accumulator * w_scale).sum().reshape(x_scale.shape)
        if ctx.needs_input_grad[2]:
            grad_weight = (grad * x_scale).flatten(0, -2).T @ x_codes.flatten(0, -2)
        return grad_codes, grad_scale, grad_weight, None, None


class _TernaryWeight(nn.Module):
    """Mixin of a layer whose `weight` acts as its ternary approximation."""

    weight: Tensor
    granularity: Granularity
    weight_quantizer: WeightQuantizer
    ternary_enabled: bool
    _cached: tuple[tuple[int, int], Quantized] | None

    def train(self, mode: bool = True) -> Self:
        """Change the mode and forget the codes: a fused optimiser changes weights without a new version."""
        self._cached = None
        return super().train(mode)

    def _set_ternary(self, granularity: Granularity, weight_quantizer: WeightQuantizer) -> None:
        self.granularity, self.weight_quantizer = granularity, weight_quantizer
        self.ternary_enabled, self._cached = True, None

    def _ternarize(self, weight: Tensor) -> Quantized:
        return ternarize(weight, self.granularity, self.weight_quantizer)

    def ternary_weight(self) -> Quantized:
        """Return the ternary codes and scale of the current weight; remembered outside training."""
        if self.training:
            return self._ternarize(self.weight)
        state = (self.weight.data_ptr(), self.weight._version)
        if self._cached is None or self._cached[0] != state:
            self._cached = (state, self._ternarize(self.weight))
        return self._cached[1]


class TernaryLinear(_TernaryWeight, nn.Linear):
    """Linear layer on int8 input codes and ternary weight codes, x (..., K) to (..., N)."""

    @classmethod
    def from_linear(cls, linear: nn.Linear | Conv1D, settings: QuantizerSettings, quantizer: Quantizer) -> Self:
        """Take over the parameters of `linear`, a Conv1D's transposed; its input passes through `quantizer`."""
        if isinstance(linear, Conv1D):
            linear = _linear(linear.weight.detach().T, linear.bias.detach())
        layer = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        layer.weight, layer.bias = linear.weight, linear.bias
        layer._set_ternary(settings.linear_weights, settings.weight_quantizer)
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
            return functional.linear(quantized.codes * quantized.scale, self.weight, self.bias)
        ternary = self.ternary_weight()
        product = _TernaryProduct.apply(quantized.codes, quantized.scale, self.weight, ternary.codes, ternary.scale)
        return product if self.bias is None else product + self.bias


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
        layer._set_ternary(settings.word_embedding, settings.weight_quantizer)
        return layer

    def forward(self, ids: Tensor) -> Tensor:
        """Return the ternary rows of `ids` (B, S) as float32 (B, S, H)."""
        rows = super().forward(ids)
        if not self.ternary_enabled:
            return rows
        if self.training and self.granularity is Granularity.PER_ROW:
            # Only the rows in use: ternarising the whole table costs more than the rest of a step.
            flat = self._ternarize(rows.reshape(-1, rows.shape[-1]))
            ternary = (flat.codes * flat.scale[:, None]).reshape(rows.shape)
        else:
            table = self.ternary_weight()
            scale = table.scale[ids].unsqueeze(-1) if table.scale.numel() > 1 else table.scale
            ternary = functional.embedding(ids, table.codes) * scale
        # The value of `ternary` to the bit, with the gradient of `rows`.
        return ternary + (rows - rows.detach())
