"""Ternary layers that hold 2-bit codes in the place of latent weights: for inference and export, not training."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ti_qat.artifact.packing import pack_ternary, packed_width, unpack_ternary
from ti_qat.errors import TrainingError
from ti_qat.quantization.layers import TernaryEmbedding, TernaryLinear
from ti_qat.quantization.quantizers import Quantized

TernaryLayer = TernaryLinear | TernaryEmbedding


class PackedWeights(nn.Module):
    """Stands where a layer keeps the quantiser of its weight: the codes are there already, and their `scale` here.

    The layer's `weight` is uint8 (N, ceil(K / 4)), in the byte order of `ti_qat.artifact.packing`; `scale` is
    float32 (N,) or, per tensor, (1,).
    """

    scale: Tensor

    def __init__(self, codes_per_row: int, scale: Tensor) -> None:
        super().__init__()
        self.codes_per_row = codes_per_row
        self.register_buffer("scale", scale)

    def train(self, mode: bool = True) -> Self:
        """Refuse training: a code has no gradient."""
        if mode:
            raise TrainingError("a packed student cannot be trained; train the one that it was packed from")
        return super().train(mode)

    def forward(self, weight: Tensor) -> Quantized:
        """Return codes (N, K), float32, and scale; raise `PackingError` for bytes that no packing produces."""
        codes = torch.from_numpy(unpack_ternary(weight.cpu().numpy(), self.codes_per_row))
        return Quantized(codes.to(self.scale), self.scale)

    def straight_through(self, weight: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return a zero: there is no gradient to hand on."""
        return self.scale.new_zeros(())


def ternary_layers(student: nn.Module) -> dict[str, TernaryLayer]:
    """Return the ternary layers of `student`, packed or not, by the name of their module."""
    return {name: module for name, module in student.named_modules() if isinstance(module, TernaryLayer)}


def pack(student: PreTrainedModel) -> None:
    """Replace the latent weights of `student` by packed codes, in place; on the meta device, by their shape.

    Raises `PackingError` where its codes are not ternary.
    """
    student.eval()
    with torch.no_grad():
        for layer in ternary_layers(student).values():
            ternary = layer.ternary_weight()
            layer.weight_quantizer = PackedWeights(ternary.codes.shape[1], ternary.scale).eval()
            layer.weight = nn.Parameter(_packed(ternary.codes), requires_grad=False)
    student.config.quantization_config.packed = True


def _packed(codes: Tensor) -> Tensor:
    """Return float codes (N, K) as 2-bit codes, uint8 (N, ceil(K / 4))."""
    if codes.is_meta:
        return codes.new_empty((codes.shape[0], packed_width(codes.shape[1])), dtype=torch.uint8)
    return torch.from_numpy(pack_ternary(codes.cpu().numpy().astype("int8"))).to(codes.device)
