"""Small random but valid values for the tests of every package."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ti_qat.artifact import io
from ti_qat.artifact.encoder import build_encoder, hidden_state_names
from ti_qat.artifact.evaluation import EvaluationSplit
from ti_qat.artifact.schema import (
    ActivationScaling,
    EncoderShape,
    Granularity,
    Metric,
    Provenance,
    Quantization,
    Task,
    Tokenization,
)

WORDS = ("good", "bad", "film", "plot", "a", "the", "very", "not", "dull", "fine")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tiny_shape(**changes: Any) -> EncoderShape:
    """Dimensions that are no multiple of any vector width."""
    values = {
        "family": "bert", "layers": 2, "hidden": 24, "heads": 3, "feed_forward": 37, "vocabulary": 61,
        "positions": 19, "token_types": 2, "labels": 2,
    }  # fmt: skip
    return EncoderShape(**(values | changes))


def tiny_quantization(**changes: Any) -> Quantization:
    values = {
        "linear_weights": Granularity.PER_ROW,
        "word_embedding": Granularity.PER_ROW,
        "activations": ActivationScaling.STATIC,
    }
    return Quantization(**(values | changes))


def tiny_tokenizer_json() -> str:
    """A word-level tokenizer with BERT's special tokens and template."""
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    cls, sep = vocabulary["[CLS]"], vocabulary["[SEP]"]
    special = {
        "[CLS]": {"id": "[CLS]", "ids": [cls], "tokens": ["[CLS]"]},
        "[SEP]": {"id": "[SEP]", "ids": [sep], "tokens": ["[SEP]"]},
    }

    def part(kind: str, name: str, segment: int) -> dict[str, Any]:
        return {kind: {"id": name, "type_id": segment}}

    single = [part("SpecialToken", "[CLS]", 0), part("Sequence", "A", 0), part("SpecialToken", "[SEP]", 0)]
    pair = [*single, part("Sequence", "B", 1), part("SpecialToken", "[SEP]", 1)]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": vocabulary[t], "content": t, "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": True}
                for t in SPECIAL
            ],
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special},
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
        }
    )  # fmt: skip


def tiny_parameters(shape: EncoderShape, quantization: Quantization, seed: int = 0) -> dict[str, np.ndarray]:
    """Random parameters of the right names, dtypes and shapes, of a size that keeps activations alive."""
    rng = np.random.default_rng(seed)
    parameters = {}
    for name, spec in build_encoder(shape, quantization).parameters.items():
        if spec.ternary:
            value = rng.integers(-1, 2, spec.shape).astype(np.int8)
        elif name == "layer_norm.epsilon":
            value = np.array([1e-12], np.float32)
        elif name.endswith("probabilities_quantizer.scale"):
            value = np.array([1 / 127], np.float32)
        elif name.endswith("scale"):
            value = rng.uniform(0.02, 0.05, spec.shape).astype(np.float32)
        elif name.endswith("gamma"):
            value = rng.uniform(0.5, 1.5, spec.shape).astype(np.float32)
        else:
            value = rng.normal(0, 0.3, spec.shape).astype(np.float32)
        parameters[name] = value
    return parameters


def tiny_evaluation(shape: EncoderShape, rows: int = 7, tokens: int = 13, seed: int = 1) -> EvaluationSplit:
    """Random rows of mixed lengths; the producer's logits and hidden states are random too. One label: a regression."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, tokens + 1, rows).astype(np.int32)
    lengths[0] = tokens
    valid = np.arange(tokens) < lengths[:, None]
    golden = {name: rng.normal(size=(2, tokens, shape.hidden)).astype(np.float32) for name in hidden_state_names(shape)}
    return EvaluationSplit(
        input_ids=np.where(valid, rng.integers(5, shape.vocabulary, (rows, tokens)), 0).astype(np.int32),
        token_type_ids=np.where(valid, rng.integers(0, shape.token_types, (rows, tokens)), 0).astype(np.int32),
        lengths=lengths,
        labels=rng.integers(0, shape.labels, rows).astype(np.int32)
        if shape.labels > 1
        else rng.uniform(0, 5, rows).astype(np.float32),
        logits=rng.normal(size=(rows, shape.labels)).astype(np.float32),
        golden=golden,
    )


def tiny_artifact(
    path: Path,
    *,
    seed: int = 0,
    quantization: Quantization | None = None,
    text_columns: tuple[str, ...] | None = None,
    teacher_logits: np.ndarray | None = None,
    **shape_changes: Any,
) -> io.Artifact:
    """Write a random tiny artifact at `path` and return it; with `labels=1` it is a regression."""
    shape = tiny_shape(**shape_changes)
    quantization = quantization or tiny_quantization()
    classes = ("negative", "positive", *(f"label{i}" for i in range(2, shape.labels)))
    classification = Task(name="tiny", labels=classes, metric=Metric.ACCURACY, text_columns=text_columns)
    regression = Task(name="tiny", labels=("score",), metric=Metric.PEARSON_SPEARMAN, text_columns=text_columns)
    return io.save(
        path,
        task=regression if shape.labels == 1 else classification,
        encoder=shape,
        quantization=quantization,
        tokenization=Tokenization(max_length=16, pad_token_id=0),
        provenance=Provenance(tool_version="0", teacher="random", method="none", seed=seed, training_rows=0),
        parameters=tiny_parameters(shape, quantization, seed),
        tokenizer_json=tiny_tokenizer_json(),
        evaluation=replace(tiny_evaluation(shape), teacher_logits=teacher_logits),
    )
