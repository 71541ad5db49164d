"""Scales of activations: calibrated, moving, and computed from the values that pass."""

import math

import numpy as np
import pytest
import torch

from ti_qat.artifact import numerics
from ti_qat.config import ActivationRange, QuantizerSettings
from ti_qat.errors import TrainingError
from ti_qat.quantization.activation_quantizers import (
    ACTIVATION_RANGES,
    LearnedQuantizer,
    PerTensorQuantizer,
    PerTokenQuantizer,
    ProbabilityQuantizer,
    calibrate_scale,
    input_quantizer,
    operand_quantizer,
    percentile_of_magnitudes,
    probability_quantizer,
)
from ti_qat.quantization.quantizers import Mode

WIDTHS = [(2, 1), (3, 3), (4, 7), (8, 127)]


def batches(count=5, rows=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, 37, generator=generator) * (1 + i) for i in range(count)]


def calibrated(source, bits=8, seen=None):
    quantizer = ACTIVATION_RANGES[source](bits).eval()
    quantizer.mode = Mode.OBSERVE
    for batch in seen or batches():
        observed = quantizer(batch)
        assert observed.codes is batch and observed.scale == 1
    quantizer.calibrate()
    quantizer.mode = Mode.QUANTIZE
    return quantizer


def test_token_scales_equal_the_contract_and_a_token_of_zeros_gets_one():
    x = torch.randn(3, 5, 17, generator=torch.Generator().manual_seed(0))
    x[1, 2] = 0
    expected = numerics.token_scale(np.abs(x.numpy()).max(-1, keepdims=True))
    np.testing.assert_array_equal(PerTokenQuantizer()(x).scale.numpy(), expected)
    assert expected[1, 2, 0] == 1


@pytest.mark.parametrize("quantizer", [PerTokenQuantizer(), PerTensorQuantizer(), PerTokenQuantizer(2)])
def test_the_value_that_makes_a_dynamic_scale_gets_its_largest_code_and_its_gradient(quantizer):
    # max|x| * (1 / (max|x| / 127)) lies beyond 127 in float32 for every fifth of these.
    x = torch.linspace(0.1, 7, 500).reshape(500, 1, 1).requires_grad_()
    found = torch.cat([quantizer(row).codes for row in x])
    assert (found == quantizer.code_max).all()
    found.sum().backward()
    assert (x.grad > 0).all()


def test_the_probability_scale_is_the_contracts():
    assert ProbabilityQuantizer()(torch.zeros(1)).scale.numpy()[0] == numerics.PROBABILITY_SCALE


@pytest.mark.parametrize(("bits", "code_max"), WIDTHS)
def test_probabilities_of_every_width_reach_from_zero_to_one(bits, code_max):
    found = ProbabilityQuantizer(bits)(torch.tensor([0.0, 0.5 / code_max, 1.5 / code_max, 1.0]))
    assert found.scale.item() == pytest.approx(1 / code_max)
    assert (found.codes[0], found.codes[-1]) == (0, code_max)


@pytest.mark.parametrize("quantizer", [PerTokenQuantizer(), PerTensorQuantizer(), ProbabilityQuantizer()])
def test_nan_stays_visible(quantizer):
    found = quantizer(torch.tensor([[torch.nan, 1.0]]))
    assert torch.isnan(found.value).any()


@pytest.mark.parametrize(("bits", "code_max"), WIDTHS)
@pytest.mark.parametrize("clip", [None, 2.5])
def test_one_dynamic_scale_a_tensor_equals_a_naive_loop(bits, code_max, clip):
    x = (torch.randn(3, 4, 11, generator=torch.Generator().manual_seed(1)) * 2).requires_grad_()
    found = PerTensorQuantizer(bits, clip)(x)
    values = [float(v) for v in x.detach().flatten()]
    clipped = [v if clip is None else max(-clip, min(clip, v)) for v in values]
    scale = max(abs(v) for v in clipped) / code_max
    assert found.scale.item() == pytest.approx(scale, rel=1e-6)
    assert found.codes.flatten().tolist() == [round(v / scale) for v in clipped]
    found.value.sum().backward()
    passes = [0.0 if clip is not None and (v >= clip or v <= -clip) else 1.0 for v in values]
    # scale * (1 / scale) is 1 within a unit in the last place.
    np.testing.assert_allclose(x.grad.flatten().numpy(), passes, rtol=1e-6)


def test_a_tensor_of_zeros_gets_scale_one():
    assert PerTensorQuantizer()(torch.zeros(2, 3)).scale.tolist() == [1]


def test_under_one_scale_a_tensor_queries_and_probabilities_have_it_too():
    settings = QuantizerSettings(activations="dynamic_per_tensor", activation_clip=2.5, activation_bits=4)
    for factory in (input_quantizer, operand_quantizer, probability_quantizer):
        quantizer = factory(settings)
        assert isinstance(quantizer, PerTensorQuantizer)
        assert (quantizer.code_max, quantizer.clip) == (7, 2.5)
    # Probabilities are far below 1 in a long row, and their scale follows.
    assert probability_quantizer(settings)(torch.tensor([0.07, 0.01])).codes.tolist() == [7, 1]


@pytest.mark.parametrize(("bits", "code_max"), WIDTHS)
def test_min_max_is_the_largest_magnitude_of_calibration(bits, code_max):
    seen = batches()
    found = calibrated(ActivationRange.MIN_MAX, bits, seen)
    assert found.scale.item() == pytest.approx(max(float(b.abs().max()) for b in seen) / code_max, rel=1e-6)
    assert not list(found.parameters())
    assert torch.cat([found(b).codes for b in seen]).abs().max() == code_max


@pytest.mark.parametrize("count", [1, 2, 7, 9999, 10001, 20001, 123456])
def test_the_percentile_is_numpys(count):
    x = torch.randn(count, generator=torch.Generator().manual_seed(count))
    expected = np.percentile(np.abs(x.numpy().astype(np.float64)), 99.99)
    assert percentile_of_magnitudes(x.reshape(1, -1)).item() == pytest.approx(expected, rel=1e-6)


def test_percentile_ranges_are_the_mean_over_batches_and_leave_outliers_out():
    seen = batches(3, rows=1000)
    for batch in seen:
        batch[5, 5] = 1000
    found = calibrated(ActivationRange.PERCENTILE, 8, seen)
    expected = np.mean([np.percentile(np.abs(b.numpy()), 99.99) for b in seen]) / 127
    assert found.scale.item() == pytest.approx(expected, rel=1e-6)
    assert found.scale < 20 / 127


@pytest.mark.parametrize(("bits", "code_max"), WIDTHS)
def test_a_moving_range_equals_a_loop_and_stands_still_outside_training(bits, code_max):
    seen, trained = batches(3), batches(6, seed=1)
    quantizer = calibrated(ActivationRange.EMA, bits, seen)
    average = float(seen[0].abs().max())
    for batch in seen[1:]:
        average = 0.99 * average + 0.01 * float(batch.abs().max())
    assert quantizer.scale.item() == pytest.approx(average / code_max, rel=1e-6)
    for batch in trained:
        average = 0.99 * average + 0.01 * float(batch.abs().max())
        in_training = quantizer.train()(batch)
        assert torch.equal(quantizer(batch).scale, in_training.scale)  # as key and value do after query
        assert in_training.scale.item() == pytest.approx(average / code_max, rel=1e-6)
        evaluated = quantizer.eval()(batch)
        assert torch.equal(evaluated.codes, in_training.codes)
        assert torch.equal(evaluated.scale, in_training.scale)


def test_a_range_that_is_asked_for_by_query_key_and_value_is_calibrated_once_a_batch():
    seen = batches(4)
    thrice = [batch for batch in seen for _ in range(3)]
    assert calibrated(ActivationRange.EMA, 8, thrice).scale == calibrated(ActivationRange.EMA, 8, seen).scale


def test_two_passes_may_be_differentiated_after_the_second_has_moved_the_range():
    quantizer = calibrated(ActivationRange.EMA).train()
    x = torch.randn(4, 37, requires_grad=True)
    (quantizer(x).value + quantizer(2 * x).value).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("source", list(ActivationRange))
def test_a_range_is_saved_and_loaded(source):
    quantizer = calibrated(source)
    if source is ActivationRange.EMA:
        quantizer.train()(batches()[0])
    again = ACTIVATION_RANGES[source](8)
    again.load_state_dict(quantizer.state_dict())
    following = batches(1, seed=2)[0]
    assert torch.equal(again.train()(following).scale, quantizer.train()(following).scale)
    assert torch.equal(again.scale, quantizer.scale)


def test_calibration_clips_outliers_but_keeps_a_uniform_range():
    uniform = torch.linspace(-1, 1, 2001)
    assert calibrate_scale(uniform, 127).item() == pytest.approx(1 / 127, rel=0.03)
    with_outlier = torch.cat([torch.randn(20000, generator=torch.Generator().manual_seed(0)), torch.tensor([30.0])])
    assert calibrate_scale(with_outlier, 127).item() < 30 / 127


@pytest.mark.parametrize(("bits", "code_max"), WIDTHS)
def test_a_learned_range_starts_at_the_least_squared_error_of_its_width(bits, code_max):
    seen = batches(1)
    found = calibrated(ActivationRange.LEARNED, bits, seen)
    values = np.append(seen[0].numpy(), seen[0].abs().max()).astype(np.float64)  # the largest counts twice
    errors = {}
    for step in range(5, 51):
        scale = np.abs(values).max() * step / 50 / code_max
        errors[scale] = np.mean((np.clip(np.rint(values / scale), -code_max, code_max) * scale - values) ** 2)
    assert found.scale.item() == pytest.approx(min(errors, key=errors.get), rel=1e-5)
    assert [name for name, _ in found.named_parameters()] == ["log2_scale"]


@pytest.mark.parametrize("source", list(ActivationRange))
def test_calibration_on_zeros_gives_scale_one(source):
    assert calibrated(source, seen=[torch.zeros(4)]).scale.tolist() == [1]


@pytest.mark.parametrize("source", list(ActivationRange))
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_calibration_refuses_values_that_are_not_finite(source, bad):
    with pytest.raises(TrainingError, match="not finite"):
        calibrated(source, seen=[torch.ones(3), torch.ones(20001).index_fill(0, torch.tensor(7), bad)])


@pytest.mark.parametrize("source", list(ActivationRange))
def test_an_uncalibrated_quantizer_gives_nan(source):
    quantizer = ACTIVATION_RANGES[source](8)
    assert torch.isnan(quantizer(torch.ones(3)).codes).all()
    with pytest.raises(TrainingError, match="found none"):
        quantizer.calibrate()


def test_the_learned_range_gets_the_gradient_of_its_logarithm():
    quantizer = LearnedQuantizer()
    quantizer.log2_scale.data.fill_(-1)
    quantizer(torch.tensor([0.3, -1.2, 130.0])).value.sum().backward()
    of_scale = (round(0.6) - 0.6) + (round(-2.4) + 2.4) + 127
    assert quantizer.log2_scale.grad.item() == pytest.approx(of_scale * 0.5 * math.log(2), rel=1e-5)
