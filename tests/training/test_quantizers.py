import numpy as np
import pytest
import torch

from ti_qat.artifact import numerics
from ti_qat.artifact.schema import Granularity
from ti_qat.config import WeightQuantizer
from ti_qat.quantizers import (
    PerTokenQuantizer,
    ProbabilityQuantizer,
    StaticQuantizer,
    calibrate_scale,
    quantize,
    ternarize,
)


def naive_twn(weight, per_row):
    rows = weight if per_row else weight.reshape(1, -1)
    codes, scales = np.zeros_like(rows), []
    for r, row in enumerate(rows):
        threshold = np.float32(0.7) * np.float32(np.mean(np.abs(row), dtype=np.float64))
        survivors = [abs(w) for w in row if abs(w) > threshold]
        scales.append(np.mean(survivors, dtype=np.float64) if survivors else 0.0)
        codes[r] = [np.sign(w) if abs(w) > threshold else 0 for w in row]
    return codes.reshape(weight.shape), np.array(scales, np.float32)


@pytest.mark.parametrize("granularity", list(Granularity))
def test_ternarize_equals_a_naive_loop(granularity):
    weight = np.random.default_rng(0).integers(-40, 41, (7, 13)).astype(np.float32) / 8
    found = ternarize(torch.from_numpy(weight), granularity)
    codes, scales = naive_twn(weight, granularity is Granularity.PER_ROW)
    np.testing.assert_array_equal(found.codes.numpy(), codes)
    np.testing.assert_allclose(found.scale.numpy(), scales, rtol=1e-6)


def test_a_weight_at_the_threshold_does_not_survive():
    threshold = np.float32(0.7)
    # Mean magnitude exactly 1, so the threshold is float32(0.7).
    weight = torch.tensor([[threshold, -threshold, 1.0, 4 - 2 * threshold - 1.0]])
    assert weight.abs().mean() == 1
    assert ternarize(weight, Granularity.PER_ROW).codes.tolist() == [[0, 0, 1, 1]]
    above = weight.clone()
    above[0, 1] = -float(np.nextafter(threshold, np.float32(1)))
    assert ternarize(above, Granularity.PER_ROW).codes[0, 1] == -1


def naive_mean_abs(weight, per_row):
    rows = weight if per_row else weight.reshape(1, -1)
    codes, scales = np.zeros_like(rows), []
    for r, row in enumerate(rows):
        scale = sum(abs(float(w)) for w in row) / len(row)
        scales.append(scale)
        if scale > 0:
            codes[r] = [max(-1, min(1, round(float(w) / scale))) for w in row]  # ties to even
    return codes.reshape(weight.shape), np.array(scales, np.float32)


@pytest.mark.parametrize("granularity", list(Granularity))
def test_mean_abs_equals_a_naive_loop(granularity):
    weight = np.random.default_rng(0).integers(-40, 41, (7, 16)).astype(np.float32) / 8
    weight[3] = 0
    found = ternarize(torch.from_numpy(weight), granularity, WeightQuantizer.MEAN_ABS)
    codes, scales = naive_mean_abs(weight, granularity is Granularity.PER_ROW)
    np.testing.assert_array_equal(found.codes.numpy(), codes)
    np.testing.assert_allclose(found.scale.numpy(), scales, rtol=1e-6)


def test_mean_abs_sends_half_the_mean_to_zero_and_anything_above_to_one():
    # Mean magnitude exactly 1, so 0.5 is a tie; 1.5, another one, is clipped as 2.5 and -3 are.
    tie, above = np.float32(0.5), np.nextafter(np.float32(0.5), np.float32(1))
    weight = torch.tensor([[tie, -tie, 1.5, 1.5], [0.5, 0.0, 0.5, -3.0], [-above, 0.5, 2.5, 0.5 - (above - tie)]])
    assert weight.abs().mean(dim=-1).tolist() == [1, 1, 1]
    found = ternarize(weight, Granularity.PER_ROW, WeightQuantizer.MEAN_ABS)
    assert found.codes.tolist() == [[0, 0, 1, 1], [0, 0, 0, -1], [-1, 0, 1, 0]]
    assert found.scale.tolist() == [1, 1, 1]


@pytest.mark.parametrize("quantizer", list(WeightQuantizer))
def test_every_weight_quantizer_keeps_the_contract(quantizer):
    weight = torch.randn(5, 9, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for granularity, scales in ((Granularity.PER_ROW, 5), (Granularity.PER_TENSOR, 1)):
        found = ternarize(weight, granularity, quantizer)
        assert set(found.codes.unique().tolist()) == {-1, 0, 1}
        assert found.codes.shape == weight.shape
        assert found.scale.shape == (scales,)
        assert not found.codes.requires_grad
        assert not found.scale.requires_grad
    zeros = ternarize(torch.zeros(2, 5), Granularity.PER_ROW, quantizer)
    assert zeros.codes.abs().sum() == zeros.scale.sum() == 0
    for bad in (torch.nan, torch.inf):
        broken = torch.ones(2, 3)
        broken[1, 0] = bad
        scale = ternarize(broken, Granularity.PER_ROW, quantizer).scale
        assert scale[0] == 1
        assert not torch.isfinite(scale[1])


def test_a_row_without_survivors_has_scale_zero():
    found = ternarize(torch.zeros(2, 5), Granularity.PER_ROW)
    assert found.codes.abs().sum() == 0
    assert found.scale.tolist() == [0, 0]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_weight_that_is_not_finite_shows_in_the_scale(bad):
    weight = torch.ones(2, 3)
    weight[1, 0] = bad
    scale = ternarize(weight, Granularity.PER_ROW).scale
    assert scale[0] == 1
    assert not torch.isfinite(scale[1])


@pytest.mark.parametrize("scale", [0.25, 0.1, 1 / 3, 1 / 127])
def test_codes_equal_the_contract_on_grids_with_ties(scale):
    scale = np.float32(scale)
    x = (np.arange(-600, 601) * np.float64(scale) / 4).astype(np.float32)
    expected = numerics.quantize(x, numerics.inverse_scale(scale))
    found = quantize(torch.from_numpy(x), torch.tensor([scale])).codes.numpy()
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found).max() == 127


def test_token_scales_equal_the_contract_and_a_token_of_zeros_gets_one():
    x = torch.randn(3, 5, 17, generator=torch.Generator().manual_seed(0))
    x[1, 2] = 0
    expected = numerics.token_scale(np.abs(x.numpy()).max(-1, keepdims=True))
    np.testing.assert_array_equal(PerTokenQuantizer()(x).scale.numpy(), expected)
    assert expected[1, 2, 0] == 1


def test_the_probability_scale_is_the_contracts():
    assert ProbabilityQuantizer()(torch.zeros(1)).scale.numpy()[0] == numerics.PROBABILITY_SCALE


@pytest.mark.parametrize("quantizer", [PerTokenQuantizer(), ProbabilityQuantizer()])
def test_nan_stays_visible(quantizer):
    found = quantizer(torch.tensor([[torch.nan, 1.0]]))
    assert torch.isnan(found.codes * found.scale).any()


def test_rounding_passes_the_gradient_and_saturation_stops_it():
    x = torch.tensor([0.3, -1.2, 130.0, -500.0], requires_grad=True)
    found = quantize(x, torch.tensor([1.0]))
    (found.codes * found.scale).sum().backward()
    assert x.grad.tolist() == [1, 1, 0, 0]


def test_the_scale_gradient_is_that_of_learned_step_size():
    x = torch.tensor([0.3, -1.2, 130.0, -500.0])
    scale = torch.tensor([0.5], requires_grad=True)
    found = quantize(x, scale)
    (found.codes * found.scale).sum().backward()
    inside = [np.rint(v / 0.5) - v / 0.5 for v in (0.3, -1.2)]
    assert scale.grad.item() == pytest.approx(sum(inside) + 127 - 127, abs=1e-5)


def test_calibration_clips_outliers_but_keeps_a_uniform_range():
    uniform = torch.linspace(-1, 1, 2001)
    assert calibrate_scale(uniform).item() == pytest.approx(1 / 127, rel=0.03)
    with_outlier = torch.cat([torch.randn(20000, generator=torch.Generator().manual_seed(0)), torch.tensor([30.0])])
    assert calibrate_scale(with_outlier).item() < 30 / 127
    assert calibrate_scale(torch.zeros(4)).item() == 1


def test_calibration_refuses_values_that_are_not_finite():
    with pytest.raises(ValueError, match="not finite"):
        calibrate_scale(torch.tensor([1.0, torch.inf]))


def test_an_uncalibrated_quantizer_gives_nan():
    assert torch.isnan(StaticQuantizer()(torch.ones(3)).codes).all()
    with pytest.raises(ValueError, match="no values"):
        StaticQuantizer().calibrate()
