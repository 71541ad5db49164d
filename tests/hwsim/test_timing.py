"""Cycles and operand counts of the array against SCALE-Sim 3.0.0, and what lanes and ports take."""

from __future__ import annotations

import csv
from math import ceil, inf
from pathlib import Path

import pytest

from hwsim.config import Dataflow, read_accelerator
from hwsim.schedule.pipeline import leaves
from hwsim.schedule.tiling import Product
from hwsim.schedule.tiling_search import best_plan
from hwsim.schedule.timing import gemm_cycles, operand_counts, port_cycles, vector_cycles

# Written by benchmarks/simulation/scalesim_check.py from its own runs of SCALE-Sim 3.0.0.
_LINES = (Path(__file__).parents[1] / "data" / "scalesim_cases.csv").read_text().splitlines()
CASES = [
    (Dataflow(row.pop("dataflow")), {name: int(value) for name, value in row.items()})
    for row in csv.DictReader(line for line in _LINES if not line.startswith("#"))
]
# And one of a Transformer's size, M = 128, K = N = 768 on 32 x 32.
LARGE = {"m": 128, "k": 768, "n": 768, "rows": 32, "columns": 32}
CASES += [
    (Dataflow.WEIGHT_STATIONARY, LARGE | {"cycles": 127_871, "input_reads": 2_359_296, "weight_reads": 589_824}),
    (Dataflow.OUTPUT_STATIONARY, LARGE | {"cycles": 79_679, "input_reads": 2_359_296, "weight_reads": 2_359_296}),
    (Dataflow.INPUT_STATIONARY, LARGE | {"cycles": 82_751, "input_reads": 98_304, "weight_reads": 2_359_296}),
]
SIZES = ("m", "k", "n", "rows", "columns")


def test_at_least_fifty_cases_in_all_dataflows_were_recorded() -> None:
    assert len(CASES) >= 50
    assert {dataflow for dataflow, _ in CASES} == set(Dataflow)


@pytest.mark.parametrize(("dataflow", "case"), CASES)
def test_cycles_are_those_of_scale_sim(dataflow: Dataflow, case: dict[str, int]) -> None:
    assert gemm_cycles(dataflow, *(case[name] for name in SIZES)) == case["cycles"]


@pytest.mark.parametrize(("dataflow", "case"), CASES)
def test_accesses_are_those_of_scale_sim_but_for_its_surplus(dataflow: Dataflow, case: dict[str, int]) -> None:
    m, k, n, rows, columns = (case[name] for name in SIZES)
    counts = operand_counts(dataflow, m, k, n, rows, columns)
    assert (counts.input_reads, counts.weight_reads) == (case["input_reads"], case["weight_reads"])
    assert counts.partial_sum_reads == counts.partial_sum_writes
    if "output_writes" in case:
        # SCALE-Sim counts outputs with the partial sums, and under OS rows + columns writes a fold that nobody makes.
        surplus = (rows + columns) * ceil(m / rows) * ceil(n / columns) if dataflow is Dataflow.OUTPUT_STATIONARY else 0
        assert counts.partial_sum_writes + m * n == case["output_writes"] - surplus


def test_one_by_one_array_streams_every_multiply_accumulate() -> None:
    for dataflow in Dataflow:
        assert gemm_cycles(dataflow, 3, 5, 7, 1, 1) >= 3 * 5 * 7 - 1  # counted from cycle 0


def test_lanes_take_every_element_once_a_pass_and_fill_their_pipeline() -> None:
    wearable = read_accelerator("wearable").model_copy(update={"vector_lanes": 8, "vector_pipeline_cycles": 5})
    assert vector_cycles(16, 1, wearable) == 2 + 5
    assert vector_cycles(17, 3, wearable) == 3 * (3 + 5)


def test_ports_hold_the_array_up_when_banks_are_few() -> None:
    assert port_cycles(1000, inf) == 0
    product = Product(32, 64, 32, 2)
    tile = {}
    for banks in (None, 1, 2, 64):
        machine = read_accelerator("phone").model_copy(
            update={"activation_buffer_banks": banks, "weight_buffer_banks": None}
        )
        (tile[banks],) = leaves(best_plan(product, machine).body)
    assert tile[None].occupied_cycles == tile[64].occupied_cycles == tile[None].compute_cycles
    moved = 32 * 64 + 32 * 32 * 4  # every input once (one column of tiles), every output as float32
    assert tile[1].occupied_cycles == moved / 8
    assert tile[2].occupied_cycles == moved / 16
