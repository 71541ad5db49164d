"""How fast a design point is: BERT-base on our analytic path, beside SCALE-Sim on the same matrix products."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click

from benchmarks.simulation.environment import make_environment
from benchmarks.simulation.scalesim_environment import ENVIRONMENT, REQUIREMENTS, VERSION, Case, run
from benchmarks.simulation.summary import merge_summary
from hwsim.config import Accelerator, Dataflow, read_accelerator
from hwsim.design import BERT_BASE, STATIC_SCALES, evaluate_design
from ti_qat.artifact.encoder import build_encoder, gemms

TOKENS, NONZERO_FRACTION = 128, 0.6
PRESET = "phone"


def design_points() -> list[Accelerator]:
    """Return 432 accelerators that differ in array, dataflow, buffers and DRAM, none twice."""
    return [
        read_accelerator(PRESET).model_copy(
            update={
                "array_rows": rows,
                "array_columns": columns,
                "dataflow": dataflow,
                "weight_buffer_bytes": weight_kib << 10,
                "activation_buffer_bytes": activation_kib << 10,
                "dram_bandwidth_bytes_per_s": bandwidth,
            }
        )
        for rows, columns, dataflow, weight_kib, activation_kib, bandwidth in itertools.product(
            (16, 32, 64, 128), (16, 32, 64), Dataflow, (128, 1024), (256, 1024), (3.2e9, 12.8e9, 25.6e9)
        )
    ]


def evaluate(accelerator: Accelerator) -> float:
    """Evaluate one point; return the processor's seconds."""
    began = time.process_time()
    evaluate_design(BERT_BASE, accelerator, TOKENS, NONZERO_FRACTION)
    return time.process_time() - began


def first_call_seconds() -> float:
    """Return the seconds of a process's first design point, nothing cached."""
    began = time.perf_counter()
    evaluate_design(BERT_BASE, read_accelerator(PRESET), TOKENS, NONZERO_FRACTION)
    return time.perf_counter() - began


def products(accelerator: Accelerator) -> Counter[Case]:
    """Return the matrix products of BERT-base and how often each occurs."""
    array = (accelerator.array_rows, accelerator.array_columns, accelerator.dataflow)
    found: Counter[Case] = Counter()
    for gemm in gemms(build_encoder(BERT_BASE, STATIC_SCALES), 1, TOKENS):
        found[Case(gemm.m, gemm.k, gemm.n, *array)] += gemm.count
    return found


@click.command()
@click.option("--environment", type=click.Path(path_type=Path), default=ENVIRONMENT, show_default=True)
@click.option("--scalesim/--no-scalesim", default=True, help="Whether to run SCALE-Sim too, which takes minutes.")
def main(environment: Path, scalesim: bool) -> None:
    """Measure both, one after the other on this machine, and put the figures into summary.json."""
    cold_s = first_call_seconds()
    points, cores = design_points(), len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores) as pool:
        list(pool.map(evaluate, points[:cores]))  # start the processes
        began = time.perf_counter()
        seconds = list(pool.map(evaluate, points, chunksize=8))
        wall_s = time.perf_counter() - began
    figures: dict[str, object] = {
        "design_points_per_s": len(points) / wall_s,
        "design_points_per_processor_s": len(points) / sum(seconds),
        "design_points": len(points),
        "design_point_ms": {
            "median_cpu": statistics.median(seconds) * 1e3,
            "largest_cpu": max(seconds) * 1e3,
            "first_call": cold_s * 1e3,
        },
        "design_points_load_average": os.getloadavg()[0],
    }
    click.echo(f"{len(points) / wall_s:.0f} design points a second on {cores} cores; first call {cold_s * 1e3:.0f} ms")
    if scalesim:
        counted = products(read_accelerator(PRESET))
        results = run(make_environment(environment, REQUIREMENTS), list(counted))
        scalesim_s = sum(result.seconds * count for result, count in zip(results, counted.values(), strict=True))
        once_s = sum(result.seconds for result in results)
        figures |= {
            "analytic_speedup_over_scalesim": scalesim_s / cold_s,
            "analytic_speedup_over_scalesim_each_product_once": once_s / cold_s,
            "scalesim_bert_base_s": scalesim_s,
            "scalesim_bert_base_s_measured": once_s,
            "scalesim_version": VERSION,
        }
        click.echo(f"SCALE-Sim {scalesim_s:.0f} s, {scalesim_s / cold_s:,.0f} times as long as our first call")
    merge_summary(**figures)


if __name__ == "__main__":
    main()
