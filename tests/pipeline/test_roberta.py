"""RoBERTa with a byte-level BPE tokenizer, from teaching to prediction, on pairs of texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, RobertaConfig, RobertaForSequenceClassification, RobertaTokenizer

from deploy.runtime import Classifier
from ti_qat.artifact import io
from ti_qat.artifact.encoder import execute
from ti_qat.artifact.reference import KERNELS
from ti_qat.cli import main
from ti_qat.models import model_directory

PAIRS = [
    ("the cat sat on the mat", "a cat sat"),
    ("naïve café, ñandú!", "Çok güzel: 5 €"),
    ("日本語のテキスト", "and emoji 🙂🙃"),
    ("  leading  and   inner spaces ", "tab\u00a0and no-break"),
    ("it's we're they'll", "IT'S 3.14 (or so)"),
    ("", "an empty first text"),
    ("x", ""),
    ("a long text " * 12, "another long text " * 12),
]
TASK = """
name = "pairs"
text_columns = ["left", "right"]
label_column = "same"
labels = ["no", "yes"]
metric = "accuracy"
format = "jsonl"
"""
SETTINGS = ("epochs=2", "batch_size=4", "evaluate_every_steps=9")


def byte_level_tokenizer() -> RobertaTokenizer:
    """A byte-level BPE tokenizer with RoBERTa's special tokens at their places: padding is 1."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator([text for pair in PAIRS for text in pair], trainer)
    model = json.loads(trained.to_str())["model"]
    return RobertaTokenizer(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]])


def tiny_roberta(vocabulary: int) -> RobertaForSequenceClassification:
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=vocabulary,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=34,  # 32 tokens: the first two rows of the table are padding's
        type_vocab_size=1,
        pad_token_id=1,
        initializer_range=0.3,
    )
    return RobertaForSequenceClassification(config)


def invoke(*arguments: object) -> dict:
    found = CliRunner().invoke(main, [str(argument) for argument in arguments] + ["--json"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, its data, and everything that the verbs make of them."""
    folder = tmp_path_factory.mktemp("roberta")
    tokenizer = byte_level_tokenizer()
    tiny_roberta(len(tokenizer)).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "data").mkdir()
    rows = [{"left": a, "right": b, "same": ["no", "yes"][len(a) % 2]} for a, b in PAIRS * 2]
    for name in ("train", "dev"):
        (folder / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.toml").write_text(TASK)
    settings = [option for setting in SETTINGS for option in ("--set", setting)]
    data = ("--task", folder / "task.toml", "--data", folder / "data", *settings)
    teacher, student = folder / "teacher", folder / "student"
    invoke("teach", "--model", folder / "model", *data, "--set", "max_length=32", "--out", teacher)
    invoke("train", "--teacher", teacher, *data, "--out", student)
    invoke("export", student, "--data", folder / "data", "--out", folder / "artifact")
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    invoke("pack", folder / "artifact", "--out", folder / "bundle")
    return folder / "bundle"


def test_the_oracle_computes_what_torch_does(folder: Path) -> None:
    artifact = io.load(folder / "artifact")
    assert artifact.encoder.shape.positions == 32
    assert not artifact.evaluation.token_type_ids.any()
    for rows, inputs in artifact.evaluation.batches(4):
        logits = execute(artifact.encoder, KERNELS, artifact.parameters, inputs)
        # Sums run in another order: a code that falls on the other side of a tie moves a logit by about a step.
        np.testing.assert_allclose(logits, artifact.evaluation.logits[rows], atol=0.05)


def test_positions_start_after_the_padding_row(folder: Path) -> None:
    table = model_directory.load(folder / "student").model.roberta.embeddings.position_embeddings.weight
    found = io.load(folder / "artifact").parameters["embedding.position"]
    np.testing.assert_array_equal(found, table.detach().numpy()[2:])


def test_the_head_is_pooler_and_classifier(folder: Path) -> None:
    head = model_directory.load(folder / "student").model.classifier
    parameters = io.load(folder / "artifact").parameters
    np.testing.assert_array_equal(parameters["pooler.weight_codes"], head.dense.ternary_weight().codes.numpy())
    np.testing.assert_array_equal(parameters["classifier.weight"], head.out_proj.weight.detach().numpy())


def test_the_runtime_tokenises_pairs_as_transformers_does(folder: Path, bundle: Path) -> None:
    expected = AutoTokenizer.from_pretrained(folder / "model")
    ours = Classifier.load(bundle)._tokenizer
    for pair in PAIRS:
        # As training calls it, with lists: given two strings, it takes an empty second one for none.
        [theirs] = expected([pair[0]], [pair[1]], truncation=True, max_length=32)["input_ids"]
        found = ours.encode(*pair)
        assert found.ids == theirs
        assert set(found.type_ids) == {0}
        assert theirs.count(expected.sep_token_id) == 3
        single = expected(pair[0], truncation=True, max_length=32)["input_ids"]
        assert ours.encode(pair[0]).ids == single


def test_the_bundle_predicts_the_artifacts_logits(folder: Path, bundle: Path) -> None:
    artifact, classifier = io.load(folder / "artifact"), Classifier.load(bundle)
    for _, inputs in artifact.evaluation.batches(4):
        expected = execute(artifact.encoder, KERNELS, artifact.parameters, inputs)
        np.testing.assert_array_equal(classifier.logits(inputs), expected)
    student = model_directory.load(folder / "student")
    predictions = classifier(PAIRS)
    assert {prediction.label for prediction in predictions} <= {"no", "yes"}
    for pair, prediction in zip(PAIRS, predictions, strict=True):
        encoded = student.processor([pair[0]], [pair[1]], truncation=True, max_length=32, return_tensors="pt")
        with torch.no_grad():
            probabilities = student.model(**encoded).logits.softmax(-1)[0].tolist()
        np.testing.assert_allclose(list(prediction.scores.values()), probabilities, atol=0.02)


@pytest.mark.slow
def test_simulation_and_bundle_agree_to_the_bit(folder: Path, bundle: Path) -> None:
    invoke("simulate", folder / "artifact", "--accelerator", "wearable", "--out", folder / "simulation")
    report = invoke("verify", folder / "artifact", bundle, "--simulation", folder / "simulation")
    assert report["oracle_bit_identical"] is True
    assert report["code_mismatches"] == 0
    assert report["simulated_logits_bit_identical"] is True
