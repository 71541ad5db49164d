"""Sizes and addresses that a hostile model could give an operator: refused by 64-bit arithmetic, nothing is read."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from tests.deploy.driver import TYPES, Tensor, library

F32 = TYPES[np.dtype(np.float32)]
MEMORY = np.zeros(64, np.float32)


def _refusal(name: str, *operands: tuple[int, tuple[int, ...]], offset: int = 0) -> str:
    """The message of an operator whose operands claim a type and a shape, all over the same few bytes."""
    tensors = (Tensor * len(operands))()
    for tensor, (kind, shape) in zip(tensors, operands, strict=True):
        tensor.type, tensor.rank, tensor.data = kind, len(shape), MEMORY.ctypes.data + offset
        tensor.dims[: len(shape)] = shape
    results, error = (Tensor * 1)(), ctypes.create_string_buffer(500)
    size = ctypes.c_size_t
    arguments = (name.encode(), b"scalar", ctypes.c_int64(1), tensors, size(len(operands)), results, size(1))
    assert library().ti_qat_run_operator(*arguments, error, size(500)) == 1
    return error.value.decode()


@pytest.mark.parametrize("shape", [(1 << 32, 1 << 32), (1 << 62, 4), (1 << 41,), (-1, 4), (0, 4), (1, -(1 << 63))])
def test_operands_whose_size_overflows_are_refused(shape: tuple[int, ...]) -> None:
    assert _refusal("Gelu", (F32, shape)).startswith("Gelu: x: expected 1 to 2^40 elements, found shape (")


def test_results_whose_size_overflows_are_refused() -> None:
    rows, labels = 1 << 33, 1 << 33
    message = _refusal("Classifier", (F32, (rows, 1)), (F32, (labels, 1)), (F32, (labels,)))
    assert message == f"Classifier: result: expected 1 to 2^40 elements, found shape ({rows}, {labels})"


def test_misaligned_numbers_are_refused() -> None:
    """As external data at an odd offset of the weights file would be."""
    assert _refusal("Gelu", (F32, (4,)), offset=1) == "Gelu: x: expected data at a multiple of 4 bytes"
