"""How float weights become codes and scales, and where their gradient goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ti_qat.artifact.schema import Granularity
from ti_qat.config import QuantizerSettings, WeightQuantizer
from ti_qat.quantization.quantizers import Quantized, clip_straight_through, code_max_of

TERNARY_THRESHOLD_FACTOR = 0.7


def _twn(groups: Tensor, code_max: float) -> Quantized:
    """Return the codes of `groups` (G, K) and one scale a group, (G,), as a ternary weight network.

    Li, Zhang, Liu: Ternary Weight Networks (2016). The threshold is 0.7 mean|w|; the code is sign(w) where
    |w| exceeds it strictly; the scale is the mean |w| of the survivors, 0 where there are none.
    """
    magnitude = groups.abs()
    threshold = TERNARY_THRESHOLD_FACTOR * magnitude.mean(dim=-1, keepdim=True)
    survives = (magnitude > threshold).to(groups.dtype)
    scale = (magnitude * survives).sum(dim=-1) / survives.sum(dim=-1).clamp(min=1)
    return Quantized(groups.sign() * survives, scale)


def _uniform(groups: Tensor, scale: Tensor, code_max: float) -> Quantized:
    """Return clip(rint(w / scale), -code_max, code_max), ties to even, of `groups` (G, K) and `scale` (G,)."""
    divisor = scale.where(scale != 0, 1.0)  # a group of zeros has codes 0; NaN stays
    return Quantized((groups / divisor[:, None]).round().clamp(-code_max, code_max), scale)


def _mean_abs(groups: Tensor, code_max: float) -> Quantized:
    """Return ternary codes under the scale mean|w|: a weight of half the mean is 0.

    Ma et al.: The Era of 1-bit LLMs, all large language models are in 1.58 bits (2024), without its epsilon.
    """
    return _uniform(groups, groups.abs().mean(dim=-1), code_max)


def _min_max(groups: Tensor, code_max: float) -> Quantized:
    """Return codes under the scale max|w| / code_max, which clips nothing.

    Zhang et al.: TernaryBERT (2020), its 8-bit weights.
    """
    return _uniform(groups, groups.abs().amax(dim=-1) / code_max, code_max)


WEIGHT_FORMULAS: Mapping[WeightQuantizer, Callable[[Tensor, float], Quantized]] = {
    WeightQuantizer.TWN: _twn,
    WeightQuantizer.MEAN_ABS: _mean_abs,
    WeightQuantizer.MIN_MAX: _min_max,
}


class LayerWeights(nn.Module):
    """Quantises the weight (N, K) of one layer by a formula, per row or per tensor.

    `rows` says which rows of the layer a weight (n, K) holds, where it is not all of them.
    """

    def __init__(self, settings: QuantizerSettings, granularity: Granularity) -> None:
        super().__init__()
        self.granularity, self.clip = granularity, settings.weight_clip
        self.code_max = code_max_of(settings.weight_bits)
        self.quantizer = settings.weight_quantizer

    def forward(self, weight: Tensor, rows: Tensor | None = None) -> Quantized:
        """Return codes (N, K) and scale (N,) or, per tensor, (1,), without a gradient.

        The scale is 0 where all weights are, unless it is learned, and not finite where a weight is not.
        """
        latent = clip_straight_through(weight.detach(), self.clip)
        quantized = self.quantize_groups(self.groups(latent), rows)
        return Quantized(quantized.codes.reshape(weight.shape), quantized.scale)

    def groups(self, weight: Tensor) -> Tensor:
        """Return `weight` as (G, K): weights that share a scale side by side."""
        return weight.reshape(1, -1) if self.granularity is Granularity.PER_TENSOR else weight

    def quantize_groups(self, groups: Tensor, rows: Tensor | None) -> Quantized:
        """Return the codes of `groups` (G, K) and one scale a group, (G,)."""
        return WEIGHT_FORMULAS[self.quantizer](groups, self.code_max)

    def straight_through(self, weight: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return a tensor (N, K) whose gradient, that of codes * scale, goes on to `weight`; its value is of no use.

        The formula counts as the identity, and there is none where |w| >= clip.
        """
        return clip_straight_through(weight, self.clip)


class _LearnedStepSize(torch.autograd.Function):
    """Hands the gradient of quantised groups (G, K) to the groups and to their scales (G,).

    Esser et al.: Learned Step Size Quantization (2020), equations 3 and 5; the scale's is multiplied by
    `scale_gradient`, that paper's g.
    """

    @staticmethod
    def forward(ctx: Any, groups: Tensor, scale: Tensor, code_max: float, scale_gradient: float) -> Tensor:
        ctx.save_for_backward(groups, scale)
        ctx.code_max, ctx.scale_gradient = code_max, scale_gradient
        return groups.view_as(groups)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        groups, scale = ctx.saved_tensors
        steps = groups / scale[:, None]
        inside = steps.abs() < ctx.code_max
        of_scale = steps.round().clamp(-ctx.code_max, ctx.code_max) - steps * inside
        return grad * inside, (grad * of_scale).sum(dim=-1) * ctx.scale_gradient, None, None


class LearnedWeights(LayerWeights):
    """One trained scale a group, as its binary logarithm so that it stays positive.

    It starts at the scale of TWN for ternary codes, and at 2 mean|w| / sqrt(code_max), as LSQ does, for
    wider ones; at 1 for a group of zeros.
    """

    def __init__(self, settings: QuantizerSettings, granularity: Granularity, weight: Tensor) -> None:
        super().__init__(settings, granularity)
        groups = self.groups(clip_straight_through(weight.detach(), self.clip))
        if self.code_max == 1:
            scale = _twn(groups, self.code_max).scale
        else:
            scale = 2 * groups.abs().mean(dim=-1) / math.sqrt(self.code_max)
        # Of all weights that share a scale, though a step may see some rows of an embedding only.
        self.scale_gradient = 1 / math.sqrt(groups.shape[-1] * self.code_max)
        self.log2_scale = nn.Parameter(torch.where(scale == 0, 1.0, scale).log2())

    def scale(self, rows: Tensor | None) -> Tensor:
        """Return the learned scale of `rows`, or of all; one scale has no rows."""
        chosen = self.log2_scale if rows is None or len(self.log2_scale) == 1 else self.log2_scale[rows]
        return torch.exp2(chosen)

    def quantize_groups(self, groups: Tensor, rows: Tensor | None) -> Quantized:
        """Return the codes of `groups` (G, K) under the learned scales."""
        return _uniform(groups, self.scale(rows).detach(), self.code_max)

    def straight_through(self, weight: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return a tensor whose gradient goes on to `weight` and to the scales."""
        groups = self.groups(clip_straight_through(weight, self.clip))
        step = _LearnedStepSize.apply(groups, self.scale(rows), self.code_max, self.scale_gradient)
        return step.reshape(weight.shape)


def layer_weights(settings: QuantizerSettings, granularity: Granularity, weight: Tensor) -> LayerWeights:
    """Return the quantiser of a layer with `weight` (N, K), which starts the scales that are learned."""
    if settings.weight_quantizer is WeightQuantizer.LEARNED:
        return LearnedWeights(settings, granularity, weight)
    return LayerWeights(settings, granularity)
