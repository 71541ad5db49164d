"""Codes, scales and gradients of weights, against naive loops and the papers' scalar formulas."""

import math

import numpy as np
import pytest
import torch

from ti_qat.artifact.schema import Granularity
from ti_qat.config import QuantizerSettings, WeightQuantizer
from ti_qat.quantization.quantizers import Quantized
from ti_qat.quantization.weight_quantizers import layer_weights

WIDE = [quantizer for quantizer in WeightQuantizer if not quantizer.only_ternary]


def quantized(weight: torch.Tensor, granularity: Granularity = Granularity.PER_ROW, **settings) -> Quantized:
    return layer_weights(QuantizerSettings(**settings), granularity, weight)(weight)


def naive_twn(row):
    threshold = np.float32(0.7) * np.float32(np.mean(np.abs(row), dtype=np.float64))
    survivors = [abs(w) for w in row if abs(w) > threshold]
    scale = np.mean(survivors, dtype=np.float64) if survivors else 0.0
    return [np.sign(w) if abs(w) > threshold else 0 for w in row], scale


def naive_uniform(row, scale, code_max):
    # Python rounds ties to even.
    return [max(-code_max, min(code_max, round(float(w) / scale))) if scale else 0 for w in row], scale


def naive_mean_abs(row):
    return naive_uniform(row, sum(abs(float(w)) for w in row) / len(row), 1)


def assert_equals_a_loop(found, weight, granularity, formula):
    rows = weight if granularity is Granularity.PER_ROW else weight.reshape(1, -1)
    codes, scales = zip(*(formula(row) for row in rows), strict=True)
    np.testing.assert_array_equal(found.codes.numpy(), np.array(codes).reshape(weight.shape))
    # The loops sum in float64.
    np.testing.assert_allclose(found.scale.numpy(), np.array(scales, np.float32), rtol=1e-6)


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize(
    ("quantizer", "formula"), [(WeightQuantizer.TWN, naive_twn), (WeightQuantizer.MEAN_ABS, naive_mean_abs)]
)
def test_ternary_weights_equal_a_naive_loop(granularity, quantizer, formula):
    weight = np.random.default_rng(0).integers(-40, 41, (7, 16)).astype(np.float32) / 8
    weight[3] = 0
    found = quantized(torch.from_numpy(weight), granularity, weight_quantizer=quantizer)
    assert_equals_a_loop(found, weight, granularity, formula)


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize(("bits", "code_max"), [(2, 1), (3, 3), (4, 7), (8, 127)])
def test_min_max_weights_equal_a_naive_loop(granularity, bits, code_max):
    # Largest magnitudes of code_max steps of 1/8, so that half a step is a tie at every width.
    weight = np.random.default_rng(0).integers(-2 * code_max, 2 * code_max + 1, (7, 16)).astype(np.float32) / 16
    weight[:, 5] = -code_max / 8
    weight[3] = 0
    found = quantized(torch.from_numpy(weight), granularity, weight_quantizer="min_max", weight_bits=bits)
    assert_equals_a_loop(
        found, weight, granularity, lambda row: naive_uniform(row, float(np.abs(row).max()) / code_max, code_max)
    )
    assert found.codes.abs().max() == code_max


def test_a_weight_at_the_threshold_does_not_survive():
    threshold = np.float32(0.7)
    # Mean magnitude exactly 1, so the threshold is float32(0.7).
    weight = torch.tensor([[threshold, -threshold, 1.0, 4 - 2 * threshold - 1.0]])
    assert weight.abs().mean() == 1
    assert quantized(weight).codes.tolist() == [[0, 0, 1, 1]]
    above = weight.clone()
    above[0, 1] = -float(np.nextafter(threshold, np.float32(1)))
    assert quantized(above).codes[0, 1] == -1


def test_mean_abs_sends_half_the_mean_to_zero_and_anything_above_to_one():
    # Mean magnitude exactly 1, so 0.5 is a tie; 1.5, another one, is clipped as 2.5 and -3 are.
    tie, above = np.float32(0.5), np.nextafter(np.float32(0.5), np.float32(1))
    weight = torch.tensor([[tie, -tie, 1.5, 1.5], [0.5, 0.0, 0.5, -3.0], [-above, 0.5, 2.5, 0.5 - (above - tie)]])
    assert weight.abs().mean(dim=-1).tolist() == [1, 1, 1]
    found = quantized(weight, weight_quantizer="mean_abs")
    assert found.codes.tolist() == [[0, 0, 1, 1], [0, 0, 0, -1], [-1, 0, 1, 0]]
    assert found.scale.tolist() == [1, 1, 1]


@pytest.mark.parametrize("quantizer", list(WeightQuantizer))
def test_every_weight_quantizer_gives_ternary_codes_and_a_scale_a_group(quantizer):
    weight = torch.randn(5, 9, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for granularity, scales in ((Granularity.PER_ROW, 5), (Granularity.PER_TENSOR, 1)):
        found = quantized(weight, granularity, weight_quantizer=quantizer)
        assert set(found.codes.unique().tolist()) == {-1, 0, 1}
        assert found.codes.shape == weight.shape
        assert found.scale.shape == (scales,)
        assert not found.codes.requires_grad
        assert not found.scale.requires_grad


@pytest.mark.parametrize("quantizer", list(WeightQuantizer))
def test_a_row_of_zeros_has_codes_zero_and_a_finite_scale(quantizer):
    found = quantized(torch.zeros(2, 5), weight_quantizer=quantizer)
    assert found.codes.abs().sum() == 0
    assert found.scale.tolist() == ([1, 1] if quantizer is WeightQuantizer.LEARNED else [0, 0])


@pytest.mark.parametrize("quantizer", list(WeightQuantizer))
def test_a_row_of_one_element_is_that_element(quantizer):
    weight = torch.tensor([[0.3], [-2.0]])
    found = quantized(weight, weight_quantizer=quantizer)
    assert found.codes.tolist() == [[1], [-1]]
    # The learned scale goes through a logarithm.
    torch.testing.assert_close(found.codes * found.scale[:, None], weight, rtol=1e-6, atol=0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("quantizer", list(WeightQuantizer))
def test_a_weight_that_is_not_finite_shows_in_the_scale(quantizer, bad):
    weight = torch.ones(2, 3)
    weight[1, 0] = bad
    scale = quantized(weight, weight_quantizer=quantizer).scale
    assert scale[0] == 1
    assert not torch.isfinite(scale[1])


@pytest.mark.parametrize(("granularity", "shared"), [(Granularity.PER_ROW, 12), (Granularity.PER_TENSOR, 60)])
@pytest.mark.parametrize(("bits", "code_max"), [(2, 1), (3, 3), (4, 7), (8, 127)])
def test_the_learned_step_has_the_scalar_gradients_of_its_paper(granularity, shared, bits, code_max):
    generator = torch.Generator().manual_seed(bits)
    weight = (torch.randn(5, 12, generator=generator) * code_max).requires_grad_()
    with torch.no_grad():
        weight[0, 0], weight[0, 1] = code_max, -code_max  # exactly at the edge: saturated, in the paper's table
        weight[1] = 0
    quantizer = layer_weights(QuantizerSettings(weight_quantizer="learned", weight_bits=bits), granularity, weight)
    quantizer.log2_scale.data.zero_()
    upstream = torch.randn(5, 12, generator=generator)
    quantizer.straight_through(weight).backward(upstream)
    of_weight, of_scale = np.zeros((5, 12)), np.zeros(5)
    for (row, column), value in np.ndenumerate(weight.detach().numpy().astype(np.float64)):
        g = float(upstream[row, column])
        saturated = abs(value) >= code_max
        of_weight[row, column] = 0 if saturated else g
        of_scale[row] += g * (math.copysign(code_max, value) if saturated else round(value) - value)
    # Scale 1: the logarithm's derivative is ln 2.
    of_scale *= math.log(2) / math.sqrt(shared * code_max)
    np.testing.assert_array_equal(weight.grad.numpy(), of_weight.astype(np.float32))
    expected = of_scale if granularity is Granularity.PER_ROW else of_scale.sum(keepdims=True)
    np.testing.assert_allclose(quantizer.log2_scale.grad.numpy(), expected, rtol=1e-4, atol=1e-5 * code_max)


def test_learned_steps_start_at_twn_and_wider_ones_as_their_paper_does():
    weight = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    twn = quantized(weight).scale
    torch.testing.assert_close(quantized(weight, weight_quantizer="learned").scale, twn, rtol=1e-6, atol=0)
    for bits, code_max in ((3, 3), (4, 7), (8, 127)):
        expected = 2 * weight.abs().mean(dim=-1) / math.sqrt(code_max)
        found = quantized(weight, weight_quantizer="learned", weight_bits=bits)
        torch.testing.assert_close(found.scale, expected, rtol=1e-6, atol=0)
        assert found.codes.abs().max() <= code_max


@pytest.mark.parametrize("quantizer", list(WeightQuantizer))
def test_clipped_weights_are_quantised_and_have_no_gradient_from_the_clip_on(quantizer):
    weight = torch.tensor([[0.5, -2.5, 7.0, 0.1], [2.4, -0.3, -9.0, 2.5]], requires_grad=True)
    module = layer_weights(
        QuantizerSettings(weight_quantizer=quantizer, weight_clip=2.5), Granularity.PER_TENSOR, weight
    )
    found, expected = module(weight), quantized(weight.clamp(-2.5, 2.5), module.granularity, weight_quantizer=quantizer)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.scale, expected.scale)
    module.straight_through(weight).sum().backward()
    clipped = torch.tensor([[False, True, True, False], [False, False, True, True]])
    assert not weight.grad[clipped].any()
    if quantizer is not WeightQuantizer.LEARNED:  # which has no gradient where it saturates either
        assert torch.equal(weight.grad, (~clipped).float())
    assert weight.grad[0, 0] == 1


def test_without_a_clip_the_gradient_is_the_weights_own():
    weight = torch.tensor([[3.0, 0.1]])
    assert layer_weights(QuantizerSettings(), Granularity.PER_ROW, weight).straight_through(weight) is weight


@pytest.mark.parametrize("quantizer", WIDE)
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_wider_codes_come_closer(quantizer, bits):
    weight = torch.randn(6, 200, generator=torch.Generator().manual_seed(0))

    def error(width):
        found = quantized(weight, weight_quantizer=quantizer, weight_bits=width)
        return (found.codes * found.scale[:, None] - weight).square().mean()

    assert error(bits) < error({3: 2, 4: 3, 8: 4}[bits])
