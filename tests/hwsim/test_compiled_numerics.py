"""The compiled leaf arithmetic is the artifact's own, contracted nowhere."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from hwsim import compiled_numerics
from hwsim.units import gelu, layer_norm, softmax
from ti_qat.artifact import numerics

GRID = np.concatenate(
    [np.linspace(-20, 20, 2001), [0.0, -0.0, 87.0, -87.0, -87.5, 1e-30, 3e38, -3e38], np.ldexp(1.0, np.arange(-40, 40))]
).astype(np.float32)


@pytest.mark.parametrize("name", ["gelu", "tanh"])
def test_compiled_activations_have_the_bits_of_numpy(name: str) -> None:
    with np.errstate(over="ignore"):
        expected = getattr(numerics, name)(GRID)
        assert getattr(gelu, name)(GRID).tobytes() == expected.tobytes()


def test_exp_has_the_bits_of_numpy() -> None:
    x = -np.abs(GRID)
    with np.errstate(over="ignore"):
        actual = np.array([compiled_numerics.exp_nonpositive(value) for value in x], np.float32)
        assert actual.tobytes() == numerics.exp_nonpositive(x).tobytes()


def test_compiled_functions_run_the_artifacts_own_code() -> None:
    for name in ("gelu", "quantize", "exp_nonpositive", "tree_sum_in_place", "token_scale"):
        compiled = getattr(compiled_numerics, name)
        function = getattr(compiled, "py_func", compiled)
        assert function.__code__ is getattr(numerics, name).__code__


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled under NUMBA_DISABLE_JIT")
def test_machine_code_holds_no_fused_multiply_add() -> None:
    x = np.zeros(64, np.float32)
    seen = 0
    for kernel, arguments in (
        (gelu._gelu, (0, 2, x.reshape(2, 32), x.reshape(2, 32).copy())),
        (layer_norm._layer_norm, (0, 2, x.reshape(2, 32), x[:32], x[:32], x[0], x.reshape(2, 32).copy())),
        (softmax._softmax, (0, 2, x.reshape(1, 1, 2, 32), np.array([9], np.int32), x.reshape(1, 1, 2, 32).copy())),
    ):
        fresh = numba.njit(nogil=True, fastmath=False, error_model="numpy")(kernel.py_func)
        fresh(*arguments)
        code = next(iter(fresh.inspect_asm().values()))
        seen += code.count("mulss") + code.count("mulps") + code.count("fmul")
        assert "fmadd" not in code
        assert "fmla" not in code
    assert seen > 0, "the listing shows no float multiplication at all: the test reads the wrong text"
