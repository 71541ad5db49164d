"""Scores against scikit-learn; batches and digests that every stage shares."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from tests.builders import tiny_evaluation, tiny_shape
from ti_qat.artifact import evaluation
from ti_qat.artifact.schema import Metric

SKLEARN = {
    Metric.ACCURACY: metrics.accuracy_score,
    Metric.F1: lambda labels, predictions: metrics.f1_score(labels, predictions, zero_division=0),
    Metric.MATTHEWS: metrics.matthews_corrcoef,
}


@pytest.mark.parametrize("metric", list(Metric))
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
