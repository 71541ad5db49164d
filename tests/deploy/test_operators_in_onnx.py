"""Every operator four ways: compiled, as a function of standard operators, in onnx.reference, in the NumPy oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from deploy.operators import SCHEMAS
from tests.deploy.driver import supported_isas
from tests.deploy.onnx_models import model_of, with_operators, with_reference_evaluator, with_standard_operators
from tests.deploy.operands import Case, all_cases, linear_case, same_bits

CASES = all_cases()


def _case(operator: str) -> Case:
    return next(case for case in CASES if case.operator == operator)


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case in CASES} == set(SCHEMAS)


@pytest.mark.parametrize("run", [with_operators, with_standard_operators, with_reference_evaluator])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.operator)
def test_results_have_the_oracles_bits(run: Callable[[Case], list[np.ndarray]], case: Case) -> None:
    assert all(same_bits(a, b) for a, b in zip(run(case), case.expected, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.operator)
def test_operands_need_not_be_constants(case: Case) -> None:
    variable = replace(case, constants=())
    for run in (with_operators, with_standard_operators):
        assert all(same_bits(a, b) for a, b in zip(run(variable), case.expected, strict=True))


@pytest.mark.parametrize("isa", supported_isas())
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.operator)
def test_threads_change_nothing(case: Case, isa: str) -> None:
    found = with_operators(case, threads=2, isa=isa)
    assert all(same_bits(a, b) for a, b in zip(found, case.expected, strict=True))


@pytest.mark.parametrize("isa", supported_isas())
@pytest.mark.parametrize("tokens", [1, 8, 9, 40, 65, 130])
def test_however_many_threads_a_product_is_cut_for_its_bits_are_the_same(tokens: int, isa: str) -> None:
    case = linear_case(tokens, inputs=530, outputs=200)
    for threads in (1, 2, 3, 5):
        assert same_bits(with_operators(case, threads=threads, isa=isa)[0], case.expected[0]), threads


def test_every_operator_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operators.md").read_text()
    assert [name for name in SCHEMAS if f"`{name}`" not in page] == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.operator)
def test_the_models_are_valid_onnx(case: Case) -> None:
    onnx.checker.check_model(model_of(case))


def _zeros(dtype: Any, *shape: int) -> np.ndarray:
    return np.zeros(shape, dtype)


F, C, P, T = np.float32, np.int8, np.uint8, np.int32
WRONG = [
    ("Quantize", "scale", _zeros(F, 2) + F(1), "scale: expected shape"),
    ("Quantize", "scale", _zeros(F, 1), "scale: expected a positive scale"),
    ("Quantize", "scale", np.array([np.nan], F), "scale: expected a positive scale"),
    ("Quantize", "x", _zeros(F, 0), "expected 1 to 2\\^40 elements"),
    ("QuantizePerToken", "x", _zeros(F, 2, 7, 0), "expected 1 to 2\\^40 elements"),
    ("TernaryLinear", "weight", _zeros(P, 2, 1, 32, 4), "weight: expected shape \\(2, 2, 32, 4\\) for 33 x 23 codes"),
    ("TernaryLinear", "weight", _zeros(P, 1, 2, 32, 4), "weight: expected shape \\(2, 2, 32, 4\\) for 33 x 23 codes"),
    ("TernaryLinear", "weight", _zeros(P, 33, 6), "weight: expected shape \\(2, 2, 32, 4\\)"),
    ("TernaryLinear", "weight", np.full((2, 2, 32, 4), 255, P), "byte 0 holds the field 0b11"),
    ("TernaryLinear", "bias", _zeros(F, 65), "weight: expected shape \\(3, 2, 32, 4\\)"),
    ("TernaryLinear", "codes", _zeros(C, 2, 7, 37), "weight: expected shape \\(2, 3, 32, 4\\) for 33 x 37 codes"),
    ("TernaryLinear", "scale", _zeros(F, 2), "scale: expected shape \\(2, 7, 1\\)"),
    ("TernaryLinear", "weight_scale", _zeros(F, 2), "weight_scale: expected shape \\(1\\) or \\(33\\)"),
    ("TernaryLinear", "bias", _zeros(F, 1), "weight: expected shape \\(1, 2, 32, 4\\) for 1 x 23 codes"),
    ("TernaryLinear", "bias", _zeros(F, 3, 11), "bias: expected rank 1"),
    ("TernaryEmbedding", "input_ids", np.full((2, 7), 61, T), "input_ids: expected values from 0 to 60, found 61"),
    ("TernaryEmbedding", "input_ids", np.full((2, 7), -1, T), "input_ids: expected values from 0 to 60, found -1"),
    ("TernaryEmbedding", "token_type_ids", np.full((2, 7), 2, T), "token_type_ids: expected values from 0 to 1"),
    ("TernaryEmbedding", "token_type_ids", _zeros(T, 2, 6), "token_type_ids: expected shape"),
    ("TernaryEmbedding", "position", _zeros(F, 6, 23), "input_ids: expected at most 6 tokens"),
    ("TernaryEmbedding", "position", _zeros(F, 19, 25), "word: expected 7 bytes a row"),
    ("TernaryEmbedding", "token_type", _zeros(F, 2, 22), "token_type: expected 23 columns"),
    ("TernaryEmbedding", "word", np.full((61, 6), 0b11, P), "0b11"),
    ("LayerNorm", "gamma", _zeros(F, 23), "gamma: expected shape \\(24\\)"),
    ("LayerNorm", "beta", _zeros(F, 25), "beta: expected shape \\(24\\)"),
    ("LayerNorm", "epsilon", _zeros(F, 2), "epsilon: expected shape \\(1\\)"),
    ("AttentionScores", "query", _zeros(C, 2, 7, 23), "query: expected a last dimension that is a multiple of heads"),
    ("AttentionScores", "key", _zeros(C, 2, 6, 24), "key: expected shape \\(2, 7, 24\\)"),
    ("AttentionScores", "key_scale", _zeros(F, 1) - F(1), "key_scale: expected a positive scale"),
    ("Softmax", "lengths", np.array([0, 7], T), "lengths: expected values from 1 to 7, found 0"),
    ("Softmax", "lengths", np.array([7, 8], T), "lengths: expected values from 1 to 7, found 8"),
    ("Softmax", "lengths", _zeros(T, 3), "lengths: expected shape \\(2\\)"),
    ("AttentionContext", "probabilities", _zeros(C, 2, 3, 7, 6), "probabilities: expected shape \\(2, 3, 7, 7\\)"),
    ("AttentionContext", "value", _zeros(C, 2, 7, 25), "value: expected a last dimension"),
    ("TernaryEmbeddingNorm", "gamma", _zeros(F, 23), "gamma: expected shape \\(24\\)"),
    ("TernaryEmbeddingNorm", "lengths", np.array([11, 0, 6], T), "lengths: expected values from 1 to 11, found 0"),
    ("TernaryAttention", "x", _zeros(F, 3, 11), "x: expected rank 3"),
    ("TernaryAttention", "lengths", np.array([11, 12, 6], T), "lengths: expected values from 1 to 11, found 12"),
    ("TernaryAttention", "queries", np.array([0, 1, 6], T), "queries: expected values from 1 to 11, found 0"),
    ("TernaryAttention", "key_weight", _zeros(P, 2, 2, 32, 4), "key_weight: expected shape \\(1, 2, 32, 4\\)"),
    ("TernaryAttention", "value_bias", _zeros(F, 23), "value_bias: expected shape \\(24\\)"),
    ("TernaryAttention", "value_scale", _zeros(F, 1), "value_scale: expected a positive scale"),
    ("TernaryAttention", "input_scale", _zeros(F, 2) + F(1), "input_scale: expected shape \\(1\\)"),
    ("TernaryAttention", "output_weight", np.full((1, 2, 32, 4), 3, P), "byte 0 holds the field 0b11"),
    ("TernaryAttentionPerToken", "query_weight_scale", _zeros(F, 7), "query_weight_scale: expected shape"),
    ("TernaryFeedForward", "down_weight", _zeros(P, 1, 2, 32, 4), "down_weight: expected shape \\(1, 3, 32, 4\\)"),
    ("TernaryFeedForward", "up_bias", _zeros(F, 99), "up_weight: expected shape \\(4, 2, 32, 4\\) for 99 x 24 codes"),
    ("TernaryFeedForward", "down_input_scale", -np.ones(1, F), "down_input_scale: expected a positive scale"),
    ("TernaryFeedForwardPerToken", "lengths", _zeros(T, 2), "lengths: expected shape \\(3\\)"),
    ("Classifier", "weight", _zeros(F, 2, 23), "weight: expected 24 columns"),
    ("Classifier", "bias", _zeros(F, 3), "bias: expected shape \\(2\\)"),
]


@pytest.mark.parametrize(("operator", "name", "value", "message"), WRONG)
def test_a_wrong_operand_is_an_error_that_names_it(operator: str, name: str, value: np.ndarray, message: str) -> None:
    case = _case(operator)
    names = SCHEMAS[operator].inputs
    operands = tuple(value if n == name else operand for n, operand in zip(names, case.operands, strict=True))
    with pytest.raises(Exception, match=message):
        with_operators(replace(case, operands=operands, constants=()))


def test_a_constant_weight_is_checked_when_the_session_is_made() -> None:
    case = _case("TernaryLinear")
    operands = (*case.operands[:2], np.full_like(case.operands[2], 0b11000000), *case.operands[3:])
    with pytest.raises(Exception, match="byte 0 holds the field 0b11"):
        with_operators(replace(case, operands=operands))


@pytest.mark.parametrize("heads", [0, -1, 5])
def test_a_wrong_number_of_heads_is_an_error(heads: int) -> None:
    with pytest.raises(Exception, match="multiple of heads"):
        with_operators(replace(_case("AttentionScores"), heads=heads))
