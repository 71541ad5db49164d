"""Runs every compiled kernel in a process of its own and prints, as JSON, what Numba's cache did and what never ran.

python -m tests.hwsim.every_kernel
"""

from __future__ import annotations

import importlib
import itertools
import json
import pkgutil
import tempfile
from pathlib import Path

import numpy as np
from numba.core.dispatcher import Dispatcher

import hwsim
from hwsim.config import Dataflow, Profile, ZeroGating, read_accelerator
from hwsim.datapath.batches import equal_length_batches, graph_inputs
from hwsim.datapath.exact import Datapath
from hwsim.simulate import simulate
from hwsim.units.accumulator import AccumulatorRange
from hwsim.widths import Approximation, FixedWidths, Rounding
from tests.builders import tiny_artifact, tiny_quantization
from ti_qat.artifact import reference
from ti_qat.artifact.encoder import execute
from ti_qat.artifact.schema import ActivationScaling


def kernels() -> dict[str, Dispatcher]:
    """Return every compiled function by module and name."""
    found = {}
    for module in pkgutil.walk_packages(hwsim.__path__, "hwsim."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Dispatcher) and value.py_func.__module__ == module.name:
                found[f"{module.name}.{name}"] = value
    return found


def run_all(folder: Path) -> None:
    """Simulate small artifacts in both profiles, with every method, dataflow and gate, and sums that overflow."""
    wearable = read_accelerator("wearable")
    narrow = wearable.model_copy(update={"accumulator_bits": 10})
    static = tiny_artifact(folder / "static", hidden=36, feed_forward=65, heads=3)
    small = tiny_artifact(folder / "small", layers=1, hidden=12, heads=2, feed_forward=9)
    token = tiny_quantization(activations=ActivationScaling.DYNAMIC_PER_TOKEN)
    simulate(tiny_artifact(folder / "token", quantization=token), wearable)
    for accelerator in (wearable, narrow):
        for dataflow, bits in itertools.product(Dataflow, (1, 8)):
            if dataflow is not Dataflow.INPUT_STATIONARY or bits == 8:
                array = {"dataflow": dataflow, "activation_bits_per_cycle": bits, "zero_gating": list(ZeroGating)[-1]}
                simulate(small, accelerator.model_copy(update=array), activity=True, limit=1)
    for method, rounding in itertools.product(Approximation, Rounding):
        widths = FixedWidths(exponential=method, gelu=method, rounding=rounding)
        simulate(static, narrow.model_copy(update={"fixed": widths}), profile=Profile.FIXED)
    inputs = graph_inputs(static.evaluation, next(equal_length_batches(static.evaluation.lengths)))
    wide = Datapath(AccumulatorRange.of_bits(32, wraps=False))
    exact, oracle = (
        execute(static.encoder, run, static.parameters, inputs) for run in (wide.kernels, reference.KERNELS)
    )
    assert np.array_equal(exact, oracle)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        run_all(Path(folder))
    found = kernels()
    print(
        json.dumps(
            {
                "kernels": len(found),
                "never_ran": sorted(name for name, kernel in found.items() if not kernel.signatures),
                "hits": sum(sum(kernel.stats.cache_hits.values()) for kernel in found.values()),
                "misses": sum(sum(kernel.stats.cache_misses.values()) for kernel in found.values()),
            }
        )
    )
