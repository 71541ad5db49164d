"""The evaluation split that travels with an artifact, and how a stage scores itself on it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ti_qat.artifact.encoder import INPUT_IDS, LENGTHS, TOKEN_TYPE_IDS
from ti_qat.artifact.schema import Metric

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class EvaluationSplit:
    """R tokenised rows with labels, and what the producer's own model computed on them.

    `input_ids`, `token_type_ids`: int32 (R, T), padded on the right; `lengths`, `labels`: int32 (R,);
    `logits`: float32 (R, labels) of the producer's model; `golden`: hidden states by activation
    name, float32 (G, T, H), of the first G rows (entries beyond a row's length mean nothing).
    """

    input_ids: Array
    token_type_ids: Array
    lengths: Array
    labels: Array
    logits: Array
    golden: Mapping[str, Array]

    @property
    def rows(self) -> int:
        """Number of rows R."""
        return len(self.labels)

    def batches(self, batch_size: int, limit: int | None = None) -> Iterator[tuple[Array, dict[str, Array]]]:
        """Yield (row numbers, graph inputs), shortest rows first, padded to the batch's longest only.

        `limit` takes the first rows of the split, before sorting.
        """
        rows = self.rows if limit is None else min(limit, self.rows)
        order = np.argsort(self.lengths[:rows], kind="stable")
        for start in range(0, rows, batch_size):
            chosen = order[start : start + batch_size]
            tokens = int(self.lengths[chosen].max())
            yield (
                chosen,
                {
                    INPUT_IDS: np.ascontiguousarray(self.input_ids[chosen, :tokens]),
                    TOKEN_TYPE_IDS: np.ascontiguousarray(self.token_type_ids[chosen, :tokens]),
                    LENGTHS: self.lengths[chosen],
                },
            )


def score(metric: Metric, labels: Array, predictions: Array) -> float:
    """Return the metric of integer `predictions` against `labels`; F1 is that of class 1.

    Written on NumPy alone because the devices that score themselves carry no scikit-learn; the
    tests hold it to scikit-learn's value. Where a denominator is 0 the score is 0, as there.
    """
    if metric is Metric.ACCURACY:
        return float(np.mean(labels == predictions))
    if metric is Metric.F1:
        hits = float(np.sum((labels == 1) & (predictions == 1)))
        named = float(np.sum(labels == 1) + np.sum(predictions == 1))
        return 2.0 * hits / named if named else 0.0
    classes = int(max(labels.max(), predictions.max())) + 1
    confusion = np.zeros((classes, classes), np.float64)
    np.add.at(confusion, (labels, predictions), 1.0)
    true, predicted, total = confusion.sum(1), confusion.sum(0), confusion.sum()
    covariance = np.trace(confusion) * total - true @ predicted
    spread = (total**2 - true @ true) * (total**2 - predicted @ predicted)
    return float(covariance / np.sqrt(spread)) if spread else 0.0


def label_agreement(logits: Array, other_logits: Array) -> float:
    """Return the fraction of rows whose largest logit is at the same class in both."""
    return float(np.mean(np.argmax(logits, axis=-1) == np.argmax(other_logits, axis=-1)))


def codes_digest(codes: Array) -> int:
    """Return a 64-bit digest of an int8 array's bytes in C order, to compare stages block by block."""
    digest = hashlib.blake2b(np.ascontiguousarray(codes, np.int8).tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def valid_codes(codes: Array, row: int, length: int) -> Array:
    """Return one row's codes without padding: (length, H), (heads, length, length) or (H,)."""
    block: Array = codes[row]
    if block.ndim == 3:
        return block[:, :length, :length]
    return block[:length] if block.ndim == 2 else block
