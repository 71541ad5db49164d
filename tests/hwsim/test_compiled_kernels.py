"""What holds of every compiled kernel: its settings, its bounds, its cache, and several threads in it at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numba
import numpy as np
import pytest

from hwsim.config import Profile, read_accelerator
from hwsim.datapath.exact import Datapath
from hwsim.row_threads import row_threads
from hwsim.simulate import Simulation, Values, simulate
from hwsim.units.accumulator import AccumulatorRange
from tests.builders import tiny_artifact, tiny_quantization
from tests.hwsim.every_kernel import kernels
from ti_qat.artifact.encoder import INPUT_IDS, LENGTHS, TOKEN_TYPE_IDS, Operation, execute
from ti_qat.artifact.schema import ActivationScaling

ROOT = Path(__file__).parents[2]
COMPILED = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled under NUMBA_DISABLE_JIT")


def run_every_kernel(cache: Path, **environment: str) -> dict[str, Any]:
    """Run them all in a process; NumPy's scalars warn of an overflow where machine code would wrap: an error here."""
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", "tests.hwsim.every_kernel"],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@COMPILED
def test_kernels_are_exact_cached_and_without_the_interpreters_lock() -> None:
    for name, kernel in kernels().items():
        options = kernel.targetoptions
        assert options["nogil"], name
        assert not options["fastmath"], name
        assert not options.get("parallel"), name
        assert options["boundscheck"] is None, name  # NUMBA_BOUNDSCHECK decides
        assert type(kernel._cache).__name__ == "FunctionCache", name


@pytest.mark.slow
def test_a_second_start_compiles_nothing(tmp_path: Path) -> None:
    first, second = run_every_kernel(tmp_path), run_every_kernel(tmp_path)
    assert first["never_ran"] == []
    assert (first["hits"], second["misses"]) == (0, 0)
    assert first["misses"] >= first["kernels"] > 50
    assert second["hits"] > 30  # what another kernel calls comes with it


@pytest.mark.slow
def test_every_kernel_stays_within_its_arrays(tmp_path: Path) -> None:
    assert run_every_kernel(tmp_path, NUMBA_BOUNDSCHECK="1")["never_ran"] == []


@pytest.mark.slow
def test_no_kernel_wraps_an_integer_interpreted(tmp_path: Path) -> None:
    assert run_every_kernel(tmp_path, NUMBA_DISABLE_JIT="1")["kernels"] == 0


@pytest.mark.slow
def test_an_index_beyond_an_array_is_found_where_bounds_are_checked(tmp_path: Path) -> None:
    """The two tests above could pass with a check that is off."""
    code = (
        "import numpy as np; from hwsim.units import gelu; x = np.zeros((2, 8), np.float32); gelu._gelu(0, 3, x, x[:])"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "NUMBA_BOUNDSCHECK": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert "IndexError" in done.stderr


def same(first: tuple[Simulation, Values], second: tuple[Simulation, Values]) -> bool:
    (report, values), (other_report, other_values) = first, second
    return (
        report.model_copy(update={"peak_rss_bytes": 0}) == other_report.model_copy(update={"peak_rss_bytes": 0})
        and values.logits.tobytes() == other_values.logits.tobytes()
        and all(np.array_equal(values.digests[name], other_values.digests[name]) for name in values.digests)
        and values.overflows == other_values.overflows
    )


@pytest.mark.parametrize("profile", list(Profile))
def test_two_threads_simulate_at_once(tmp_path: Path, profile: Profile) -> None:
    artifact, accelerator = tiny_artifact(tmp_path / "a"), read_accelerator("wearable")
    alone = simulate(artifact, accelerator, profile=profile, threads=1)
    start = Barrier(2)

    def run(threads: int) -> tuple[Simulation, Values]:
        start.wait()
        return simulate(artifact, accelerator, profile=profile, threads=threads)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run, (1, 3)))
    assert all(same(alone, result) for result in results)


@pytest.mark.parametrize("bits", [10, 24])
@pytest.mark.parametrize("scaling", list(ActivationScaling))
def test_one_sentence_on_several_threads_is_the_sentence_on_one(
    tmp_path: Path, bits: int, scaling: ActivationScaling
) -> None:
    """A sentence longer than several shares of rows, so that every kernel is split."""
    artifact = tiny_artifact(tmp_path / "a", positions=64, quantization=tiny_quantization(activations=scaling))
    tokens = np.random.default_rng(0).integers(5, artifact.encoder.shape.vocabulary, (1, 51)).astype(np.int32)
    inputs = {INPUT_IDS: tokens, TOKEN_TYPE_IDS: np.zeros_like(tokens), LENGTHS: np.array([49], np.int32)}

    def run(threads: int) -> tuple[list[bytes], Counter[str]]:
        datapath, seen = Datapath(AccumulatorRange.of_bits(bits, wraps=False)), []

        def observe(op: Operation, _: object, results: tuple[np.ndarray, ...]) -> None:
            datapath.settle(op)
            seen.extend(result.tobytes() for result in results)

        with row_threads(threads):
            execute(artifact.encoder, datapath.kernels, artifact.parameters, inputs, observe)
        return seen, datapath.overflows

    assert run(3) == run(1)
    assert (run(1)[1].total() > 0) == (bits == 10)
