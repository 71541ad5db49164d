"""A tiny random model of every served family, and a batch for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DeiTConfig,
    DeiTForImageClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

from ti_qat.config import QuantizerSettings
from ti_qat.models.families import FAMILIES, Modality
from ti_qat.models.modeling import make_student, set_dropout, static_quantizers
from ti_qat.quantization.quantizers import Mode, activation_mode

VOCABULARY, WIDTH, LAYERS, HEADS, FEED_FORWARD, POSITIONS, PAD = 61, 24, 2, 4, 40, 20, 1
BERT_LIKE = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": FEED_FORWARD,
    "initializer_range": 0.3,
}
TEXT = {**BERT_LIKE, "max_position_embeddings": POSITIONS, "pad_token_id": PAD, "num_labels": 3}
IMAGES = {**BERT_LIKE, "image_size": 8, "patch_size": 4, "num_labels": 3}
del IMAGES["vocab_size"]


def tiny_albert(layers: int = LAYERS, groups: int = 1, inner: int = 1) -> AlbertForSequenceClassification:
    sizes = {"num_hidden_layers": layers, "num_hidden_groups": groups, "inner_group_num": inner}
    return AlbertForSequenceClassification(AlbertConfig(**TEXT | sizes, embedding_size=16))


BUILDERS: dict[str, Callable[[], PreTrainedModel]] = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**TEXT)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**TEXT, type_vocab_size=1)),
    "electra": lambda: ElectraForSequenceClassification(ElectraConfig(**TEXT, embedding_size=16)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=VOCABULARY,
            dim=WIDTH,
            n_layers=LAYERS,
            n_heads=HEADS,
            hidden_dim=FEED_FORWARD,
            max_position_embeddings=POSITIONS,
            pad_token_id=PAD,
            initializer_range=0.3,
            num_labels=3,
        )
    ),
    "albert": tiny_albert,
    "vit": lambda: ViTForImageClassification(ViTConfig(**IMAGES)),
    "deit": lambda: DeiTForImageClassification(DeiTConfig(**IMAGES)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            n_inner=FEED_FORWARD,
            n_positions=POSITIONS,
            pad_token_id=PAD,
            initializer_range=0.3,
        )
    ),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(**BERT_LIKE, max_position_embeddings=POSITIONS, pad_token_id=PAD, num_key_value_heads=2)
    ),
}


def tiny_model(family: str, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    return BUILDERS[family]().eval()


def tiny_inputs(family: str) -> dict[str, Tensor]:
    """Three rows: of 7, 4 and 2 tokens, or images."""
    if FAMILIES[family].modality is Modality.IMAGES:
        return {"pixel_values": torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))}
    ids = torch.tensor([[2, 7, 9, 31, 8, 60, 3], [2, 5, 11, 3, PAD, PAD, PAD], [2, 3, PAD, PAD, PAD, PAD, PAD]])
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


def tokens_of(family: str) -> int:
    """Return how many tokens the layers see: an image's are its patches and one or two of the model's own."""
    return {"vit": 4 + 1, "deit": 4 + 2}.get(family, 7)


def tiny_student_of(teacher: PreTrainedModel, inputs: dict[str, Tensor], **settings: object) -> PreTrainedModel:
    """A calibrated student without dropout."""
    student = make_student(teacher, QuantizerSettings(**settings)).eval()
    set_dropout(student, 0.0)
    with torch.no_grad(), activation_mode(student, Mode.OBSERVE):
        student(**inputs)
    for quantizer in static_quantizers(student).values():
        quantizer.calibrate()
    return student
