"""A student's shape and parameters as an artifact holds them: BERT, and RoBERTa, which is the same network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ti_qat.artifact.schema import EncoderShape
from ti_qat.models.families import layers_of, position_offset
from ti_qat.models.modeling import static_quantizers, ternary_linears

Array = np.ndarray[Any, Any]


def encoder_shape(model: PreTrainedModel) -> EncoderShape:
    """Return the dimensions of an exportable model for the artifact's header."""
    config = model.config
    return EncoderShape(
        family="bert",
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        feed_forward=config.intermediate_size,
        vocabulary=config.vocab_size,
        positions=config.max_position_embeddings - position_offset(config),
        token_types=config.type_vocab_size,
        labels=config.num_labels,
    )


def _classifier(student: PreTrainedModel) -> nn.Linear:
    """Return the last linear: RoBERTa's lies in its head, beside the linear that BERT calls the pooler."""
    return getattr(student.classifier, "out_proj", student.classifier)


def parameters_of(student: PreTrainedModel) -> dict[str, Array]:
    """Return the artifact's parameters, by the names of `build_encoder`."""
    embeddings = student.base_model.embeddings
    classifier = _classifier(student)
    first = position_offset(student.config)
    found: dict[str, Tensor] = {
        "embedding.position": embeddings.position_embeddings.weight[first:],
        "embedding.token_type": embeddings.token_type_embeddings.weight,
        "layer_norm.epsilon": torch.tensor([student.config.layer_norm_eps]),
        "classifier.weight": classifier.weight,
        "classifier.bias": classifier.bias,
    }
    norms = {"embedding.norm": embeddings.LayerNorm}
    words = embeddings.word_embeddings.ternary_weight()
    codes = {"embedding.word_codes": words.codes}
    found["embedding.word_scale"] = words.scale
    for i, layer in enumerate(layers_of(student)):
        norms[f"layers.{i}.attention.norm"] = layer.attention.output.LayerNorm
        norms[f"layers.{i}.feed_forward.norm"] = layer.output.LayerNorm
        probabilities = layer.attention.self.quantizers.probabilities
        found[f"layers.{i}.attention.probabilities_quantizer.scale"] = probabilities.scale_of(torch.zeros(1))
    for name, norm in norms.items():
        found |= {f"{name}.gamma": norm.weight, f"{name}.beta": norm.bias}
    for name, linear in ternary_linears(student).items():
        weight = linear.ternary_weight()
        codes[f"{name}.weight_codes"] = weight.codes
        found |= {f"{name}.weight_scale": weight.scale, f"{name}.bias": linear.bias}
    for name, quantizer in static_quantizers(student).items():
        found[f"{name}.scale"] = quantizer.scale
    arrays = {name: tensor.detach().numpy().astype(np.float32) for name, tensor in found.items()}
    return arrays | {name: tensor.numpy().astype(np.int8) for name, tensor in codes.items()}
