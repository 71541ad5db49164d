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

    `input_ids`, `token_type_ids`: int32 (R, T), padded on the right; `lengths`: int32 (R,); `labels`
    (R,): classes as int32, or the numbers of a regression as float32; `logits`: float32 (R, labels) of
    the producer's model; `golden`: hidden states by activation name, float32 (G, T, H), of the first G
    rows (entries beyond a row's length mean nothing); `teacher_logits`: float32 (R, labels) of the
    full-precision teacher, or None where the producer did not know it.
    """

    input_ids: Array
    token_type_ids: Array
    lengths: Array
    labels: Array
    logits: Array
    golden: Mapping[str, Array]
    teacher_logits: Array | None = None

    @property
    def rows(self) -> int:
        """Number of rows R."""
        return len(self.labels)

    def teacher_score(self, metric: Metric, rows: int) -> float | None:
        """Return the teacher's score on the first `rows` rows; None where it is not known."""
        if self.teacher_logits is None:
            return None
        return score(metric, self.labels[:rows], predictions(metric, self.teacher_logits[:rows]))

    def teacher_agreement(self, metric: Metric, logits: Array) -> float | None:
        """Return the fraction of the first rows, those of `logits`, with the teacher's class; None without one."""
        if self.teacher_logits is None:
            return None
        return label_agreement(metric, logits, self.teacher_logits[: len(logits)])

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


def label_dtype(metric: Metric) -> str:
    """Return the dtype of the labels that `metric` scores against: int32 classes or float32 numbers."""
    return "float32" if metric.is_regression else "int32"


def predictions(metric: Metric, logits: Array) -> Array:
    """Return what logits (R, labels) predict, (R,): the class of the largest, or a regression's only logit."""
    return logits[:, 0] if metric.is_regression else np.argmax(logits, axis=-1)


def score(metric: Metric, labels: Array, predicted: Array) -> float:
    """Return the metric of `predicted` against `labels`, both (R,): classes, or numbers for a regression.

    F1 is that of class 1; `pearson_spearman` is the mean of the two correlations, GLUE's score of STS-B
    (Wang et al., 2019). Written on NumPy alone because the devices that score themselves carry no
    scikit-learn; the tests hold it to the values of scikit-learn and SciPy. Where a denominator is 0 the
    score is 0, as scikit-learn has it. A correlation with a constant is that case: SciPy leaves it
    undefined, but a model that predicts the same for every text has found out nothing, and NaN is no JSON.
    """
    if metric is Metric.PEARSON:
        return _correlation(labels, predicted)
    if metric is Metric.SPEARMAN:
        return _correlation(_average_ranks(labels), _average_ranks(predicted))
    if metric is Metric.PEARSON_SPEARMAN:
        return (score(Metric.PEARSON, labels, predicted) + score(Metric.SPEARMAN, labels, predicted)) / 2
    if metric is Metric.ACCURACY:
        return float(np.mean(labels == predicted))
    if metric is Metric.F1:
        hits = float(np.sum((labels == 1) & (predicted == 1)))
        named = float(np.sum(labels == 1) + np.sum(predicted == 1))
        return 2.0 * hits / named if named else 0.0
    return _matthews(labels, predicted)


def _matthews(labels: Array, predicted: Array) -> float:
    classes = int(max(labels.max(), predicted.max())) + 1
    confusion = np.zeros((classes, classes), np.float64)
    np.add.at(confusion, (labels, predicted), 1.0)
    true, found, total = confusion.sum(1), confusion.sum(0), confusion.sum()
    covariance = np.trace(confusion) * total - true @ found
    spread = (total**2 - true @ true) * (total**2 - found @ found)
    return float(covariance / np.sqrt(spread)) if spread else 0.0


def _correlation(x: Array, y: Array) -> float:
    """Return Pearson's correlation of two rows of numbers, in binary64; 0 where one of them is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    a, b = (values - values.mean() for values in (x.astype(np.float64), y.astype(np.float64)))
    cosine = (a / np.linalg.norm(a)) @ (b / np.linalg.norm(b))
    return float(np.clip(cosine, -1.0, 1.0))  # rounding may step over either end


def _average_ranks(values: Array) -> Array:
    """Return ranks from 1, float64; equal values share the mean of the ranks they take up."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[group]


def label_flips(metric: Metric, logits: Array, other_logits: Array) -> int | None:
    """Return the number of rows for which the two predict different classes; None for a regression."""
    if metric.is_regression:
        return None
    return int(np.sum(predictions(metric, logits) != predictions(metric, other_logits)))


def label_agreement(metric: Metric, logits: Array, other_logits: Array) -> float | None:
    """Return the fraction of rows for which both predict the same class; None for a regression, which has none."""
    flips = label_flips(metric, logits, other_logits)
    return None if flips is None else (len(logits) - flips) / len(logits)


def largest_difference(logits: Array, other_logits: Array) -> float:
    """Return the largest absolute difference between two arrays of logits; a regression's are its predictions."""
    return float(np.max(np.abs(logits - other_logits)))


def agreement_line(labels: float | None, logits_max_abs_difference: float) -> str:
    """Return in words how near a stage comes to the torch student, for every stage that prints it.

    `labels` is what `label_agreement` returned; the difference is told where there are no classes to compare.
    """
    if labels is None:
        return f"predictions within {logits_max_abs_difference:.2g} of the torch student's"
    return f"labels as the torch student's on {labels:.2%} of rows"


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
