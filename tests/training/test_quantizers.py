"""Rounding to codes, and where its gradient goes."""

import numpy as np
import pytest
import torch

from ti_qat.artifact import numerics
from ti_qat.quantization.quantizers import clip_straight_through, code_max_of, quantize


@pytest.mark.parametrize("scale", [0.25, 0.1, 1 / 3, 1 / 127])
def test_codes_equal_the_contract_on_grids_with_ties(scale):
    scale = np.float32(scale)
    x = (np.arange(-600, 601) * np.float64(scale) / 4).astype(np.float32)
    expected = numerics.quantize(x, numerics.inverse_scale(scale))
    found = quantize(torch.from_numpy(x), torch.tensor([scale]), 127.0).codes.numpy()
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found).max() == 127


@pytest.mark.parametrize(("bits", "code_max"), [(2, 1), (3, 3), (4, 7), (8, 127)])
def test_every_width_rounds_ties_to_even_and_saturates_symmetrically(bits, code_max):
    assert code_max_of(bits) == code_max
    x = torch.arange(-4 * code_max - 6, 4 * code_max + 7) / 4  # quarters of a step: every tie, and beyond the range
    found = quantize(x, torch.tensor([1.0]), code_max_of(bits)).codes.tolist()
    assert found == [max(-code_max, min(code_max, round(v))) for v in x.tolist()]
    assert {-code_max, code_max} == {min(found), max(found)}


def test_rounding_passes_the_gradient_and_saturation_stops_it():
    x = torch.tensor([0.3, -1.2, 127.0, 130.0, -500.0], requires_grad=True)
    quantize(x, torch.tensor([1.0]), 127.0).value.sum().backward()
    assert x.grad.tolist() == [1, 1, 1, 0, 0]


def test_the_scale_gradient_is_that_of_learned_step_size():
    x = torch.tensor([0.3, -1.2, 130.0, -500.0])
    scale = torch.tensor([0.5], requires_grad=True)
    quantize(x, scale, 127.0).value.sum().backward()
    inside = [np.rint(v / 0.5) - v / 0.5 for v in (0.3, -1.2)]
    assert scale.grad.item() == pytest.approx(sum(inside) + 127 - 127, abs=1e-5)


def test_clipping_gives_no_gradient_from_the_clip_on():
    inside = float(np.nextafter(np.float32(2.5), np.float32(0)))
    x = torch.tensor([0.0, 1.0, inside, 2.5, 3.0, -inside, -2.5, -9.0], requires_grad=True)
    clipped = clip_straight_through(x, 2.5)
    clipped.sum().backward()
    assert clipped.tolist() == [max(-2.5, min(2.5, v)) for v in x.tolist()]
    assert x.grad.tolist() == [0.0 if v >= 2.5 or v <= -2.5 else 1.0 for v in x.tolist()]


def test_without_a_clip_there_is_nothing_in_the_way():
    x = torch.tensor([5.0])
    assert clip_straight_through(x, None) is x


def test_clipping_leaves_nan_visible():
    assert torch.isnan(clip_straight_through(torch.tensor([torch.nan]), 2.5)).all()
