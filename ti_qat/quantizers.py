"""Ternary weights and int8 activations for training: the torch twin of the numeric contract.

Codes are integral float32 tensors and travel with their scale, so every product of codes is an exact
integer (|acc| <= 127 K < 2**24 up to K = 132104) and equals the deployed accumulator bit for bit.
Rounding is straight-through. Values that are not finite stay visible: they give NaN codes or scales.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from ti_qat.artifact import numerics
from ti_qat.artifact.schema import ActivationScaling, Granularity
from ti_qat.config import QuantizerSettings, WeightQuantizer

TERNARY_THRESHOLD_FACTOR = 0.7
CODE_MAX = float(numerics.CODE_MAX)

# Clipping points tried by `calibrate_scale`, as fractions of the largest magnitude.
CLIPPING_FRACTIONS = tuple(fraction / 50 for fraction in range(5, 51))


@dataclass(frozen=True)
class Quantized:
    """Integral float32 `codes` and the `scale` that broadcasts with them; the value is codes * scale."""

    codes: Tensor
    scale: Tensor


def _twn(groups: Tensor) -> Quantized:
    """Return the codes of `groups` (G, K) and one scale a group, (G,), as a ternary weight network.

    Li, Zhang, Liu: Ternary Weight Networks (2016). The threshold is 0.7 mean|w|; the code is sign(w) where
    |w| exceeds it strictly; the scale is the mean |w| of the survivors, 0 where there are none.
    """
    magnitude = groups.abs()
    threshold = TERNARY_THRESHOLD_FACTOR * magnitude.mean(dim=-1, keepdim=True)
    survives = (magnitude > threshold).to(groups.dtype)
    scale = (magnitude * survives).sum(dim=-1) / survives.sum(dim=-1).clamp(min=1)
    return Quantized(groups.sign() * survives, scale)


def _mean_abs(groups: Tensor) -> Quantized:
    """Return the codes of `groups` (G, K) and one scale a group, (G,), by the mean magnitude.

    Ma et al.: The Era of 1-bit LLMs, all large language models are in 1.58 bits (2024). The scale is
    mean|w|, the code clip(rint(w / scale), -1, 1), ties to even: a weight of half the mean is 0.
    """
    scale = groups.abs().mean(dim=-1)
    divisor = scale.where(scale > 0, 1.0)  # a group of zeros has codes 0, without the paper's epsilon
    return Quantized((groups / divisor[:, None]).round().clamp(-1, 1), scale)


WEIGHT_QUANTIZERS: Mapping[WeightQuantizer, Callable[[Tensor], Quantized]] = {
    WeightQuantizer.TWN: _twn,
    WeightQuantizer.MEAN_ABS: _mean_abs,
}


def ternarize(weight: Tensor, granularity: Granularity, quantizer: WeightQuantizer = WeightQuantizer.TWN) -> Quantized:
    """Return the ternary approximation of `weight`, float32 (N, K), without a gradient.

    Returns codes (N, K) in {-1, 0, 1} and scale (N,) or, per tensor, (1,): 0 where all codes are, not
    finite where a weight is not.
    """
    latent = weight.detach()
    groups = latent.reshape(1, -1) if granularity is Granularity.PER_TENSOR else latent
    quantized = WEIGHT_QUANTIZERS[quantizer](groups)
    return Quantized(quantized.codes.reshape(weight.shape), quantized.scale)


class _QuantizeStraightThrough(torch.autograd.Function):
    """saturate(rint(x / scale)); rounding passes the gradient, saturation stops it.

    The gradient of the scale is that of learned step size quantisation (Esser et al., LSQ, 2020).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        inv_scale = 1.0 / scale
        steps = x * inv_scale
        ctx.save_for_backward(steps, inv_scale)
        return steps.round().clamp_(-CODE_MAX, CODE_MAX)

    @staticmethod
    def backward(ctx: Any, grad_codes: Tensor) -> tuple[Tensor, Tensor | None]:
        steps, inv_scale = ctx.saved_tensors
        grad_steps = grad_codes * (steps.abs() <= CODE_MAX)
        grad_scale = None
        if ctx.needs_input_grad[1]:
            grad_scale = (-(grad_steps * steps).sum() * inv_scale).reshape(inv_scale.shape)
        return grad_steps * inv_scale, grad_scale


def quantize(x: Tensor, scale: Tensor) -> Quantized:
    """Return the int8 codes of `x` under `scale`: saturate(rint(x * (1 / scale)), -127, 127), ties to even."""
    return Quantized(_QuantizeStraightThrough.apply(x, scale), scale)


def calibrate_scale(values: Tensor) -> Tensor:
    """Return the scale, shape (1,), whose codes give `values` the least mean squared error."""
    maximum = values.abs().max()
    if not torch.isfinite(maximum):
        raise ValueError("calibration saw values that are not finite")
    if maximum == 0:
        return values.new_ones(1)
    candidates = torch.stack([maximum * (fraction / CODE_MAX) for fraction in CLIPPING_FRACTIONS])
    errors = torch.stack([(quantize(values, s).codes * s - values).square().mean() for s in candidates])
    return candidates[errors.argmin()].reshape(1)


class Mode(Enum):
    """What the quantisers of a model do with the values that pass."""

    QUANTIZE = "quantize"
    OBSERVE = "observe"  # pass values on unchanged and keep a sample for calibration
    OFF = "off"


class Quantizer(nn.Module):
    """Turns activations into codes; concrete quantisers say where the scale comes from."""

    def __init__(self) -> None:
        super().__init__()
        self.mode = Mode.QUANTIZE

    def scale_of(self, x: Tensor) -> Tensor:
        """Return the scale for `x`, broadcastable with it."""
        raise NotImplementedError

    def observe(self, x: Tensor) -> None:
        """Look at values during calibration; a quantiser without state ignores them."""

    def forward(self, x: Tensor) -> Quantized:
        """Return the codes of `x`; in the other modes `x` itself with scale 1."""
        if self.mode is Mode.QUANTIZE:
            return quantize(x, self.scale_of(x))
        if self.mode is Mode.OBSERVE:
            self.observe(x.detach())
        return Quantized(x, x.new_ones(1))


class StaticQuantizer(Quantizer):
    """One learned scale per tensor, trained as its binary logarithm so that it stays positive.

    Jain et al.: Trained Quantization Thresholds (2020). Before `calibrate` the scale is NaN, so that a
    forgotten calibration cannot pass for a result.
    """

    SAMPLES_PER_BATCH = 8192

    def __init__(self) -> None:
        super().__init__()
        self.log2_scale = nn.Parameter(torch.full((1,), torch.nan))
        self._samples: list[Tensor] = []

    def scale_of(self, x: Tensor) -> Tensor:
        """Return the learned scale, shape (1,)."""
        return torch.exp2(self.log2_scale)

    def observe(self, x: Tensor) -> None:
        """Keep a sample of `x` for `calibrate`."""
        stride = max(1, x.numel() // self.SAMPLES_PER_BATCH)
        # The largest magnitude is kept as well: a strided sample would miss rare outliers.
        self._samples += [x.reshape(-1)[::stride].clone(), x.abs().max().reshape(1)]

    def calibrate(self) -> None:
        """Set the scale from the observed values and forget them."""
        if not self._samples:
            raise ValueError("calibration saw no values")
        with torch.no_grad():
            self.log2_scale.copy_(calibrate_scale(torch.cat(self._samples)).log2())
        self._samples.clear()


class PerTokenQuantizer(Quantizer):
    """One scale per token, max|x| / 127, computed as the deployed operator does; no gradient to it."""

    def scale_of(self, x: Tensor) -> Tensor:
        """Return one scale per token, shape (..., 1)."""
        maximum = x.detach().abs().amax(dim=-1, keepdim=True)
        # `maximum == 0`, not `> 0`: NaN must not turn into scale 1.
        return torch.where(maximum == 0, torch.ones_like(maximum), maximum / CODE_MAX)


class ProbabilityQuantizer(Quantizer):
    """The fixed scale 1/127 of attention probabilities."""

    def __init__(self, bits: int = 8) -> None:
        super().__init__()

    def scale_of(self, x: Tensor) -> Tensor:
        """Return the constant, shape (1,)."""
        return x.new_full((1,), float(numerics.PROBABILITY_SCALE))


def static_quantizer(settings: QuantizerSettings) -> StaticQuantizer:
    """Return a new quantiser for a value whose scale is kept: queries, keys and values."""
    return StaticQuantizer()


def input_quantizer(settings: QuantizerSettings) -> Quantizer:
    """Return a new quantiser for the input of a linear."""
    return static_quantizer(settings) if settings.activations is ActivationScaling.STATIC else PerTokenQuantizer()


@contextmanager
def activation_mode(model: nn.Module, mode: Mode) -> Iterator[None]:
    """Put every quantiser of `model` into `mode` for the duration of the block."""
    quantizers = [module for module in model.modules() if isinstance(module, Quantizer)]
    previous = [quantizer.mode for quantizer in quantizers]
    try:
        for quantizer in quantizers:
            quantizer.mode = mode
        yield
    finally:
        for quantizer, mode_before in zip(quantizers, previous, strict=True):
            quantizer.mode = mode_before
