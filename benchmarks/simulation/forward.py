"""How long the exact profile takes for BERT-base, in passes of PyTorch's float32 model on the same cores.

Every side has a process of its own, and they take turns, so that a busy machine slows all alike; only the ratios
are meant to be quoted. PyTorch's threads are told to sleep while they wait (OMP_WAIT_POLICY): where other processes
run, spinning costs it up to six times as long.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from benchmarks.simulation.forward_exact import ZERO_FRACTION
from benchmarks.simulation.forward_side import TOKENS
from benchmarks.simulation.summary import merge_summary
from deploy.runtime.machine import machine
from hwsim.config import Profile
from hwsim.design import BERT_BASE, STATIC_SCALES
from hwsim.units.exact_product import exact_product
from ti_qat.artifact.encoder import build_encoder, gemms

ROOT = Path(__file__).parents[2]
SIDES = {"exact": ("forward_exact",), "activity": ("forward_exact", "activity"), "torch": ("forward_torch",)}
CLOCKS = ("wall_s", "processor_s")
Answers = dict[str, list[dict[str, float]]]


class Side:
    """A process that runs one pass a call."""

    def __init__(self, module: str, threads: int, *arguments: str) -> None:
        command = [sys.executable, "-m", f"benchmarks.simulation.{module}", str(threads), *arguments]
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )

    def forward(self) -> dict[str, float]:
        """Run one pass; return `wall_s`, `processor_s` and `peak_rss_bytes`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def measure(rounds: int, threads: int) -> Answers:
    """Run `rounds` passes of every side in turns, after two each to warm up."""
    sides = {name: Side(module, threads, *arguments) for name, (module, *arguments) in SIDES.items()}
    try:
        for _ in range(2):
            for side in sides.values():
                side.forward()
        answers: Answers = {name: [] for name in sides}
        for index in range(rounds):
            for name in list(sides) if index % 2 else list(reversed(sides)):
                answers[name].append(sides[name].forward())
        return answers
    finally:
        for side in sides.values():
            side.close()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4)
    return {"lower_quartile": low, "median": median, "upper_quartile": high}


def ratio(answers: Answers, side: str, clock: str) -> dict[str, float]:
    """Return the spread of a side's time over PyTorch's, round by round."""
    pairs = zip(answers[side], answers["torch"], strict=True)
    return spread([ours[clock] / theirs[clock] for ours, theirs in pairs])


def described(answers: Answers) -> dict[str, object]:
    """Return ratios, milliseconds and memory of all sides."""
    return {
        name: {
            "over_torch": {clock: ratio(answers, name, clock) for clock in CLOCKS},
            "ms": {clock: spread([1e3 * answer[clock] for answer in taken]) for clock in CLOCKS},
            "peak_rss_bytes": max(answer["peak_rss_bytes"] for answer in taken),
        }
        for name, taken in answers.items()
    }


def kernel_giga_macs_per_s(calls: int = 200) -> float:
    """Return what the products' kernel reaches on one core with both operands in the second-level cache."""
    x, out = np.ones((128, 768), np.int8), np.empty((128, 128), np.int32)
    taken_s = []
    for _ in range(calls):
        began = time.perf_counter()
        exact_product(x, x, out)
        taken_s.append(time.perf_counter() - began)
    return x.size * len(x) / min(taken_s) / 1e9


def simulate_s(cache: Path, profiles: Sequence[Profile]) -> float:
    """Return the processor's seconds of `ti-qat simulate` of a small artifact under each profile."""
    artifact = ROOT / "tests" / "data" / "artifact_v1"
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    for profile in profiles:
        with tempfile.TemporaryDirectory() as out:
            command = [sys.executable, "-m", "ti_qat", "simulate", str(artifact), "--accelerator", "wearable"]
            subprocess.run(
                [*command, "--profile", profile.value, "--out", f"{out}/simulation"],
                env={**os.environ, "XDG_CACHE_HOME": str(cache)},
                stdout=subprocess.DEVNULL,
                check=True,
            )
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime


def compile_s() -> float:
    """Return how much longer the first start takes than one with a full cache, both profiles, on the processor."""
    with tempfile.TemporaryDirectory() as cache:
        first = simulate_s(Path(cache), list(Profile))
        return first - simulate_s(Path(cache), list(Profile))


@click.command()
@click.option("--rounds", default=21, show_default=True, help="Passes of every side, in turns; as many on one thread.")
def main(rounds: int) -> None:
    """Measure all sides and the compiler, and put the figures into summary.json."""
    threads = len(os.sched_getaffinity(0))
    several, alone = measure(rounds, threads), measure(rounds, 1)
    giga_macs = sum(gemm.macs for gemm in gemms(build_encoder(BERT_BASE, STATIC_SCALES), 1, TOKENS)) / 1e9
    reach = kernel_giga_macs_per_s()
    alone_s = statistics.median(answer["processor_s"] for answer in alone["exact"])
    figures: dict[str, object] = {
        "exact_forward_over_torch_fp32": ratio(several, "exact", "wall_s")["median"],
        "exact_forward_over_torch_fp32_one_thread": ratio(alone, "exact", "processor_s")["median"],
        "activity_forward_over_torch_fp32": ratio(several, "activity", "wall_s")["median"],
        "compile_s": compile_s(),
        "forward": {
            "all_cores": described(several),
            "one_thread": described(alone),
            "threads": threads,
            "tokens": TOKENS,
            "zero_fraction": ZERO_FRACTION,
            "rounds": rounds,
            "giga_macs": giga_macs,
            "kernel_giga_macs_per_s": reach,
            "limit_share_one_thread": giga_macs / reach / alone_s,
            "load_average": os.getloadavg()[0],
        },
        "forward_command": shlex.join(["python", "-m", "benchmarks.simulation.forward", *sys.argv[1:]]),
    }
    merge_summary(**figures)
    click.echo(json.dumps({"machine": machine(), **figures}, indent=2))


if __name__ == "__main__":
    main()
