"""The oracle, held against a naive loop and against functions that we did not write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import special

from tests.builders import tiny_artifact, tiny_quantization
from ti_qat.artifact import numerics, reference
from ti_qat.artifact.encoder import LENGTHS, OpKind, execute
from ti_qat.artifact.schema import ActivationScaling, Granularity

RNG = np.random.default_rng(0)


def test_every_kind_of_operation_has_a_kernel() -> None:
    assert set(reference.KERNELS) == set(OpKind)


def test_ternary_linear_keeps_the_order_of_its_products() -> None:
    codes = RNG.integers(-127, 128, (5, 37)).astype(np.int8)
    weights = RNG.integers(-1, 2, (11, 37)).astype(np.int8)
    scale, weight_scale = np.float32([0.037]), RNG.uniform(0.01, 0.1, 11).astype(np.float32)
    bias = RNG.normal(size=11).astype(np.float32)
    y = reference.ternary_linear(codes, scale, weights, weight_scale, bias)
    for m in range(5):
        for n in range(11):
            accumulator = sum(int(a) * int(b) for a, b in zip(codes[m], weights[n], strict=True))
            product = np.float32(scale[0] * weight_scale[n])
            assert y[m, n] == np.float32(np.float32(accumulator) * product) + bias[n]


def test_accumulator_reaches_its_bound_at_3072_inputs_without_overflow() -> None:
    x = np.full((1, 3072), 127, np.int8)
    assert reference.accumulate(x, -np.ones((1, 3072), np.int8))[0, 0] == -127 * 3072
    assert 127 * 3072 < 2**19  # 20 bits with the sign


def test_softmax_ignores_padding_and_sums_to_one() -> None:
    scores = RNG.normal(0, 4, (2, 3, 7, 7)).astype(np.float32)
    lengths = np.array([7, 4], np.int32)
    probabilities = reference.softmax(scores, lengths)
    assert np.all(probabilities[1, :, :, 4:] == 0)
    # 1e-6: the oracle's exp and one rounding per element against SciPy's binary64.
    np.testing.assert_allclose(
        probabilities[1, :, :, :4], special.softmax(scores[1, :, :, :4].astype(np.float64), axis=-1), atol=1e-6
    )
    longer = np.concatenate([scores, np.full((2, 3, 7, 9), 1e30, np.float32)], axis=-1)
    assert np.array_equal(reference.softmax(longer, lengths)[..., :7], probabilities)


def test_layer_norm_matches_its_definition_in_binary64() -> None:
    x = RNG.normal(3, 2, (4, 384)).astype(np.float32)
    gamma, beta = RNG.normal(size=(2, 384)).astype(np.float32)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-12) * gamma + beta
    # 1e-5: a few roundings of binary32 on values of order one.
    np.testing.assert_allclose(reference.layer_norm(x, gamma, beta, np.float32([1e-12])), expected, atol=1e-5)


def test_dynamic_scale_is_one_a_token() -> None:
    x = np.float32([[1.0, -2.0], [0.0, 0.0]])
    codes, scale = reference.quantize_per_token(x)
    # 64, a tie of 63.5, to even; the token of zeros has codes of zero.
    assert codes.tolist() == [[64, -127], [0, 0]]
    assert np.array_equal(scale[:, 0], [np.float32(2) / np.float32(127), np.float32(1)])


def test_embedding_adds_word_then_type_then_position() -> None:
    big, small = np.float32(2**24), np.float32(1)
    result = reference.embedding(
        np.zeros((1, 1), np.int32),
        np.zeros((1, 1), np.int32),
        np.ones((1, 1), np.int8),
        np.full(1, big, np.float32),
        np.full((1, 1), -big, np.float32),
        np.full((1, 1), small, np.float32),
    )
    assert result[0, 0, 0] == 0  # 2**24 + 1 rounds to 2**24, then the position takes it away


@pytest.mark.parametrize("activations", list(ActivationScaling))
@pytest.mark.parametrize("granularity", list(Granularity))
def test_logits_depend_neither_on_padding_nor_on_the_rest_of_the_batch(
    tmp_path: Path, activations: ActivationScaling, granularity: Granularity
) -> None:
    scheme = tiny_quantization(activations=activations, linear_weights=granularity, word_embedding=granularity)
    artifact = tiny_artifact(tmp_path / "artifact", quantization=scheme)
    whole = next(artifact.evaluation.batches(artifact.evaluation.rows))
    together = execute(artifact.encoder, reference.KERNELS, artifact.parameters, whole[1])
    for rows, inputs in artifact.evaluation.batches(1):
        alone = execute(artifact.encoder, reference.KERNELS, artifact.parameters, inputs)
        assert inputs["input_ids"].shape[1] == inputs[LENGTHS][0]
        assert np.array_equal(alone[0], together[list(whole[0]).index(rows[0])])


def test_observer_sees_integral_codes_within_bounds(tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "artifact")
    seen = []

    def observe(op, operands, results) -> None:
        seen.append(op.name)
        if op.kind is OpKind.QUANTIZE:
            assert results[0].dtype == np.int8
            assert results[0].min() >= -127
            assert np.array_equal(
                results[0], numerics.quantize(operands["x"], numerics.inverse_scale(operands["scale"][0]))
            )

    _, inputs = next(artifact.evaluation.batches(3))
    execute(artifact.encoder, reference.KERNELS, artifact.parameters, inputs, observe)
    assert seen == [op.name for op in artifact.encoder.operations]
