"""Scores against scikit-learn and SciPy; batches and digests that every stage shares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from tests.builders import tiny_evaluation, tiny_shape
from ti_qat.artifact import evaluation
from ti_qat.artifact.schema import Metric

SKLEARN = {
    Metric.ACCURACY: metrics.accuracy_score,
    Metric.F1: lambda labels, predictions: metrics.f1_score(labels, predictions, zero_division=0),
    Metric.MATTHEWS: metrics.matthews_corrcoef,
}
SCIPY = {
    Metric.PEARSON: lambda labels, found: stats.pearsonr(labels, found).statistic,
    Metric.SPEARMAN: lambda labels, found: stats.spearmanr(labels, found).statistic,
    Metric.PEARSON_SPEARMAN: lambda labels, found: (
        (stats.pearsonr(labels, found).statistic + stats.spearmanr(labels, found).statistic) / 2
    ),
}


@pytest.mark.parametrize("metric", list(SKLEARN))
@pytest.mark.parametrize("ones", [0.0, 0.1, 0.5, 1.0])
def test_scores_equal_scikit_learn(metric: Metric, ones: float) -> None:
    rng = np.random.default_rng(int(ones * 10))
    for predicted_ones in (0.0, 0.4, 1.0):
        labels = (rng.random(101) < ones).astype(np.int32)
        predictions = (rng.random(101) < predicted_ones).astype(np.int64)
        # 1e-12: the same quotient of integers, formed in another order in binary64.
        expected = pytest.approx(SKLEARN[metric](labels, predictions), abs=1e-12)
        assert evaluation.score(metric, labels, predictions) == expected


def test_matthews_serves_more_than_two_classes() -> None:
    rng = np.random.default_rng(5)
    labels, predictions = rng.integers(0, 4, (2, 200))
    expected = pytest.approx(metrics.matthews_corrcoef(labels, predictions), abs=1e-12)
    assert evaluation.score(Metric.MATTHEWS, labels, predictions) == expected


def test_every_metric_is_held_to_a_library() -> None:
    assert {*SKLEARN, *SCIPY} == set(Metric)
    assert {metric for metric in Metric if metric.is_regression} == set(SCIPY)


@pytest.mark.parametrize("metric", list(SCIPY))
@pytest.mark.parametrize("steps", [1, 5, 40, 10**6])
def test_correlations_equal_scipys_with_few_and_many_ties(metric: Metric, steps: int) -> None:
    rng = np.random.default_rng(steps)
    labels = (np.rint(rng.uniform(0, steps, 211)) * 5 / steps).astype(np.float32)
    for noise, offset in ((0.1, 0.0), (3.0, 0.0), (0.5, 1e4)):
        found = (offset - labels + noise * np.rint(rng.normal(size=211) * steps) / steps).astype(np.float32)
        # 1e-12: sums of 211 terms in another order in binary64.
        expected = pytest.approx(SCIPY[metric](labels.astype(np.float64), found.astype(np.float64)), abs=1e-12)
        assert evaluation.score(metric, labels, found) == expected


@pytest.mark.parametrize("metric", list(SCIPY))
def test_a_correlation_with_a_constant_is_0_and_with_itself_1(metric: Metric) -> None:
    labels, constant = np.float32([0.1, 2.7, 2.7, 5]), np.full(4, 0.1, np.float32)
    assert evaluation.score(metric, labels, constant) == 0
    assert evaluation.score(metric, constant, labels) == 0
    assert evaluation.score(metric, labels[:1], labels[:1]) == 0
    # 1e-15: one rounding of a norm in binary64; never above 1.
    assert 1 - 1e-15 <= evaluation.score(metric, labels, labels) <= 1
    assert -1 <= evaluation.score(metric, labels, -labels) <= -1 + 1e-15


def test_logits_predict_a_class_or_are_the_number() -> None:
    logits = np.float32([[0.5, 2], [1, -3]])
    assert evaluation.predictions(Metric.F1, logits).tolist() == [1, 0]
    assert evaluation.predictions(Metric.PEARSON_SPEARMAN, logits[:, :1]).tolist() == [0.5, 1]


def test_agreement_is_of_labels_or_where_there_are_none_of_numbers() -> None:
    ours, theirs = np.float32([[0.5, 2], [1, 3]]), np.float32([[0.5, 2], [1, 0.5]])
    labels, difference = (
        evaluation.label_agreement(Metric.ACCURACY, ours, theirs),
        evaluation.largest_difference(ours, theirs),
    )
    assert (labels, difference) == (0.5, 2.5)
    assert evaluation.agreement_line(labels, difference) == "labels as the torch student's on 50.00% of rows"
    none = evaluation.label_agreement(Metric.PEARSON, ours[:, 1:], theirs[:, 1:])
    assert none is None
    assert evaluation.agreement_line(none, difference) == "predictions within 2.5 of the torch student's"


def test_batches_cover_each_row_once_and_pad_to_their_own_longest() -> None:
    split = tiny_evaluation(tiny_shape(), rows=11)
    seen = []
    for rows, inputs in split.batches(4):
        assert inputs["input_ids"].shape == (len(rows), inputs["lengths"].max())
        assert np.array_equal(inputs["input_ids"], split.input_ids[rows, : inputs["lengths"].max()])
        seen += rows.tolist()
    assert sorted(seen) == list(range(11))
    assert sorted(row for rows, _ in split.batches(4, limit=5) for row in rows) == list(range(5))


def test_digest_sees_one_changed_code_and_no_memory_layout() -> None:
    codes = np.arange(-60, 60, dtype=np.int8).reshape(4, 30)
    changed = codes.copy()
    changed[3, 29] += 1
    assert evaluation.codes_digest(codes) == evaluation.codes_digest(np.asfortranarray(codes))
    assert evaluation.codes_digest(codes) != evaluation.codes_digest(changed)


def test_valid_codes_leave_padding_out() -> None:
    assert evaluation.valid_codes(np.zeros((2, 9, 4), np.int8), 1, 5).shape == (5, 4)
    assert evaluation.valid_codes(np.zeros((2, 3, 9, 9), np.int8), 1, 5).shape == (3, 5, 5)
    assert evaluation.valid_codes(np.zeros((2, 4), np.int8), 1, 5).shape == (4,)
