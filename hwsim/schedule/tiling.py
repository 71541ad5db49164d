"""Cuts a matrix product into tiles: what each computes, and what it moves at every level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from math import ceil

from hwsim.config import Accelerator, Dataflow
from hwsim.schedule.pipeline import Repeat, Tile, total
from hwsim.schedule.timing import array_cycles, operand_counts, port_cycles

ASSUMPTIONS = (
    "Half of the weight buffer holds a tile's weights, the other half the next tile's.",
    "A row of a tile's ternary weights is padded to a whole byte, in DRAM too.",
)
STAGING_SHARE = 4  # one part in so many of the activation buffer, where activations do not fit


class Stays(StrEnum):
    """Which operand stays on the chip while the other passes by."""

    WEIGHTS = "weights"
    INPUTS = "inputs"


@dataclass(frozen=True)
class Product:
    """One product x (M, K) times weight (N, K) and where its operands are; bytes are those in DRAM."""

    m: int
    k: int
    n: int
    weight_bits: int
    streams_weights: bool = False
    parameter_bytes: int = 0  # scales and bias, streamed with the weights
    operand_bytes: int = 0  # of a second operand that is an activation
    input_bytes: int = 0
    output_bytes: int = 0
    output_item_bytes: int = 4

    @property
    def of_activations(self) -> bool:
        """Whether both operands are activations."""
        return self.weight_bits == 8


@dataclass(frozen=True)
class Tiling:
    """Sizes of a tile and which operand stays."""

    m: int
    k: int
    n: int
    stays: Stays


@dataclass(frozen=True)
class Plan:
    """A product cut into tiles."""

    tiling: Tiling
    body: tuple[Tile | Repeat, ...]

    @cached_property
    def total(self) -> Tile:
        """Sum of all tiles."""
        return total(self.body)


def plan(product: Product, tiling: Tiling, accelerator: Accelerator) -> Plan:
    """Return the product in tiles of the given sizes, in the order in which they are computed."""
    counts = {"m": ceil(product.m / tiling.m), "k": ceil(product.k / tiling.k), "n": ceil(product.n / tiling.n)}
    order = "nkm" if tiling.stays is Stays.WEIGHTS else "mnk"

    def loops(depth: int, index: dict[str, int]) -> tuple[Tile | Repeat, ...]:
        if depth == len(order):
            return (_tile(product, tiling, counts, index, accelerator),)
        parts: list[Tile | Repeat] = []
        for i, times in representatives(counts[order[depth]]):
            inner = loops(depth + 1, index | {order[depth]: i})
            parts += inner if times == 1 else (Repeat(times, inner),)
        return tuple(parts)

    return Plan(tiling, loops(0, {}))


def _tile(
    product: Product, tiling: Tiling, counts: dict[str, int], index: dict[str, int], accelerator: Accelerator
) -> Tile:
    m, k, n = (
        min(size, whole - index[axis] * size)
        for axis, size, whole in (
            ("m", tiling.m, product.m),
            ("k", tiling.k, product.k),
            ("n", tiling.n, product.n),
        )
    )
    starts, ends = index["k"] == 0, index["k"] == counts["k"] - 1
    shape = (accelerator.dataflow, m, k, n, accelerator.array_rows, accelerator.array_columns)
    moved = operand_counts(*shape, starts=starts, ends=ends)
    shift_in = 0
    if accelerator.dataflow is Dataflow.OUTPUT_STATIONARY and not starts:
        shift_in = accelerator.array_rows * ceil(m / accelerator.array_rows) * ceil(n / accelerator.array_columns)
    cycles = array_cycles(*shape, cycles_per_step=accelerator.cycles_per_step) + shift_in
    weights = _weight_bytes(product, tiling, counts, index, k=k, n=n)
    inputs, outputs = _activation_bytes(product, tiling, counts, index)
    weight_bits = product.weight_bits * moved.weight_reads
    sums = accelerator.accumulator_bytes * (moved.partial_sum_writes + moved.partial_sum_reads)
    through_activations = moved.input_reads + sums + inputs + outputs + ends * m * n * product.output_item_bytes
    second_operand = weight_bits / 8 if product.of_activations else 0
    through_weights = weights + weight_bits / 8 - second_operand
    occupied = max(
        cycles,
        port_cycles(through_activations + second_operand, accelerator.activation_buffer_bytes_per_cycle),
        port_cycles(through_weights, accelerator.weight_buffer_bytes_per_cycle),
    )
    return Tile(
        cycles,
        occupied,
        weights,
        inputs,
        outputs,
        weight_bits,
        moved.input_reads,
        accelerator.accumulator_bytes * moved.partial_sum_writes,
        accelerator.accumulator_bytes * moved.partial_sum_reads,
    )


def _weight_bytes(
    product: Product, tiling: Tiling, counts: dict[str, int], index: dict[str, int], *, k: int, n: int
) -> int:
    """Return the bytes of weights, scales and bias that a tile waits for."""
    one_weight_tile = counts["k"] * counts["n"] == 1
    if index["m"] and (tiling.stays is Stays.WEIGHTS or one_weight_tile):
        return 0
    matrix = n * ceil(k * product.weight_bits / 8) if product.streams_weights else 0
    return matrix + (share(product.parameter_bytes, counts["n"], index["n"]) if index["k"] == 0 else 0)


def _activation_bytes(
    product: Product, tiling: Tiling, counts: dict[str, int], index: dict[str, int]
) -> tuple[int, int]:
    """Return the bytes of activations that a tile waits for and puts out, of those that live in DRAM."""
    inputs = outputs = 0
    pieces = counts["m"] * counts["k"]
    if index["n"] == 0 or (tiling.stays is Stays.WEIGHTS and pieces > 1):
        inputs = share(product.input_bytes, pieces, index["m"] * counts["k"] + index["k"])
    if index["m"] == 0:  # a second operand stays like weights, and is never cut
        inputs += product.operand_bytes
    if index["k"] == counts["k"] - 1:
        outputs = share(product.output_bytes, counts["m"] * counts["n"], index["m"] * counts["n"] + index["n"])
    return inputs, outputs


def representatives(count: int) -> Iterator[tuple[int, int]]:
    """Yield (index, how many are like it): the first, those in the middle, the last."""
    if count > 2:
        yield from ((0, 1), (1, count - 2), (count - 1, 1))
    else:
        yield from ((i, 1) for i in range(count))


def share(whole: int, parts: int, index: int) -> int:
    """Return part `index` of `whole`; the last takes what is left over."""
    return whole // parts + (whole % parts if index == parts - 1 else 0)


def staging_bytes(accelerator: Accelerator) -> int:
    """Return the part of the activation buffer that partial sums and passing activations share."""
    return accelerator.activation_buffer_bytes // STAGING_SHARE


def partial_sum_bytes(m: int, k: int, n: int, accelerator: Accelerator, *, sliced: bool = False) -> int:
    """Return the bytes of partial sums that wait in the activation buffer at once; `sliced` between tiles of K."""
    columns = accelerator.array_columns
    if k <= accelerator.array_rows or (accelerator.dataflow is Dataflow.OUTPUT_STATIONARY and not sliced):
        return 0
    if accelerator.dataflow is Dataflow.INPUT_STATIONARY and not sliced:
        return min(m, columns) * n * accelerator.accumulator_bytes
    return m * min(n, columns) * accelerator.accumulator_bytes
