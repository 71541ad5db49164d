"""Of all ways to cut a matrix product into tiles that fit the buffers, takes the one that is done first."""

from __future__ import annotations

from functools import lru_cache
from itertools import product as combinations
from math import ceil

from hwsim.config import Accelerator, Dataflow
from hwsim.schedule.pipeline import Repeat, Tile, first_latency_cycles, leaves
from hwsim.schedule.tiling import Plan, Product, Stays, Tiling, partial_sum_bytes, plan, staging_bytes

ASSUMPTIONS = (
    "Tiles are chosen by search: sizes that are whole arrays, doubled or halved, and whether weights or inputs stay "
    "while the other passes by; of those within 2 % of the first to finish, the one with the least DRAM traffic.",
)
_AS_FAST = 1.02  # DRAM traffic is worth a little time
_SIZES_TRIED = 4  # tiles smaller than a few times the largest only add fill, drain and latency


@lru_cache(maxsize=4096)
def best_plan(product: Product, accelerator: Accelerator) -> Plan:
    """Return the plan with the least DRAM traffic of those that are done first when nothing else uses the channel."""
    plans = [plan(product, tiling, accelerator) for tiling in tilings(product, accelerator)]
    cycles = [_finish_cycles(found, accelerator) for found in plans]
    in_time = [found for found, taken in zip(plans, cycles, strict=True) if taken <= _AS_FAST * min(cycles)]
    return min(in_time, key=_dram_bytes)


def tilings(product: Product, accelerator: Accelerator) -> tuple[Tiling, ...]:
    """Return the tilings that fit, or the smallest there is if none does."""
    rows, columns = accelerator.array_rows, accelerator.array_columns
    weights = [(product.k, product.n)]
    if product.streams_weights:
        room = accelerator.weight_buffer_bytes // 2
        whole_rows = [(product.k, n) for n in _sizes(product.n, columns)]
        slices = [(k, min(columns, product.n)) for k in _sizes(product.k, rows)]
        fitting = [size for size in whole_rows if _weight_tile_bytes(product, *size) <= room][:_SIZES_TRIED]
        weights = fitting or [s for s in slices if _weight_tile_bytes(product, *s) <= room][:1] or [slices[-1]]
    step = columns if accelerator.dataflow is Dataflow.INPUT_STATIONARY else rows
    found = [
        Tiling(m, k, n, stays)
        for (k, n), m, stays in combinations(weights, _sizes(product.m, step), tuple(Stays))
        if stays is Stays.WEIGHTS or (m < product.m and (k, n) != (product.k, product.n))  # else it is the same
    ]
    fits = [tiling for tiling in found if _staging_bytes(product, tiling, accelerator) <= staging_bytes(accelerator)]
    largest = [m for m in _sizes(product.m, step) if any(tiling.m == m for tiling in fits)][:_SIZES_TRIED]
    if not (product.input_bytes or product.operand_bytes):
        largest = largest[:1]  # nothing passes by, so smaller pieces gain nothing
    return tuple(tiling for tiling in fits if tiling.m in largest) or (found[-1],)


def _sizes(whole: int, unit: int) -> tuple[int, ...]:
    """Return `whole` and `unit` times a power of two below it, largest first."""
    sizes = [whole]
    size = unit
    smaller = []
    while size < whole:
        smaller.append(size)
        size *= 2
    return (*sizes, *reversed(smaller))


def _weight_tile_bytes(product: Product, k: int, n: int) -> int:
    tiles = ceil(product.n / n)
    parameters = product.parameter_bytes // tiles + product.parameter_bytes % tiles
    return n * ceil(k * product.weight_bits / 8) + parameters


def _staging_bytes(product: Product, tiling: Tiling, accelerator: Accelerator) -> int:
    """Return what a tiling needs of it: two pieces of what passes by, and the sums of a fold."""
    of_rows, sliced = tiling.m / product.m, tiling.k < product.k
    inputs = product.input_bytes + product.operand_bytes
    passing = of_rows * (inputs + product.output_bytes * tiling.n / product.n)
    m = product.m if sliced and tiling.stays is Stays.WEIGHTS else tiling.m
    return 2 * ceil(passing) + partial_sum_bytes(m, product.k, tiling.n, accelerator, sliced=sliced)


def _dram_bytes(found: Plan) -> int:
    return found.total.fetched_bytes + found.total.output_bytes


def _finish_cycles(found: Plan, accelerator: Accelerator) -> float:
    """Return when the plan is done, its steady state taken for the whole: cheap enough to ask of every tiling."""
    whole, opening = found.total, next(leaves(found.body))
    loads = _loads(found.body)
    per_byte = accelerator.clock_hz / accelerator.dram_bandwidth_bytes_per_s
    transfer = _dram_bytes(found) * per_byte
    if not loads:
        return max(whole.occupied_cycles, transfer)
    latency = first_latency_cycles(accelerator)
    first = latency + opening.fetched_bytes * per_byte
    # Two slots: a fetch, its latency and two computations make a circuit that two tiles share.
    circuit = (loads * latency + transfer + whole.occupied_cycles) / 2
    return first + max(whole.occupied_cycles, transfer, circuit)


def _loads(body: tuple[Tile | Repeat, ...]) -> int:
    return sum(
        item.count * _loads(item.body) if isinstance(item, Repeat) else bool(item.fetched_bytes) for item in body
    )
