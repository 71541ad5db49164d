"""The C++ operators, driven without ONNX Runtime, against the NumPy oracle: equal bits on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.panels import pack_panels
from tests.deploy.driver import OperatorError, isas_under_test, run_operator, ternary_linear
from tests.deploy.operands import (
    TINY_SCALE,
    Case,
    all_cases,
    random_codes,
    random_floats,
    random_ternary,
    same_bits,
    special_floats,
)
from ti_qat.artifact import numerics, reference

pytestmark = pytest.mark.parametrize("isa", isas_under_test())
AWKWARD = (1, 2, 3, 5, 31, 33, 127)


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.operator)
def test_operator_equals_the_oracle(isa: str, case: Case) -> None:
    found = run_operator(case.operator, *case.operands, outputs=len(case.expected), isa=isa, heads=case.heads)
    assert all(same_bits(a, b) for a, b in zip(found, case.expected, strict=True))


@pytest.mark.parametrize("k", AWKWARD)
def test_linear_of_awkward_sizes(isa: str, k: int) -> None:
    rng = np.random.default_rng(k)
    for m in (1, 5, 8, 9, 13, 16, 17, 33):
        for n in (1, 3, 16, 33):
            codes, weight_codes = random_codes(rng, m, k), random_ternary(rng, n, k)
            scale, weight_scale, bias = (
                np.abs(random_floats(rng, m, 1)),
                np.abs(random_floats(rng, n)),
                random_floats(rng, n),
            )
            expected = reference.ternary_linear(codes, scale, weight_codes, weight_scale, bias)
            assert same_bits(ternary_linear(codes, scale, weight_codes, weight_scale, bias, isa), expected), (m, n)


@pytest.mark.parametrize("x", [-127, 127])
@pytest.mark.parametrize("w", [-1, 0, 1])
def test_extreme_accumulators_do_not_saturate(isa: str, x: int, w: int) -> None:
    one, zero = np.ones(1, np.float32), np.zeros(33, np.float32)
    found = ternary_linear(np.full((13, 3072), x, np.int8), one, np.full((33, 3072), w, np.int8), one, zero, isa)
    assert (found == x * w * 3072).all()


def test_the_code_below_the_contract_does_not_saturate_either(isa: str) -> None:
    one, zero = np.ones(1, np.float32), np.zeros(33, np.float32)
    found = ternary_linear(np.full((13, 1024), -128, np.int8), one, np.ones((33, 1024), np.int8), one, zero, isa)
    assert (found == -128 * 1024).all()


def test_many_rows_span_several_tasks(isa: str) -> None:
    rng = np.random.default_rng(0)
    codes, weight_codes, bias = random_codes(rng, 500, 40), random_ternary(rng, 70, 40), random_floats(rng, 70)
    expected = reference.ternary_linear(codes, TINY_SCALE, weight_codes, TINY_SCALE, bias)
    assert same_bits(ternary_linear(codes, TINY_SCALE, weight_codes, TINY_SCALE, bias, isa), expected)


def test_quantisation_ties_go_to_even_and_saturate(isa: str) -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, -126.5, -200.0, 1e30, -1e30], np.float32)
    codes = run_operator("Quantize", x, np.ones(1, np.float32), isa=isa)[0]
    assert codes.tolist() == [0, 2, 2, 0, -2, 126, 127, -126, -127, 127, -127]


def test_quantisation_of_a_grid_of_ties(isa: str) -> None:
    scale = np.array([0.25], np.float32)
    x = (np.arange(-4000, 4000) / 8 * scale[0]).astype(np.float32)
    assert same_bits(run_operator("Quantize", x, scale, isa=isa)[0], reference.quantize(x, scale))


def test_activation_functions_over_their_range(isa: str) -> None:
    x = np.linspace(-20, 20, 200_003, dtype=np.float32)
    for points in (x, special_floats()):
        assert same_bits(run_operator("Gelu", points, isa=isa)[0], numerics.gelu(points))
        assert same_bits(run_operator("Tanh", points, isa=isa)[0], numerics.tanh(points))


@pytest.mark.parametrize("width", [*AWKWARD, 384])
def test_row_operators_of_awkward_widths(isa: str, width: int) -> None:
    rng = np.random.default_rng(width)
    x, gamma, beta = random_floats(rng, 5, width), random_floats(rng, width), random_floats(rng, width)
    epsilon = np.array([1e-12], np.float32)
    found = run_operator("LayerNorm", x, gamma, beta, epsilon, isa=isa)[0]
    assert same_bits(found, reference.layer_norm(x, gamma, beta, epsilon))
    for a, b in zip(
        run_operator("QuantizePerToken", x, outputs=2, isa=isa), reference.quantize_per_token(x), strict=True
    ):
        assert same_bits(a, b)
    found = run_operator("Classifier", x, x[:3], beta[:1].repeat(3), isa=isa)[0]
    assert same_bits(found, reference.classifier(x, x[:3], beta[:1].repeat(3)))


@pytest.mark.parametrize(("batch", "heads", "tokens", "head_size"), [(1, 1, 1, 1), (2, 3, 5, 8), (2, 2, 33, 31)])
def test_attention_of_awkward_sizes(isa: str, batch: int, heads: int, tokens: int, head_size: int) -> None:
    rng = np.random.default_rng(tokens)
    query, key = (random_codes(rng, batch, tokens, heads * head_size) for _ in range(2))
    scores = run_operator("AttentionScores", query, TINY_SCALE, key, TINY_SCALE, heads=heads, isa=isa)[0]
    assert same_bits(scores, reference.attention_scores(query, TINY_SCALE, key, TINY_SCALE, heads))
    for length in {1, tokens // 2 + 1, tokens}:
        lengths = np.full(batch, length, np.int32)
        probabilities = run_operator("Softmax", scores, lengths, isa=isa)[0]
        assert same_bits(probabilities, reference.softmax(scores, lengths))
    codes = random_codes(rng, batch, heads, tokens, tokens)
    found = run_operator("AttentionContext", codes, TINY_SCALE, key, TINY_SCALE, heads=heads, isa=isa)[0]
    assert same_bits(found, reference.attention_context(codes, TINY_SCALE, key, TINY_SCALE, heads))


def test_a_field_of_three_is_refused_wherever_it_is(isa: str) -> None:
    packed = pack_panels(np.zeros((3, 9), np.int8))
    packed[0, 0, 2, 1] |= 0b11_00
    with pytest.raises(OperatorError, match="byte 9 holds the field 0b11"):
        run_operator(
            "TernaryLinear", np.zeros((1, 9), np.int8), TINY_SCALE, packed, TINY_SCALE, np.zeros(3, np.float32), isa=isa
        )
