"""The model families that are served: where each keeps what training replaces, taps and intervenes in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from ti_qat.errors import UnsupportedModelError


class Modality(StrEnum):
    """What a model reads."""

    TEXT = "text"
    IMAGES = "images"


@dataclass(frozen=True)
class Family:
    """Module paths of one family: below a layer, unless a field says otherwise.

    `layers` leads from the base model to its lists of layers (`*`: every member). `attention` is the
    module that calls the attention function. `query`, `key`, `value` and `output` are the student's
    linears; where the model computes the first three in one, `fused` is that linear's path, and they lie
    below it. `feed_forward` maps an operation's name to its linear. `word_embedding` and `projection` lie
    below the base model, `pooler` below the model: None where there is none, or it stays float32.
    `positions_after_padding`: the first token takes the row after `pad_token_id`'s of the position table.
    `obstacle` says why an artifact cannot hold the family yet; None where it can.
    """

    layers: str
    attention: str
    query: str
    key: str
    value: str
    output: str
    feed_forward: dict[str, str]
    word_embedding: str | None = None
    projection: str | None = None
    pooler: str | None = None
    fused: str | None = None
    causal: bool = False
    modality: Modality = Modality.TEXT
    positions_after_padding: bool = False
    required: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    obstacle: str | None = None

    @property
    def linears(self) -> dict[str, str]:
        """Operation name below `layers.{i}.` -> path of the linear, in order."""
        return {
            "attention.query": self.query,
            "attention.key": self.key,
            "attention.value": self.value,
            "attention.output": self.output,
            **{f"feed_forward.{name}": path for name, path in self.feed_forward.items()},
        }


def _bert_like(pooler: str, **rest: Any) -> Family:
    return Family(
        layers="encoder.layer",
        attention="attention.self",
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        output="attention.output.dense",
        feed_forward={"up": "intermediate.dense", "down": "output.dense"},
        word_embedding="embeddings.word_embeddings",
        pooler=pooler,
        required={"is_decoder": (False, None), "add_cross_attention": (False, None)},
        **rest,
    )


def _vit_like() -> Family:
    return Family(
        layers="layers",
        attention="attention",
        query="attention.q_proj",
        key="attention.k_proj",
        value="attention.v_proj",
        output="attention.o_proj",
        feed_forward={"up": "mlp.fc1", "down": "mlp.fc2"},
        modality=Modality.IMAGES,
        obstacle="patches and pre-normalised layers",
    )


# By `config.model_type`. Only what has a test of its own is listed.
FAMILIES = {
    "bert": _bert_like("bert.pooler.dense"),
    "roberta": _bert_like("classifier.dense", positions_after_padding=True),
    "electra": _bert_like(
        "classifier.dense", projection="embeddings_project", obstacle="the GELU in the classification head"
    ),
    "distilbert": Family(
        layers="transformer.layer",
        attention="attention",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        output="attention.out_lin",
        feed_forward={"up": "ffn.lin1", "down": "ffn.lin2"},
        word_embedding="embeddings.word_embeddings",
        pooler="pre_classifier",
        obstacle="the ReLU in the classification head",
    ),
    "albert": Family(
        layers="encoder.albert_layer_groups.*.albert_layers",
        attention="attention",
        query="attention.query",
        key="attention.key",
        value="attention.value",
        output="attention.dense",
        feed_forward={"up": "ffn", "down": "ffn_output"},
        word_embedding="embeddings.word_embeddings",
        projection="encoder.embedding_hidden_mapping_in",
        pooler="albert.pooler",
        obstacle="layers that share their weights",
    ),
    "vit": _vit_like(),
    "deit": _vit_like(),
    "gpt2": Family(
        layers="h",
        attention="attn",
        query="attn.c_attn.query",
        key="attn.c_attn.key",
        value="attn.c_attn.value",
        output="attn.c_proj",
        feed_forward={"up": "mlp.c_fc", "down": "mlp.c_proj"},
        fused="attn.c_attn",
        causal=True,
        required={"add_cross_attention": (False, None)},
        obstacle="causal attention and pre-normalised layers",
    ),
    "llama": Family(
        layers="layers",
        attention="self_attn",
        query="self_attn.q_proj",
        key="self_attn.k_proj",
        value="self_attn.v_proj",
        output="self_attn.o_proj",
        feed_forward={"gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"},
        causal=True,
        obstacle="causal attention, rotary positions and gated feed-forward layers",
    ),
}

# What the deployed arithmetic computes; a checkpoint that differs in one of these is not exported.
EXPORTED_SETTINGS: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute", None),
}


def family_of(config: PreTrainedConfig) -> Family:
    """Return the family of a model; raise `UnsupportedModelError`, by name, where it is not served."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise UnsupportedModelError(f"model family '{config.model_type}' is not served; served: {', '.join(FAMILIES)}")
    _require(config, family.required, "to be trained")
    return family


def require_exportable(config: PreTrainedConfig) -> None:
    """Raise `UnsupportedModelError` where an artifact cannot hold a student of this model yet."""
    family = family_of(config)
    if family.obstacle is not None:
        exportable = ", ".join(name for name, other in FAMILIES.items() if other.obstacle is None)
        raise UnsupportedModelError(
            f"model family '{config.model_type}' cannot be exported yet ({family.obstacle}); exported: {exportable}"
        )
    _require(config, EXPORTED_SETTINGS, "to be exported")


def _require(config: PreTrainedConfig, settings: dict[str, tuple[Any, ...]], purpose: str) -> None:
    for name, accepted in settings.items():
        found = getattr(config, name, None)
        if found not in accepted:
            raise UnsupportedModelError(
                f"config.{name}: expected {accepted[0]!r} {purpose}, found {found!r} in a '{config.model_type}' model"
            )


def position_offset(config: PreTrainedConfig) -> int:
    """Return the row of the position table that the first token takes."""
    return config.pad_token_id + 1 if family_of(config).positions_after_padding else 0


def longest_input(config: PreTrainedConfig) -> int | None:
    """Return how many tokens a row may have; None for images, whose number is fixed."""
    if family_of(config).modality is Modality.IMAGES:
        return None
    return config.max_position_embeddings - position_offset(config)


def layers_of(model: PreTrainedModel) -> list[nn.Module]:
    """Return the layers of `model` that have weights of their own, in the order of their first use."""
    return list(_descend(model.base_model, family_of(model.config).layers.split(".")))


def _descend(module: nn.Module, path: list[str]) -> Iterator[nn.Module]:
    """Yield the members of the module list that `path` leads to."""
    if not path:
        yield from module.children()
    elif path[0] == "*":
        for child in module.children():
            yield from _descend(child, path[1:])
    else:
        yield from _descend(getattr(module, path[0]), path[1:])


def attention_calls(config: PreTrainedConfig) -> int:
    """Return how often a forward pass attends: once a layer, and once a use of a shared one."""
    return config.num_hidden_layers * getattr(config, "inner_group_num", 1)
