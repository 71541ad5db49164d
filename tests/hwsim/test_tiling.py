"""Tiles cover a product once, fit their buffers, and are well chosen: against plain loops over every tile."""

from __future__ import annotations

from itertools import product as combinations
from math import ceil

import pytest

from hwsim.config import Accelerator, Dataflow, read_accelerator
from hwsim.schedule.pipeline import Pipeline
from hwsim.schedule.tiling import Product, Stays, Tiling, plan, staging_bytes
from hwsim.schedule.tiling_search import best_plan, tilings
from hwsim.schedule.timing import gemm_cycles
from tests.hwsim.tiles import unrolled


def accelerator(**changes: object) -> Accelerator:
    small = {"array_rows": 4, "array_columns": 3, "weight_buffer_bytes": 128, "activation_buffer_bytes": 512}
    return read_accelerator("wearable").model_copy(update=small | changes)


def ranges(whole: int, size: int) -> list[range]:
    return [range(start, min(start + size, whole)) for start in range(0, whole, size)]


def array_walk(machine: Accelerator, m: range, k: range, n: range, goes_on: bool) -> int:
    """Fold by fold: what stays is loaded, the rest streams past it and drains."""
    rows, columns, cycles = machine.array_rows, machine.array_columns, 0
    match machine.dataflow:
        case Dataflow.WEIGHT_STATIONARY:
            for _ in combinations(ranges(len(k), rows), ranges(len(n), columns)):
                cycles += rows + len(m) + (rows - 1) + (columns - 1)
        case Dataflow.INPUT_STATIONARY:
            for _ in combinations(ranges(len(k), rows), ranges(len(m), columns)):
                cycles += rows + len(n) + (rows - 1) + (columns - 1)
        case Dataflow.OUTPUT_STATIONARY:
            for _ in combinations(ranges(len(m), rows), ranges(len(n), columns)):
                cycles += (rows if goes_on else 0) + len(k) + (rows - 1) + (columns - 1)
    return cycles


PRODUCTS = [
    Product(5, 10, 7, 2, streams_weights=True),
    Product(1, 10, 7, 2, streams_weights=True, parameter_bytes=29),
    Product(9, 3, 8, 2, streams_weights=True, input_bytes=27, output_bytes=100),
    Product(9, 24, 16, 2, streams_weights=True, input_bytes=101, parameter_bytes=13, output_bytes=5),
    Product(9, 24, 16, 2),
    Product(9, 8, 9, 8, operand_bytes=72, input_bytes=41),
]


@pytest.mark.parametrize("dataflow", list(Dataflow))
@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("stays", list(Stays))
def test_tiles_are_those_of_plain_loops(dataflow: Dataflow, product: Product, stays: Stays) -> None:
    machine = accelerator(dataflow=dataflow)
    for m, k, n in ((4, 8, 3), (product.m, product.k, product.n), (1, 4, 6), (8, product.k, 3)):
        if product.operand_bytes and (k, n) != (product.k, product.n):
            continue  # a second operand is never cut
        tiling = Tiling(min(m, product.m), min(k, product.k), min(n, product.n), stays)
        found = list(unrolled(plan(product, tiling, machine).body))
        ms, ks, ns = (ranges(w, s) for w, s in ((product.m, tiling.m), (product.k, tiling.k), (product.n, tiling.n)))
        if stays is Stays.WEIGHTS:
            order = [(a, b, c) for c, b, a in combinations(ns, ks, ms)]
        else:
            order = [(a, b, c) for a, c, b in combinations(ms, ns, ks)]
        expected = [array_walk(machine, a, b, c, b.start > 0) for a, b, c in order]
        assert [tile.compute_cycles for tile in found] == expected
        reload = len(ms) if stays is Stays.INPUTS and len(ks) * len(ns) > 1 else 1
        matrix = sum(len(c) * ceil(2 * len(b) / 8) for b in ks for c in ns) if product.streams_weights else 0
        assert sum(tile.weight_bytes for tile in found) == reload * (matrix + product.parameter_bytes)
        again = len(ns) if stays is Stays.WEIGHTS and len(ms) * len(ks) > 1 else 1
        assert sum(tile.input_bytes for tile in found) == again * product.input_bytes + product.operand_bytes
        assert sum(tile.output_bytes for tile in found) == product.output_bytes
        written, read = (sum(getattr(tile, f"partial_sum_{way}_bytes") for tile in found) for way in ("write", "read"))
        assert written == read
        if dataflow is not Dataflow.OUTPUT_STATIONARY:
            folds = sum(len(ranges(len(b), machine.array_rows)) for b in ks)
            assert written == 3 * product.m * product.n * (folds - 1)


@pytest.mark.parametrize("dataflow", list(Dataflow))
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 1), (1, 4), (4, 3), (16, 16)])
def test_what_fits_is_one_tile_with_the_closed_form(dataflow: Dataflow, rows: int, columns: int) -> None:
    machine = accelerator(dataflow=dataflow, array_rows=rows, array_columns=columns, activation_buffer_bytes=1 << 20)
    for m, k, n in ((1, 10, 7), (5, 1, 7), (5, 10, 1), (3, 2, 2)):
        (tile,) = best_plan(Product(m, k, n, 2), machine).body
        assert tile.compute_cycles == gemm_cycles(dataflow, m, k, n, rows, columns) + 1


def test_a_tile_may_fill_half_of_the_weight_buffer_and_not_a_byte_more() -> None:
    whole = Product(5, 16, 12, 2, streams_weights=True)  # 4 bytes a row, 48 in all
    assert next(t.n for t in tilings(whole, accelerator(weight_buffer_bytes=96))) == 12
    assert max(t.n for t in tilings(whole, accelerator(weight_buffer_bytes=95))) == 6
    assert {(t.k, t.n) for t in tilings(whole, accelerator(weight_buffer_bytes=24))} == {(16, 3)}
    assert {(t.k, t.n) for t in tilings(whole, accelerator(weight_buffer_bytes=23))} == {(8, 3)}
    assert {(t.k, t.n) for t in tilings(whole, accelerator(weight_buffer_bytes=1))} == {(4, 3)}  # the array's own


def test_passing_activations_share_the_staging_area() -> None:
    machine = accelerator(activation_buffer_bytes=800)
    passing = Product(32, 8, 6, 2, streams_weights=True, input_bytes=256, output_bytes=32 * 6 * 4)
    for found in tilings(passing, machine):
        pieces = [tile.input_bytes + tile.output_bytes for tile in unrolled(plan(passing, found, machine).body)]
        assert 2 * max(pieces) <= staging_bytes(machine)


@pytest.mark.parametrize("dataflow", list(Dataflow))
@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("latency_ns", [0.0, 500.0])
def test_the_choice_is_close_to_the_best_when_all_are_walked(
    dataflow: Dataflow, product: Product, latency_ns: float
) -> None:
    machine = accelerator(dataflow=dataflow, dram_latency_ns=latency_ns, activation_buffer_bytes=4096)

    def cycles(tiling: Tiling) -> int:
        pipeline = Pipeline(machine)
        pipeline.run(plan(product, tiling, machine).body)
        return pipeline.finish()

    walked = [cycles(tiling) for tiling in tilings(product, machine)]
    # 15 %: the choice takes the steady state for the whole, and these products are few tiles long.
    assert cycles(best_plan(product, machine).tiling) <= 1.15 * min(walked)
