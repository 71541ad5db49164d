"""Toggles and clocked bits, tolerance 0, against a walk of every element and every step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwsim.activity.operands import Operand
from hwsim.activity.product import ProductCounter
from hwsim.activity.wires import WireClass
from hwsim.config import Accelerator, Dataflow, Overflow, ZeroGating, read_accelerator
from tests.hwsim.array_walk import walk

Array = np.ndarray[Any, Any]


def array(**changes: Any) -> Accelerator:
    fields = read_accelerator("wearable").model_dump() | {"array_rows": 3, "array_columns": 4} | changes
    return Accelerator(**fields)


def operands(m: int, k: int, n: int, *, ternary: bool = True, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.integers(-127, 128, (m, k)) * (rng.random((m, k)) < 0.7)
    w = rng.integers(-1, 2, (n, k)) if ternary else rng.integers(-127, 128, (n, k)) * (rng.random((n, k)) < 0.7)
    return x.astype(np.int8), w.astype(np.int8)


def check(x: Array, w: Array, accelerator: Accelerator, *, ternary: bool = True, pieces: int = 1) -> None:
    found = ProductCounter(accelerator, pieces=pieces).count(Operand(x, False), Operand(w, ternary))
    expected = walk(x, w, accelerator, ternary=ternary)
    assert {wires: found.toggles[wires] for wires in WireClass} == {w: expected.toggles[w] for w in WireClass}
    assert {w: found.clocked_bits[w] for w in WireClass} == {w: expected.clocked_bits[w] for w in WireClass}
    assert found.gated_macs == expected.gated
    zero_x, zero_w = np.broadcast_arrays((x == 0)[:, None, :], (w == 0)[None, :, :])
    counted = (found.macs, found.zero_activation_macs, found.zero_weight_macs, found.zero_both_macs)
    assert counted == (zero_x.size, zero_x.sum(), zero_w.sum(), (zero_x & zero_w).sum())


PARALLEL = [(dataflow, 8) for dataflow in Dataflow]
SERIAL = [(Dataflow.OUTPUT_STATIONARY, 1), (Dataflow.WEIGHT_STATIONARY, 1)]


@pytest.mark.parametrize("gating", list(ZeroGating))
@pytest.mark.parametrize(("dataflow", "bits_per_cycle"), PARALLEL + SERIAL)
@pytest.mark.parametrize("ternary", [True, False])
@pytest.mark.parametrize(("m", "k", "n"), [(7, 11, 9), (1, 1, 1), (5, 1, 6), (1, 13, 5), (6, 5, 1), (3, 6, 4)])
def test_every_class_of_wire(
    m: int, k: int, n: int, ternary: bool, dataflow: Dataflow, gating: ZeroGating, bits_per_cycle: int
) -> None:
    chosen = array(dataflow=dataflow, zero_gating=gating, activation_bits_per_cycle=bits_per_cycle)
    check(*operands(m, k, n, ternary=ternary), chosen, ternary=ternary)


@pytest.mark.parametrize("dataflow", list(Dataflow))
@pytest.mark.parametrize("overflow", list(Overflow))
@pytest.mark.parametrize("bits", [4, 8, 11, 15, 16, 17, 32])
def test_every_width_of_accumulator(bits: int, overflow: Overflow, dataflow: Dataflow) -> None:
    """127s of one sign first: sums leave 8, 11 and 15 bits, and come back."""
    x, w = operands(3, 300, 4, seed=bits)
    x[0], w[0] = 127, 1
    x[1], w[1] = -127, np.where(np.arange(300) < 150, 1, -1)
    check(x, w, array(dataflow=dataflow, accumulator_bits=bits, accumulator_overflow=overflow, array_rows=16))


@pytest.mark.parametrize("gating", list(ZeroGating))
@pytest.mark.parametrize("dataflow", list(Dataflow))
@pytest.mark.parametrize(("m", "k", "n"), [(1, 700, 3), (3, 130, 2), (2, 129, 40)])
def test_sums_that_outgrow_16_bits_on_their_way(m: int, k: int, n: int, dataflow: Dataflow, gating: ZeroGating) -> None:
    x, w = operands(m, k, n, seed=k)
    x[0, : k // 2], x[0, k // 2 :] = 127, -127
    w[0] = 1
    check(x, w, array(dataflow=dataflow, zero_gating=gating, array_rows=16, array_columns=16), pieces=2)


@pytest.mark.parametrize("dataflow", list(Dataflow))
@pytest.mark.parametrize("codes", [(0, 0), (127, 1), (-127, 1), (127, -1), (-127, -1), (0, 1), (127, 0)])
def test_constant_operands(codes: tuple[int, int], dataflow: Dataflow) -> None:
    x, w = np.full((5, 6), codes[0], np.int8), np.full((7, 6), codes[1], np.int8)
    for gating in ZeroGating:
        check(x, w, array(dataflow=dataflow, zero_gating=gating))


@pytest.mark.parametrize(
    ("changes", "activation", "product", "clocked_sums"),
    [
        ({}, 18, 6, 4),
        ({"zero_gating": ZeroGating.WEIGHTS}, 18, 4, 3),
        ({"zero_gating": ZeroGating.WEIGHTS_AND_ACTIVATIONS}, 18 + 2, 4, 3),
        ({"activation_bits_per_cycle": 1}, 6, 12, 4),
    ],
)
def test_the_example_of_the_documentation(
    changes: dict[str, Any], activation: int, product: int, clocked_sums: int
) -> None:
    x, w = np.array([[3, -3, 0, 2]], np.int8), np.array([[1, -1, 0, 1]], np.int8)
    found = ProductCounter(array(accumulator_bits=8, **changes)).count(Operand(x), Operand(w, ternary=True))
    assert [found.toggles[wires] for wires in WireClass] == [activation, 8, product, 8, 2]
    assert found.clocked_bits[WireClass.SUM_REGISTER] == 8 * clocked_sums


def test_more_lanes_than_a_block_holds_are_counted_in_any_number_of_pieces() -> None:
    x, w = operands(2, 5, 523)
    for dataflow in Dataflow:
        for pieces in (1, 3):
            check(x, w, array(dataflow=dataflow), pieces=pieces)
            check(w[:, :3], x[:, :3], array(dataflow=dataflow), ternary=False, pieces=pieces)


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"])
def test_the_same_holds_interpreted_and_with_bounds_checked(setting: str, tmp_path: Path) -> None:
    """NumPy's scalars warn of an overflow where machine code would wrap; here a warning is an error."""
    here = Path(__file__).parent
    files = [str(here / name) for name in ("test_activity.py", "test_serial_mac.py")]
    chosen = "not interpreted and not simulation and not energy"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-W", "error::RuntimeWarning", "-k", chosen, *files]
    environment = {**os.environ, setting: "1", "NUMBA_CACHE_DIR": str(tmp_path)}  # no code compiled otherwise
    done = subprocess.run(command, cwd=here.parents[1], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
