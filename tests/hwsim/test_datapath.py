"""The simulator's kernels against the NumPy oracle: every operation, every bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwsim.datapath.exact import Datapath
from hwsim.units.accumulator import AccumulatorRange
from tests.builders import tiny_artifact, tiny_quantization
from ti_qat.artifact import reference
from ti_qat.artifact.encoder import OpKind, execute
from ti_qat.artifact.schema import ActivationScaling, Granularity

WIDE = AccumulatorRange.of_bits(24, wraps=False)


def every_activation(artifact, kernels, inputs) -> dict[str, np.ndarray]:
    seen = {}
    execute(
        artifact.encoder,
        kernels,
        artifact.parameters,
        inputs,
        lambda op, _, results: seen.update(zip(op.outputs, results, strict=True)),
    )
    return seen


def assert_same_bits(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert (actual[name].dtype, actual[name].shape) == (value.dtype, value.shape), name
        assert actual[name].tobytes() == value.tobytes(), name


def test_there_is_a_kernel_for_every_kind_of_operation() -> None:
    assert set(Datapath(WIDE).kernels) == set(OpKind)


@pytest.mark.parametrize("scaling", list(ActivationScaling))
@pytest.mark.parametrize("granularity", list(Granularity))
def test_every_activation_has_the_bits_of_the_oracle(
    tmp_path: Path, scaling: ActivationScaling, granularity: Granularity
) -> None:
    scheme = tiny_quantization(activations=scaling, linear_weights=granularity, word_embedding=granularity)
    artifact = tiny_artifact(tmp_path / "a", quantization=scheme)
    for _, inputs in artifact.evaluation.batches(3):  # padded, so masking is compared too
        expected = every_activation(artifact, reference.KERNELS, inputs)
        assert_same_bits(every_activation(artifact, Datapath(WIDE).kernels, inputs), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden": 1, "heads": 1, "feed_forward": 1, "layers": 1},
        {"hidden": 33, "heads": 11, "feed_forward": 65, "layers": 1, "labels": 3},
        {"hidden": 64, "heads": 2, "feed_forward": 128, "layers": 1},
    ],
)
def test_sizes_beside_and_on_powers_of_two(tmp_path: Path, changes: dict[str, int]) -> None:
    artifact = tiny_artifact(tmp_path / "a", **changes)
    _, inputs = next(artifact.evaluation.batches(7))
    expected = every_activation(artifact, reference.KERNELS, inputs)
    assert_same_bits(every_activation(artifact, Datapath(WIDE).kernels, inputs), expected)


def test_a_token_of_zeros_and_codes_at_ties() -> None:
    x = np.array([[0.0, -0.0, 0.0], [0.5, 1.5, -2.5], [-127.0, 127.0, 63.5], [126.5, -126.5, 300.0]], np.float32)
    kernels = Datapath(WIDE).kernels
    codes, scale = kernels[OpKind.QUANTIZE_PER_TOKEN](x=x)
    expected_codes, expected_scale = reference.quantize_per_token(x)
    assert np.array_equal(codes, expected_codes)
    assert scale.tobytes() == expected_scale.tobytes()
    unit = np.array([1.0], np.float32)
    ties = kernels[OpKind.QUANTIZE](x=x, scale=unit)
    assert ties.tolist() == [[0, 0, 0], [0, 2, -2], [-127, 127, 64], [126, -126, 127]]


def test_a_single_valid_key_takes_all_attention() -> None:
    scores = np.full((1, 1, 1, 5), -3.0, np.float32)
    out = Datapath(WIDE).kernels[OpKind.SOFTMAX](x=scores, lengths=np.array([1], np.int32))
    assert out.tolist() == [[[[1, 0, 0, 0, 0]]]]
