"""The artifact's leaf arithmetic, compiled: the same code objects, with compiled functions as globals.

Nothing is written twice. `fastmath` stays off, so LLVM neither reorders nor contracts a sum; a test
looks for fused multiply-adds in the machine code. Kernels release the interpreter's lock and use no
parallel loops: hwsim/row_threads.py says how several threads share an operation.
"""

from __future__ import annotations

import hashlib
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

from ti_qat.artifact import numerics

R = TypeVar("R")
_numba_settings: Any = numba.config  # its attributes come from the environment

_HERE = Path(__file__).parent
_KERNELS = sorted(file for package in ("activity", "units") for file in (_HERE / package).glob("*.py"))
_SOURCES = (Path(numerics.__file__), Path(__file__), _HERE / "fixed_point.py", *_KERNELS)


def _cache_directory() -> str:
    """Return a cache folder named after the sources of everything that is compiled.

    Numba's own cache looks at a function's file only and misses a change in what the function calls.
    """
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in _SOURCES)).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return _numba_settings.CACHE_DIR or str(Path(base) / "ti-qat" / "numba" / digest)


_CACHE_DIRECTORY = _cache_directory()


def compiled(function: Callable[..., R]) -> Callable[..., R]:
    """Compile a kernel on first call, IEEE-754 exact, cached on disk, without the interpreter's lock."""
    previous, _numba_settings.CACHE_DIR = _numba_settings.CACHE_DIR, _CACHE_DIRECTORY
    try:
        dispatcher: Callable[..., R] = numba.njit(
            nogil=True, cache=True, fastmath=False, error_model="numpy", boundscheck=None
        )(function)
    finally:
        _numba_settings.CACHE_DIR = previous
    return dispatcher


def _compile_all() -> dict[str, Any]:
    """Compile every function of numerics in a copy of its namespace, so that calls stay compiled."""
    namespace = dict(vars(numerics))
    for name, value in vars(numerics).items():
        if isinstance(value, types.FunctionType):
            namespace[name] = compiled(types.FunctionType(value.__code__, namespace, name))
    return namespace


_COMPILED = _compile_all()

attention_scale = _COMPILED["attention_scale"]
dequantize_accumulator = _COMPILED["dequantize_accumulator"]
exp_nonpositive = _COMPILED["exp_nonpositive"]
gelu = _COMPILED["gelu"]
inverse_scale = _COMPILED["inverse_scale"]
power_of_two_at_least = _COMPILED["power_of_two_at_least"]
quantize = _COMPILED["quantize"]
tanh = _COMPILED["tanh"]
token_scale = _COMPILED["token_scale"]
tree_sum_in_place = _COMPILED["tree_sum_in_place"]
