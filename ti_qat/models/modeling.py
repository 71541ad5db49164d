"""Turns a transformers model into its ternary student, by name and in place of modules.

No modelling code lives here: linears and the word embedding are replaced, and attention goes through
the function that `transformers` lets us register. `ti_qat.models.families` says where they lie; the names of
operations are those of `ti_qat.artifact.encoder`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from ti_qat.config import QuantizerSettings
from ti_qat.hf_quantizer import ATTENTION_NAME, TernaryConfig
from ti_qat.models.families import Family, attention_calls, family_of, layers_of
from ti_qat.quantization.activation_quantizers import (
    StaticQuantizer,
    input_quantizer,
    operand_quantizer,
    probability_quantizer,
)
from ti_qat.quantization.layers import TernaryEmbedding, TernaryLinear, split_fused
from ti_qat.quantization.quantizers import Quantized, Quantizer

# What the families call the probabilities of their dropouts.
DROPOUT_SETTINGS = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "classifier_dropout_prob"),
    *("dropout", "attention_dropout", "seq_classif_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop"),
)


@dataclass
class AttentionTap:
    """Looks into every attention call of a model's forward pass, in order, and may replace its result.

    Kept while `recording`: `scores` and `probabilities`, each float32 (B, heads, S, S): scaled scores before
    the mask, and the softmax before dropout and quantiser. `replacements`, one a call, stand in for the
    probabilities. Calls are told apart by their order, since layers may share one module.
    """

    calls: int
    recording: bool = False
    scores: list[Tensor] = field(default_factory=list)
    probabilities: list[Tensor] = field(default_factory=list)
    replacements: Sequence[Tensor] | None = None
    replaced: int = 0

    def exchange(self, scores: Tensor, probabilities: Tensor) -> Tensor:
        """Return the probabilities that the pass goes on with."""
        if self.recording:
            self.scores.append(scores)
            self.probabilities.append(probabilities)
        if self.replacements is None:
            return probabilities
        self.replaced += 1
        return self.replacements[self.replaced - 1]


class AttentionQuantizers(nn.Module):
    """The quantisers of one attention block; `input` is shared by its query, key and value linears."""

    def __init__(self, settings: QuantizerSettings) -> None:
        super().__init__()
        self.input = input_quantizer(settings)
        self.query, self.key, self.value = (operand_quantizer(settings) for _ in range(3))
        self.probabilities = probability_quantizer(settings)


def _unquantized(x: Tensor) -> Quantized:
    return Quantized(x, x.new_ones(1))


def _repeated(x: Tensor, heads: int) -> Tensor:
    """Return grouped keys or values (B, groups, S, D) once for each of `heads` query heads."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def tapped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attention of teacher and student: (B, heads, S, D) inputs to the context (B, S, heads, D).

    A module with `quantizers` (the student's) multiplies codes, as the deployed operators do. A module
    with a `tap` shows it scores and probabilities and goes on with what it returns.
    """
    quantizers = getattr(module, "quantizers", None)
    q, k, v = (
        (quantizers.query(query), quantizers.key(key), quantizers.value(value))
        if quantizers is not None
        else (_unquantized(query), _unquantized(key), _unquantized(value))
    )
    heads = query.shape[1]
    factor = (q.scale * k.scale) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = torch.matmul(q.codes, _repeated(k.codes, heads).transpose(2, 3)) * factor
    masked = scores if attention_mask is None else scores + attention_mask
    probabilities = functional.softmax(masked, dim=-1)
    tap: AttentionTap | None = getattr(module, "tap", None)
    if tap is not None:
        probabilities = tap.exchange(scores, probabilities)
    kept = functional.dropout(probabilities, p=dropout, training=module.training)
    p = quantizers.probabilities(kept) if quantizers is not None else _unquantized(kept)
    context = torch.matmul(p.codes, _repeated(v.codes, heads)) * (p.scale * v.scale)
    return context.transpose(1, 2).contiguous(), probabilities


# Without a mask function of the same name transformers passes no mask at all: padding would be attended to.
AttentionInterface.register(ATTENTION_NAME, tapped_attention)
AttentionMaskInterface.register(ATTENTION_NAME, eager_mask)


def attach_tap(model: PreTrainedModel) -> AttentionTap:
    """Route the attention of `model` through `tapped_attention`; return the tap that all its layers share."""
    family = family_of(model.config)
    model.set_attn_implementation(ATTENTION_NAME)
    tap = AttentionTap(calls=attention_calls(model.config))
    for layer in layers_of(model):
        layer.get_submodule(family.attention).tap = tap
    return tap


def make_student(teacher: PreTrainedModel, settings: QuantizerSettings) -> PreTrainedModel:
    """Return a copy of `teacher` with ternary weights and quantised activations, not yet calibrated."""
    student = copy.deepcopy(teacher)
    make_ternary(student, settings)
    student.config.quantization_config = TernaryConfig.of(settings)
    return student


def make_ternary(student: PreTrainedModel, settings: QuantizerSettings) -> None:
    """Give a float model, in place, ternary weights and quantised activations, not yet calibrated."""
    family = family_of(student.config)
    student.set_attn_implementation(ATTENTION_NAME)
    base = student.base_model
    if family.word_embedding is not None:
        embedding = base.get_submodule(family.word_embedding)
        base.set_submodule(family.word_embedding, TernaryEmbedding.from_embedding(embedding, settings))
    for layer in layers_of(student):
        quantizers = AttentionQuantizers(settings)
        layer.get_submodule(family.attention).quantizers = quantizers
        if family.fused is not None:
            layer.set_submodule(family.fused, split_fused(layer.get_submodule(family.fused)))
        for path in family.linears.values():
            shared = quantizers.input if path in (family.query, family.key, family.value) else None
            _replace_linear(layer, path, settings, shared)
    for root, path in _outer_linears(student, family).values():
        _replace_linear(root, path, settings, None)


def _outer_linears(model: PreTrainedModel, family: Family) -> dict[str, tuple[nn.Module, str]]:
    """Return the linears outside the layers that become ternary: operation name -> root and path."""
    pooler = family.pooler
    if pooler is not None and model.base_model is model:
        pooler = pooler.removeprefix(f"{model.base_model_prefix}.")
    outer = {"embedding.projection": (model.base_model, family.projection), "pooler": (model, pooler)}
    # A model may come without its head, and ELECTRA projects its embeddings only where they are narrower.
    return {
        name: (root, path)
        for name, (root, path) in outer.items()
        if path is not None and path in dict(root.named_modules())
    }


def _replace_linear(root: nn.Module, path: str, settings: QuantizerSettings, shared: Quantizer | None) -> None:
    """Put a ternary linear in the place of the one at `path`; without `shared` it owns its quantiser."""
    quantizer = shared or input_quantizer(settings)
    layer = TernaryLinear.from_linear(root.get_submodule(path), settings, quantizer)
    if shared is None:
        layer.input_quantizer = quantizer
    root.set_submodule(path, layer)


def ternary_linears(student: PreTrainedModel) -> dict[str, TernaryLinear]:
    """Return the ternary linears of `student` by the name of their operation, in order."""
    family = family_of(student.config)
    found = {
        f"layers.{i}.{operation}": layer.get_submodule(path)
        for i, layer in enumerate(layers_of(student))
        for operation, path in family.linears.items()
    }
    return found | {name: root.get_submodule(path) for name, (root, path) in _outer_linears(student, family).items()}


def static_quantizers(student: PreTrainedModel) -> dict[str, StaticQuantizer]:
    """Return the quantisers that keep a scale by the name of their operation."""
    family = family_of(student.config)
    found: dict[str, Quantizer] = {}
    for i, layer in enumerate(layers_of(student)):
        quantizers = layer.get_submodule(family.attention).quantizers
        found[f"layers.{i}.attention.input"] = quantizers.input
        for part in ("query", "key", "value"):
            found[f"layers.{i}.attention.{part}_quantizer"] = getattr(quantizers, part)
    for name, linear in ternary_linears(student).items():
        if hasattr(linear, "input_quantizer"):
            found[f"{name}.input"] = linear.input_quantizer
    return {name: quantizer for name, quantizer in found.items() if isinstance(quantizer, StaticQuantizer)}


def set_dropout(model: PreTrainedModel, probability: float) -> None:
    """Set every dropout of `model`, in its modules and in the configuration that is saved with it."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
        elif isinstance(getattr(module, "attention_dropout", None), int | float):
            module.attention_dropout = probability  # ViT and LLaMA keep the number, not a module
    for name in DROPOUT_SETTINGS:
        if getattr(model.config, name, None) is not None:
            setattr(model.config, name, probability)


@contextmanager
def full_precision_weights(student: PreTrainedModel) -> Iterator[None]:
    """Let the linears and the embedding of `student` use their latent weights for the duration of the block."""
    layers = [module for module in student.modules() if isinstance(module, TernaryLinear | TernaryEmbedding)]
    try:
        for layer in layers:
            layer.ternary_enabled = False
        yield
    finally:
        for layer in layers:
            layer.ternary_enabled = True
