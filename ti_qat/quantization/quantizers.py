"""Rounding to codes with straight-through gradients: the torch twin of the numeric contract.

Codes are integral float32 tensors and travel with their scale. A product of 8-bit activations and ternary
weights is an exact integer (|acc| <= 127 K < 2**24 up to K = 132104) and equals the deployed accumulator
bit for bit; two 8-bit operands stay exact up to K = 1040 only, and beyond it that ablation is float32's.
Rounding is straight-through. NaN stays visible: it gives NaN codes or scales.
`ti_qat.quantization.weight_quantizers` and `ti_qat.quantization.activation_quantizers` say where scales come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

# A value that its own scale was made from, max|x| / code_max, lands up to two units in the last place beyond
# code_max after two roundings; it is no saturated one.
SATURATION_TOLERANCE = 1 + 2.0**-21


@dataclass(frozen=True)
class Quantized:
    """Integral float32 `codes` and the `scale` that broadcasts with them; the value is codes * scale."""

    codes: Tensor
    scale: Tensor

    @property
    def value(self) -> Tensor:
        """What the codes stand for."""
        return self.codes * self.scale


def code_max_of(bits: int) -> float:
    """Return the largest of the symmetric codes of `bits` bits: 1, 3, 7 and 127 for 2, 3, 4 and 8."""
    return float(2 ** (bits - 1) - 1)


class _QuantizeStraightThrough(torch.autograd.Function):
    """saturate(rint(x / scale)); rounding passes the gradient, saturation stops it.

    The gradient of the scale is that of learned step size quantisation (Esser et al., LSQ, 2020).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, code_max: float) -> Tensor:
        inv_scale = 1.0 / scale
        steps = x * inv_scale
        ctx.save_for_backward(steps, inv_scale)
        ctx.code_max = code_max
        return steps.round().clamp_(-code_max, code_max)

    @staticmethod
    def backward(ctx: Any, grad_codes: Tensor) -> tuple[Tensor, Tensor | None, None]:
        steps, inv_scale = ctx.saved_tensors
        limit = ctx.code_max * SATURATION_TOLERANCE
        # The gradient within the limits, 0 beyond, in one pass; a mask and a product take three.
        grad_steps = torch.ops.aten.hardtanh_backward(grad_codes, steps, -limit, limit)
        grad_scale = None
        if ctx.needs_input_grad[1]:
            grad_scale = -torch.dot(grad_steps.flatten(), steps.flatten()) * inv_scale
        return grad_steps * inv_scale, grad_scale, None


def quantize(x: Tensor, scale: Tensor, code_max: float) -> Quantized:
    """Return the codes of `x` under `scale`: saturate(rint(x * (1 / scale)), -code_max, code_max), ties to even.

    The scale gets a gradient where it is one for all of `x`, shape (1,).
    """
    return Quantized(_QuantizeStraightThrough.apply(x, scale, code_max), scale)


def clip_straight_through(x: Tensor, clip: float | None) -> Tensor:
    """Return `x` clipped to +-`clip`, without a gradient where |x| >= clip; `x` itself without a clip."""
    return x if clip is None else torch.where(x.abs() < clip, x, x.detach().clamp(-clip, clip))


class Mode(Enum):
    """What the quantisers of a model do with the values that pass."""

    QUANTIZE = "quantize"
    OBSERVE = "observe"  # pass values on unchanged and keep what calibration needs
    OFF = "off"


class Quantizer(nn.Module):
    """Turns activations into codes; concrete quantisers say where the scale comes from.

    With `blend` below 1 training goes on with blend * quantised + (1 - blend) * x; evaluation never does.
    """

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        self.code_max = code_max_of(bits)
        self.mode = Mode.QUANTIZE
        self.blend = 1.0

    def scale_of(self, x: Tensor) -> Tensor:
        """Return the scale for `x`, broadcastable with it."""
        raise NotImplementedError

    def quantize(self, x: Tensor) -> Quantized:
        """Return the codes of `x` under its scale."""
        return quantize(x, self.scale_of(x), self.code_max)

    def observe(self, x: Tensor) -> None:
        """Look at values during calibration; a quantiser without state ignores them."""

    def forward(self, x: Tensor) -> Quantized:
        """Return the codes of `x`; in the other modes `x` itself, and while blending the blend, with scale 1."""
        if self.mode is Mode.QUANTIZE:
            quantized = self.quantize(x)
            if not self.training or self.blend == 1:
                return quantized
            return Quantized(torch.lerp(x, quantized.value, self.blend), x.new_ones(1))
        if self.mode is Mode.OBSERVE:
            self.observe(x.detach())
        return Quantized(x, x.new_ones(1))


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
