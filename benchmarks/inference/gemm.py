"""The ternary matrix product alone, as a share of the int8 peak of the machine's registers.

Products of BERT-base as one-operator models in ONNX Runtime sessions on one thread, so that the path is the one that
a bundle takes. The peak is what the same instruction set's int8 dot product reaches on registers, measured before and
after every round, since clocks drift. Of both the best of a few counts, since other work on the machine only slows.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

import click
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from benchmarks.simulation.summary import merge_summary
from deploy.operators import DOMAIN, DOMAIN_VERSION, IR_VERSION, OPSET
from deploy.panels import pack_panels
from deploy.runtime.int8_peak import int8_peak_macs_per_second
from deploy.runtime.machine import machine
from deploy.runtime.session import session_options, supported_isas

SUMMARY = Path(__file__).with_name("summary.json")
# Outputs, inputs and how often a layer has such a product: query, key, value and output; up; down.
PRODUCTS = ((768, 768, 4), (3072, 768, 1), (768, 3072, 1))
# The bars: at least 92 % of the peak with the dot-product instruction, and 1.5 times the peak without it.
INSTRUCTION_SETS = {"vnni": ("avx512vnni", "avxvnni"), "avx2": ("avx2",)}


def product(tokens: int, outputs: int, inputs: int, isa: str) -> Callable[[], object]:
    """Return a call of one TernaryLinear of random codes, (tokens, inputs) by (outputs, inputs)."""
    rng = np.random.default_rng(0)
    weight = pack_panels(rng.integers(-1, 2, (outputs, inputs)).astype(np.int8))
    scales, bias = np.full(outputs, 0.01, np.float32), np.zeros(outputs, np.float32)
    constants = {"scale": np.array([0.02], np.float32), "weight": weight, "weight_scale": scales, "bias": bias}
    graph = helper.make_graph(
        [helper.make_node("TernaryLinear", ["codes", *constants], ["y"], domain=DOMAIN)],
        "product",
        [helper.make_tensor_value_info("codes", TensorProto.INT8, [tokens, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [tokens, outputs])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    options = session_options(threads=1, isa=isa)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    codes = rng.integers(-127, 128, (tokens, inputs)).astype(np.int8)
    return lambda: session.run(None, {"codes": codes})


def peak(isa: str) -> float:
    """Return the multiply-accumulates a second of the instruction set's int8 dot product on one core."""
    found = int8_peak_macs_per_second(isa, 1)
    if found is None:
        sys.exit("the compiled operators are not installed")
    return found


def shares(isa: str, tokens: int, rounds: int, calls: int) -> dict[str, dict[str, float]]:
    """Return, by product and for a whole layer, the spread over `rounds` of the share of the peak that is reached."""
    runs = {(n, k): product(tokens, n, k, isa) for n, k, _ in PRODUCTS}
    found: dict[str, list[float]] = {f"{n} x {k}": [] for n, k, _ in PRODUCTS} | {"layer": []}
    for run in runs.values():
        run()
    for _ in range(rounds):
        layer_macs = layer_s = 0.0
        before = peak(isa)
        taken_s = {}
        for shape, run in runs.items():
            taken_s[shape] = min(time_s(run) for _ in range(calls))
        at_peak = (before + peak(isa)) / 2
        for n, k, count in PRODUCTS:
            macs = tokens * n * k
            found[f"{n} x {k}"].append(macs / taken_s[n, k] / at_peak)
            layer_macs += count * macs
            layer_s += count * taken_s[n, k]
        found["layer"].append(layer_macs / layer_s / at_peak)
    return {name: spread(values) for name, values in found.items()}


def time_s(run: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def spread(values: list[float]) -> dict[str, float]:
    """Return median and quartiles."""
    low, _, high = quantiles(values, n=4, method="inclusive")
    return {"lower_quartile": low, "median": median(values), "upper_quartile": high}


@click.command()
@click.option("--tokens", type=click.IntRange(1), default=128, show_default=True, help="Rows of the product.")
@click.option("--rounds", type=click.IntRange(3), default=21, show_default=True)
@click.option("--calls", type=click.IntRange(1), default=20, show_default=True, help="Calls of a product in a round.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=SUMMARY, help="The JSON to add to.")
def main(tokens: int, rounds: int, calls: int, out: Path) -> None:
    """Measure every instruction set of the bars that this machine has, and put the shares into the summary."""
    figures: dict[str, object] = {}
    reasons, detail = {}, {}
    for name, candidates in INSTRUCTION_SETS.items():
        figure = f"gemm_over_int8_peak_{name}"
        isa = next((isa for isa in candidates if isa in supported_isas()), None)
        if isa is None:
            figures[figure], reasons[figure] = None, f"this machine has none of {', '.join(candidates)}"
            continue
        detail[isa] = shares(isa, tokens, rounds, calls)
        figures[figure] = detail[isa]["layer"]["median"]
    figures["gemm"] = {"tokens": tokens, "rounds": rounds, "calls": calls, "share_of_int8_peak": detail,
                       "command": shlex.join(["python", "-m", "benchmarks.inference.gemm", *sys.argv[1:]])}  # fmt: skip
    merge_summary(out, **figures, reasons=reasons)
    click.echo(json.dumps({"machine": machine(), **figures, "reasons": reasons}, indent=2))


if __name__ == "__main__":
    main()
