"""Where the scales of activations come from: kept per value, or computed from the values that pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ti_qat.config import ActivationGranularity, ActivationRange, QuantizerSettings
from ti_qat.errors import TrainingError
from ti_qat.quantization.quantizers import Quantized, Quantizer, clip_straight_through, quantize

# Clipping points tried by `calibrate_scale`, as fractions of the largest magnitude.
CLIPPING_FRACTIONS = tuple(fraction / 50 for fraction in range(5, 51))
PERCENTILE = 0.9999
MOVING_AVERAGE_DECAY = 0.99


def calibrate_scale(values: Tensor, code_max: float) -> Tensor:
    """Return the scale, shape (1,), whose codes give `values` the least mean squared error."""
    maximum = values.abs().max()
    if maximum == 0:
        return values.new_ones(1)
    candidates = torch.stack([maximum * (fraction / code_max) for fraction in CLIPPING_FRACTIONS])
    errors = torch.stack([(quantize(values, s, code_max).value - values).square().mean() for s in candidates])
    return candidates[errors.argmin()].reshape(1)


def percentile_of_magnitudes(x: Tensor) -> Tensor:
    """Return the 99.99th percentile of |x|, shape (1,), interpolated linearly between its neighbours."""
    position = PERCENTILE * (x.numel() - 1)
    # Sorting all of a batch would cost more than the forward pass; the percentile lies among the largest.
    largest = x.abs().flatten().topk(x.numel() - math.floor(position)).values
    lower, upper = largest[-1], largest[max(-2, -len(largest))]
    percentile = torch.lerp(lower, upper, position - math.floor(position))
    # What is not finite sorts first, and must not hide among the values left out.
    return percentile.where(largest[0].isfinite(), torch.nan).reshape(1)


def scale_of_maximum(maximum: Tensor, code_max: float) -> Tensor:
    """Return maximum / code_max, and 1 where the maximum is 0."""
    # `maximum == 0`, not `> 0`: NaN must not turn into scale 1.
    return torch.where(maximum == 0, torch.ones_like(maximum), maximum / code_max)


class StaticQuantizer(Quantizer):
    """One scale per value, kept with the model.

    Before `calibrate` the scale is NaN, so that a forgotten calibration cannot pass for a result.
    """

    scale: Tensor  # shape (1,)

    def __init__(self, bits: int = 8) -> None:
        super().__init__(bits)
        self._observed: list[Tensor] = []

    def scale_of(self, x: Tensor) -> Tensor:
        """Return the kept scale, shape (1,)."""
        return self.scale

    def calibrate(self) -> None:
        """Set the scale from the observed values and forget them; raise `TrainingError` where it cannot be."""
        if not self._observed:
            raise TrainingError("calibration: expected values to observe, found none")
        if not all(torch.isfinite(observed).all() for observed in self._observed):
            raise TrainingError("calibration: expected finite values, found some that are not finite")
        with torch.no_grad():
            self._start_from(self._observed)
        self._observed.clear()

    def _start_from(self, observed: list[Tensor]) -> None:
        raise NotImplementedError


class LearnedQuantizer(StaticQuantizer):
    """The scale is trained, as its binary logarithm so that it stays positive; it starts at the least squared error.

    Jain et al.: Trained Quantization Thresholds (2020).
    """

    SAMPLES_PER_BATCH = 8192

    def __init__(self, bits: int = 8) -> None:
        super().__init__(bits)
        self.log2_scale = nn.Parameter(torch.full((1,), torch.nan))

    @property
    def scale(self) -> Tensor:
        """The learned scale, shape (1,)."""
        return torch.exp2(self.log2_scale)

    def observe(self, x: Tensor) -> None:
        """Keep a sample of `x`."""
        stride = max(1, x.numel() // self.SAMPLES_PER_BATCH)
        # The largest magnitude is kept as well: a strided sample would miss rare outliers.
        self._observed += [x.reshape(-1)[::stride].clone(), x.abs().max().reshape(1)]

    def _start_from(self, observed: list[Tensor]) -> None:
        self.log2_scale.copy_(calibrate_scale(torch.cat(observed), self.code_max).log2())


class FixedQuantizer(StaticQuantizer):
    """The scale stays where calibration puts it: its range is a statistic of |x| reduced over the batches."""

    def __init__(self, bits: int, statistic: Callable[[Tensor], Tensor], reduction: Callable[[Tensor], Tensor]) -> None:
        super().__init__(bits)
        self._statistic, self._reduction = statistic, reduction
        self.register_buffer("scale", torch.full((1,), torch.nan))

    def observe(self, x: Tensor) -> None:
        """Keep the statistic of `x`."""
        self._observed.append(self._statistic(x))

    def _start_from(self, observed: list[Tensor]) -> None:
        reduced = self._reduction(torch.cat(observed)).reshape(1)
        self.scale.copy_(scale_of_maximum(reduced, self.code_max))


class MovingAverageQuantizer(FixedQuantizer):
    """The range follows the maxima of the batches, as their exponential moving average, while training.

    Jacob et al.: Quantization and Training of Neural Networks (2018). A batch is quantised under the scale
    that it has moved, so that evaluation after a pass repeats that pass's codes. A maximum that comes again
    at once moves nothing: query, key and value ask for the codes of their one input three times.
    """

    def __init__(self, bits: int) -> None:
        super().__init__(bits, maximum_of_magnitudes, _moving_average)
        self.register_buffer("last_maximum", torch.full((1,), -1.0))

    def observe(self, x: Tensor) -> None:
        """Keep the maximum of `x`, unless it comes again at once."""
        maximum = maximum_of_magnitudes(x)
        if not self._observed or maximum != self._observed[-1]:
            self._observed.append(maximum)

    def scale_of(self, x: Tensor) -> Tensor:
        """Return the scale, shape (1,); in training it moves by one batch first."""
        if self.training:
            maximum = maximum_of_magnitudes(x.detach())
            moved = torch.lerp(self.scale, maximum / self.code_max, 1 - MOVING_AVERAGE_DECAY)
            self.scale.copy_(torch.where(maximum == self.last_maximum, self.scale, moved))
            self.last_maximum.copy_(maximum)
            return self.scale.clone()  # the next pass moves the buffer in place
        return self.scale


def maximum_of_magnitudes(x: Tensor) -> Tensor:
    """Return max|x|, shape (1,)."""
    return x.abs().max().reshape(1)


def _moving_average(values: Tensor) -> Tensor:
    average = values[0]
    for value in values[1:]:
        average = torch.lerp(average, value, 1 - MOVING_AVERAGE_DECAY)
    return average


ACTIVATION_RANGES: Mapping[ActivationRange, Callable[[int], StaticQuantizer]] = {
    ActivationRange.LEARNED: LearnedQuantizer,
    ActivationRange.MIN_MAX: lambda bits: FixedQuantizer(bits, maximum_of_magnitudes, torch.max),
    ActivationRange.PERCENTILE: lambda bits: FixedQuantizer(bits, percentile_of_magnitudes, torch.mean),
    ActivationRange.EMA: MovingAverageQuantizer,
}


class PerTokenQuantizer(Quantizer):
    """One scale per token, max|x| / code_max, computed as the deployed operator does; no gradient to it."""

    def scale_of(self, x: Tensor) -> Tensor:
        """Return one scale per token, shape (..., 1)."""
        return scale_of_maximum(x.detach().abs().amax(dim=-1, keepdim=True), self.code_max)


class PerTensorQuantizer(Quantizer):
    """One scale for the whole batch, max|x| / code_max after clipping to +-`clip`, padding included; no gradient.

    Zhang et al.: TernaryBERT (2020), whose code clips to +-2.5. No deployed operator computes this: the
    scale, and with it a row's result, depends on the other rows of its batch.
    """

    def __init__(self, bits: int = 8, clip: float | None = None) -> None:
        super().__init__(bits)
        self.clip = clip

    def scale_of(self, x: Tensor) -> Tensor:
        """Return one scale, shape (1,)."""
        return scale_of_maximum(maximum_of_magnitudes(x.detach()), self.code_max)

    def quantize(self, x: Tensor) -> Quantized:
        """Return the codes of clipped `x`; without a gradient where |x| >= clip."""
        return super().quantize(clip_straight_through(x, self.clip))


class ProbabilityQuantizer(Quantizer):
    """The fixed scale 1 / code_max of attention probabilities."""

    def scale_of(self, x: Tensor) -> Tensor:
        """Return the constant, shape (1,), where `x` is."""
        return x.new_full((1,), 1 / self.code_max)


def input_quantizer(settings: QuantizerSettings) -> Quantizer:
    """Return a new quantiser for the input of a linear."""
    if settings.activations is ActivationGranularity.DYNAMIC_PER_TOKEN:
        return PerTokenQuantizer(settings.activation_bits)
    return operand_quantizer(settings)


def operand_quantizer(settings: QuantizerSettings) -> Quantizer:
    """Return a new quantiser for queries, keys or values: static unless all of a tensor share a dynamic scale."""
    if settings.activations is ActivationGranularity.DYNAMIC_PER_TENSOR:
        return PerTensorQuantizer(settings.activation_bits, settings.activation_clip)
    return ACTIVATION_RANGES[settings.activation_range](settings.activation_bits)


def probability_quantizer(settings: QuantizerSettings) -> Quantizer:
    """Return a new quantiser for attention probabilities: of their fixed range, or as the other operands'."""
    if settings.activations is ActivationGranularity.DYNAMIC_PER_TENSOR:
        return operand_quantizer(settings)
    return ProbabilityQuantizer(settings.activation_bits)
