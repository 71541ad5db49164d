"""Drives the C++ operators through their plain C entry, without ONNX Runtime."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np

from deploy.panels import pack_panels
from deploy.runtime.operator_library import library_path

ISAS = ("scalar", "avx2", "avx512vnni")
TYPES = {np.dtype(np.float32): 0, np.dtype(np.uint8): 1, np.dtype(np.int8): 2, np.dtype(np.int32): 3}
DTYPES = {number: dtype for dtype, number in TYPES.items()}


class Tensor(ctypes.Structure):
    """`TiQatTensor` of kernels/drive.h."""

    _fields_ = (
        ("type", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("dims", ctypes.c_int64 * 8),
        ("data", ctypes.c_void_p),
    )


class OperatorError(Exception):
    """The operator refused its operands."""


@cache
def library() -> ctypes.CDLL:
    path = library_path()
    assert path is not None, "the operators are not built"
    return ctypes.CDLL(str(path))


def supported_isas() -> tuple[str, ...]:
    return tuple(isa for isa in ISAS if library().ti_qat_isa_supported(isa.encode()) == 1)


def run_operator(name: str, *inputs: np.ndarray, outputs: int = 1, isa: str = "", heads: int = 0) -> list[np.ndarray]:
    """Run one operator on one thread; raises OperatorError with its message."""
    arrays = [np.ascontiguousarray(array) for array in inputs]
    tensors = (Tensor * len(arrays))()
    for tensor, array in zip(tensors, arrays, strict=True):
        tensor.type, tensor.rank, tensor.data = TYPES[array.dtype], array.ndim, array.ctypes.data
        tensor.dims[: array.ndim] = array.shape
    results = (Tensor * outputs)()
    error = ctypes.create_string_buffer(500)

    def call() -> None:
        arguments = (name.encode(), isa.encode(), ctypes.c_int64(heads), tensors, ctypes.c_size_t(len(arrays)))
        if library().ti_qat_run_operator(*arguments, results, ctypes.c_size_t(outputs), error, ctypes.c_size_t(500)):
            raise OperatorError(error.value.decode())

    call()
    found = [np.empty(tuple(r.dims[: r.rank]), DTYPES[r.type]) for r in results]
    for result, array in zip(results, found, strict=True):
        result.data = array.ctypes.data
    call()
    return found


def ternary_linear(codes, scale, weight_codes, weight_scale, bias, isa=""):
    """TernaryLinear on unpacked codes."""
    return run_operator("TernaryLinear", codes, scale, pack_panels(weight_codes), weight_scale, bias, isa=isa)[0]
