"""Our BERT-base: a bundle packed from an artifact with random ternary weights, and whether every path agrees on it."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tokenizers import BertWordPieceTokenizer

from benchmarks.inference.engines import OURS, OURS_SMALLER
from benchmarks.simulation.forward_exact import random_parameters
from deploy.export import pack
from deploy.runtime.classifier import Classifier
from deploy.runtime.session import supported_isas
from hwsim.design import BERT_BASE, STATIC_SCALES
from ti_qat.artifact import io
from ti_qat.artifact.encoder import hidden_state_names
from ti_qat.artifact.evaluation import EvaluationSplit
from ti_qat.artifact.schema import Metric, Provenance, Task, Tokenization

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Batches (B, S) whose logits must not depend on the path: few rows, ragged tiles, full ones; lengths inside differ.
COMPARED_SHAPES = ((1, 8), (3, 37), (1, 128))


def pack_models(folder: Path) -> None:
    """Write the bundles of 2 and of 1.6 bits, replacing earlier ones: the format may have changed since."""
    with TemporaryDirectory() as temporary:
        artifact = io.save(
            Path(temporary) / "artifact",
            task=Task(name="random", labels=("negative", "positive"), metric=Metric.ACCURACY, text_columns=("text",)),
            encoder=BERT_BASE,
            quantization=STATIC_SCALES,
            tokenization=Tokenization(max_length=BERT_BASE.positions, pad_token_id=0),
            provenance=Provenance(tool_version="0", teacher="random", method="none", seed=0, training_rows=0),
            parameters=random_parameters(),
            tokenizer_json=_tokenizer_json(),
            evaluation=_one_row(),
        )
        pack(artifact, folder / OURS)
        pack(artifact, folder / OURS_SMALLER, weight_bits=1.6)


def paths_bit_identical(bundle: Path, threads: int) -> bool | None:
    """Return whether all instruction sets, on one thread and on `threads`, give the same bits; None for one path."""
    paths = list(product(supported_isas(), sorted({1, threads})))
    found = [_logits(Classifier.load(bundle, threads=count, isa=isa)) for isa, count in paths]
    return all(logits == found[0] for logits in found) if len(found) > 1 else None


def _logits(classifier: Classifier) -> list[bytes]:
    rng = np.random.default_rng(2)
    found = []
    for batch, tokens in COMPARED_SHAPES:
        lengths = np.linspace(tokens, max(tokens // 2, 1), batch).astype(np.int32)
        inputs = {
            "input_ids": rng.integers(len(SPECIAL), BERT_BASE.vocabulary, (batch, tokens)).astype(np.int32),
            "token_type_ids": np.zeros((batch, tokens), np.int32),
            "lengths": lengths,
        }
        found.append(classifier.logits(inputs).tobytes())
    return found


def _tokenizer_json() -> str:
    """Return a WordPiece tokenizer with as many words as BERT's, for its size and load time are the bundle's too."""
    words = [*SPECIAL, *(f"w{i:06d}" for i in range(len(SPECIAL), BERT_BASE.vocabulary))]
    return BertWordPieceTokenizer(vocab={word: number for number, word in enumerate(words)}).to_str()


def _one_row(tokens: int = 8) -> EvaluationSplit:
    """Return a split of one row; nobody asks for its values, but an artifact has one."""
    return EvaluationSplit(
        input_ids=np.full((1, tokens), len(SPECIAL), np.int32),
        token_type_ids=np.zeros((1, tokens), np.int32),
        lengths=np.array([tokens], np.int32),
        labels=np.zeros(1, np.int32),
        logits=np.zeros((1, BERT_BASE.labels), np.float32),
        golden={name: np.zeros((1, tokens, BERT_BASE.hidden), np.float32) for name in hidden_state_names(BERT_BASE)},
    )
