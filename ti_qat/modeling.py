"""Turns a transformers BERT classifier into its ternary student, by name and in place of modules.

No modelling code lives here: linears and the word embedding are replaced, and attention goes through
the function that `transformers` lets us register. Names are those of `ti_qat.artifact.encoder`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedConfig,
)
from transformers.masking_utils import eager_mask

from ti_qat.artifact import numerics
from ti_qat.artifact.schema import ActivationScaling, EncoderShape, Quantization
from ti_qat.config import WeightQuantizer
from ti_qat.errors import UnsupportedModelError
from ti_qat.layers import TernaryEmbedding, TernaryLinear
from ti_qat.quantizers import PerTokenQuantizer, ProbabilityQuantizer, Quantized, Quantizer, StaticQuantizer

ATTENTION_NAME = "ti_qat"
SERVED_FAMILIES = ("bert",)

# What the deployed arithmetic computes; a checkpoint that differs in one of these is refused.
REQUIRED_SETTINGS: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
}

# Artifact operation below "layers.{i}." -> module path below "bert.encoder.layer.{i}.".
LAYER_LINEARS = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
}


def require_served(config: PreTrainedConfig) -> None:
    """Raise `UnsupportedModelError` unless the family and its settings can be trained and exported."""
    served = ", ".join(SERVED_FAMILIES)
    if config.model_type not in SERVED_FAMILIES:
        raise UnsupportedModelError(f"model family '{config.model_type}' is not served; served: {served}")
    for name, accepted in REQUIRED_SETTINGS.items():
        found = getattr(config, name, None)
        if found not in accepted:
            raise UnsupportedModelError(
                f"config.{name}: expected {accepted[0]!r}, found {found!r} (served: {served} encoders)"
            )


def encoder_shape(config: BertConfig) -> EncoderShape:
    """Return the dimensions of a served model for the artifact's header."""
    return EncoderShape(
        family="bert",
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        feed_forward=config.intermediate_size,
        vocabulary=config.vocab_size,
        positions=config.max_position_embeddings,
        token_types=config.type_vocab_size,
        labels=config.num_labels,
    )


@dataclass
class AttentionTap:
    """What one layer's attention did in the latest forward pass, and what it is told to do in the next.

    `scores` and `probabilities` are float32 (B, heads, S, S): raw scaled scores before the mask, and the
    softmax before dropout and before its quantiser. `replacement` stands in for the probabilities.
    """

    scores: Tensor | None = None
    probabilities: Tensor | None = None
    replacement: Tensor | None = None
    replaced: bool = False


class AttentionQuantizers(nn.Module):
    """The quantisers of one attention block; `input` is shared by its query, key and value linears."""

    def __init__(self, scaling: ActivationScaling) -> None:
        super().__init__()
        self.input = input_quantizer(scaling)
        self.query, self.key, self.value = StaticQuantizer(), StaticQuantizer(), StaticQuantizer()
        self.probabilities = ProbabilityQuantizer()


def input_quantizer(scaling: ActivationScaling) -> Quantizer:
    """Return a new quantiser for the input of a linear."""
    return StaticQuantizer() if scaling is ActivationScaling.STATIC else PerTokenQuantizer()


def _unquantized(x: Tensor) -> Quantized:
    return Quantized(x, x.new_ones(1))


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
    with a `tap` leaves its raw scores and probabilities there and takes replaced probabilities from it.
    """
    quantizers = getattr(module, "quantizers", None)
    q, k, v = (
        (quantizers.query(query), quantizers.key(key), quantizers.value(value))
        if quantizers is not None
        else (_unquantized(query), _unquantized(key), _unquantized(value))
    )
    factor = (q.scale * k.scale) * float(numerics.attention_scale(query.shape[-1]))
    scores = torch.matmul(q.codes, k.codes.transpose(2, 3)) * factor
    masked = scores if attention_mask is None else scores + attention_mask
    probabilities = functional.softmax(masked, dim=-1)
    tap: AttentionTap | None = getattr(module, "tap", None)
    if tap is not None:
        tap.scores, tap.probabilities = scores, probabilities
        if tap.replacement is not None:
            probabilities, tap.replaced = tap.replacement, True
    kept = functional.dropout(probabilities, p=dropout, training=module.training)
    p = quantizers.probabilities(kept) if quantizers is not None else _unquantized(kept)
    context = torch.matmul(p.codes, v.codes) * (p.scale * v.scale)
    return context.transpose(1, 2).contiguous(), probabilities


# Without a mask function of the same name transformers passes no mask at all: padding would be attended to.
AttentionInterface.register(ATTENTION_NAME, tapped_attention)
AttentionMaskInterface.register(ATTENTION_NAME, eager_mask)


def attach_taps(model: BertForSequenceClassification) -> list[AttentionTap]:
    """Route the attention of `model` through `tapped_attention`; return one tap per layer, in order."""
    require_served(model.config)
    model.set_attn_implementation(ATTENTION_NAME)
    taps = []
    for layer in model.bert.encoder.layer:
        layer.attention.self.tap = AttentionTap()
        taps.append(layer.attention.self.tap)
    return taps


def make_student(
    teacher: BertForSequenceClassification,
    quantization: Quantization,
    weight_quantizer: WeightQuantizer = WeightQuantizer.TWN,
) -> BertForSequenceClassification:
    """Return a copy of `teacher` with ternary weights and quantised activations, not yet calibrated."""
    require_served(teacher.config)
    student = copy.deepcopy(teacher)
    student.set_attn_implementation(ATTENTION_NAME)
    embeddings = student.bert.embeddings
    embeddings.word_embeddings = TernaryEmbedding.from_embedding(
        embeddings.word_embeddings, quantization.word_embedding, weight_quantizer
    )
    for layer in student.bert.encoder.layer:
        quantizers = AttentionQuantizers(quantization.activations)
        layer.attention.self.quantizers = quantizers
        for path in LAYER_LINEARS.values():
            shared = quantizers.input if path.startswith("attention.self.") else None
            _replace_linear(layer, path, quantization, weight_quantizer, shared)
    _replace_linear(student.bert, "pooler.dense", quantization, weight_quantizer, None)
    return student


def _replace_linear(
    parent: nn.Module,
    path: str,
    quantization: Quantization,
    weight_quantizer: WeightQuantizer,
    shared: Quantizer | None,
) -> None:
    """Put a ternary linear in the place of the one at `path`; without `shared` it owns its quantiser."""
    owner_path, _, name = path.rpartition(".")
    owner = parent.get_submodule(owner_path)
    quantizer = shared or input_quantizer(quantization.activations)
    layer = TernaryLinear.from_linear(getattr(owner, name), quantization.linear_weights, weight_quantizer, quantizer)
    if shared is None:
        layer.input_quantizer = quantizer
    setattr(owner, name, layer)


def ternary_linears(student: BertForSequenceClassification) -> dict[str, TernaryLinear]:
    """Return the ternary linears of `student` by the name of their artifact operation, in order."""
    found = {}
    for i, layer in enumerate(student.bert.encoder.layer):
        for operation, path in LAYER_LINEARS.items():
            found[f"layers.{i}.{operation}"] = layer.get_submodule(path)
    found["pooler"] = student.bert.pooler.dense
    return found


def static_quantizers(student: BertForSequenceClassification) -> dict[str, StaticQuantizer]:
    """Return the quantisers with a learned scale by the name of their artifact operation."""
    found: dict[str, Quantizer] = {}
    for i, layer in enumerate(student.bert.encoder.layer):
        quantizers = layer.attention.self.quantizers
        found[f"layers.{i}.attention.input"] = quantizers.input
        for part in ("query", "key", "value"):
            found[f"layers.{i}.attention.{part}_quantizer"] = getattr(quantizers, part)
    for name, linear in ternary_linears(student).items():
        if hasattr(linear, "input_quantizer"):
            found[f"{name}.input"] = linear.input_quantizer
    return {name: quantizer for name, quantizer in found.items() if isinstance(quantizer, StaticQuantizer)}


@contextmanager
def full_precision_weights(student: BertForSequenceClassification) -> Iterator[None]:
    """Let the linears and the embedding of `student` use their latent weights for the duration of the block."""
    layers = [module for module in student.modules() if isinstance(module, TernaryLinear | TernaryEmbedding)]
    try:
        for layer in layers:
            layer.ternary_enabled = False
        yield
    finally:
        for layer in layers:
            layer.ternary_enabled = True
