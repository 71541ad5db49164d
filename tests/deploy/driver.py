"""Drives the C++ operators through their plain C entry, without ONNX Runtime."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import pytest

from deploy.panels import pack_panels
from deploy.runtime.operator_library import library_path
from deploy.runtime.session import ISAS
from tests.deploy.emulation import DTYPES, MACHINES, TYPES, OperatorError, server, why_not


class Tensor(ctypes.Structure):
    """`TiQatTensor` of kernels/drive.h."""

    _fields_ = (
        ("type", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("dims", ctypes.c_int64 * 8),
        ("data", ctypes.c_void_p),
    )


@cache
def library() -> ctypes.CDLL:
    path = library_path()
    assert path is not None, "the operators are not built"
    return ctypes.CDLL(str(path))


def supported_isas() -> tuple[str, ...]:
    return tuple(isa for isa in ISAS if library().ti_qat_isa_supported(isa.encode()) == 1)


def isas_under_test() -> list[object]:
    """What this machine runs, then what it can only emulate, as "machine/isa"; parameters of tests."""
    native = supported_isas()
    emulated = []
    for name in ("aarch64", "simde"):
        reason = why_not(name)
        marks = [pytest.mark.slow, *([pytest.mark.skip(reason=reason)] if reason else [])]
        isas = [isa for isa in MACHINES[name].isas if isa == "scalar" or isa not in native]
        emulated += [pytest.param(f"{name}/{isa}", marks=marks) for isa in isas]
    return [*native, *emulated]


def run_operator(name: str, *inputs: np.ndarray, outputs: int = 1, isa: str = "", heads: int = 0) -> list[np.ndarray]:
    """Run one operator on one thread, here or on the machine before a slash in `isa`.

    Raises OperatorError with the operator's message.
    """
    arrays = [np.ascontiguousarray(array) for array in inputs]
    machine, _, emulated_isa = isa.rpartition("/")
    if machine:
        return server(machine).run(name, emulated_isa, heads, arrays, outputs)
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
