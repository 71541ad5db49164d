"""Switching activity of one matrix product on the array, from its operands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from hwsim.activity.held_sums import held_sums_toggles
from hwsim.activity.operands import Operand
from hwsim.activity.registers import loading_toggles, passing_toggles
from hwsim.activity.serial_products import serial_product_toggles
from hwsim.activity.streamed_sums import streamed_sums_toggles
from hwsim.activity.ternary_products import along_k, along_stream, pair_counts, pair_toggles, staying
from hwsim.activity.wires import Activity, WireClass
from hwsim.config import Accelerator, Dataflow, ZeroGating
from hwsim.schedule.timing import loading_steps
from hwsim.units.accumulator import CODE_BITS

Array = np.ndarray[Any, Any]

_NARROW_HIGH = (1 << 15) - 1
Across = Callable[[Callable[[Array], Any], Iterable[Array]], Iterable[Any]]


class ProductCounter:
    """Counts x (M, K) times weight (N, K) on one accelerator's array.

    `pieces` parts of a product are counted through `across`, which is `map` or a pool's.
    """

    def __init__(self, accelerator: Accelerator, *, pieces: int = 1, across: Across = map) -> None:
        self._array = accelerator
        self._pieces, self._across = pieces, across
        self._shift = CODE_BITS - 1 if accelerator.bit_serial else 0

    def count(self, x: Operand, weight: Operand) -> Activity:
        """Return the activity of one product. `weight` may be the second operand of a product of activations."""
        m, n, k = len(x.codes), len(weight.codes), x.codes.shape[1]
        found = Activity(
            macs=m * n * k,
            zero_activation_macs=n * int(x.zeros_by_k.sum()),
            zero_weight_macs=m * int(weight.zeros_by_k.sum()),
            zero_both_macs=int(x.zeros_by_k @ weight.zeros_by_k),
        )
        gates_x, gates_weight = self._gates(weight)
        if gates_weight:
            found.gated_macs = found.zero_weight_macs
            if gates_x:
                found.gated_macs += found.zero_activation_macs - found.zero_both_macs
        self._count_operands(found, x, weight)
        if self._array.dataflow is Dataflow.OUTPUT_STATIONARY:
            self._count_held(found, x, weight)
        else:
            self._count_streamed(found, x, weight)
        if self._array.bit_serial:
            found.toggles[WireClass.PRODUCT] += serial_product_toggles(x.codes, weight.codes, _product_bits(weight))
            cycles = self._array.cycles_per_step * (found.macs - found.gated_macs)
            found.clocked_bits[WireClass.PRODUCT] = _product_bits(weight) * cycles
        return found

    def _gates(self, weight: Operand) -> tuple[bool, bool]:
        """Return whether zeros of (x, weight) gate; the weights of a product of activations are activations."""
        every = self._array.zero_gating is ZeroGating.WEIGHTS_AND_ACTIVATIONS
        return every, every or (weight.ternary and self._array.zero_gating is ZeroGating.WEIGHTS)

    def _arithmetic(self, weight: Operand, *, counts_products: bool) -> tuple[int, Any, Any]:
        """Return (largest sum in 16 bits, limits, masks) as the kernels take them."""
        limits, bits = self._array.accumulator_range, self._array.accumulator_bits
        held = (np.int32(limits.low), np.int32(limits.high), limits.wraps, np.int32(32 - bits))
        product_mask = (1 << _product_bits(weight)) - 1 if counts_products else 0
        narrow_high = min(_NARROW_HIGH, limits.high) if weight.ternary else -1
        return narrow_high, held, (np.uint32((1 << bits) - 1), np.uint32(product_mask))

    def _count_operands(self, found: Activity, x: Operand, weight: Operand) -> None:
        """Count the operand registers: what passes goes through as many elements as use it."""
        array, (m, k), n = self._array, x.codes.shape, len(weight.codes)
        holds_zeros, _ = self._gates(weight)
        settings = {"serial": array.bit_serial, "holds_zeros": holds_zeros}
        match array.dataflow:
            case Dataflow.OUTPUT_STATIONARY:
                activations = n * passing_toggles(x.fields, **settings)
                weights = m * weight.once("rows", lambda: passing_toggles(weight.fields))
            case Dataflow.WEIGHT_STATIONARY:
                activations = n * passing_toggles(x.fields.T, **settings)
                weights = weight.once("loading", lambda: loading_toggles(weight.fields, array.array_rows))
            case Dataflow.INPUT_STATIONARY:
                activations = loading_toggles(x.fields, array.array_rows)
                weights = m * weight.once("columns", lambda: passing_toggles(weight.fields.T))
        clocked_x = CODE_BITS * found.macs
        if array.dataflow is Dataflow.INPUT_STATIONARY:
            clocked_x = CODE_BITS * loading_steps(m, k, array.array_rows)
        elif holds_zeros:  # a flag of one bit goes along, and says that the register beside it did not change
            flags = (x.codes == 0).view(np.uint8)
            along = flags if array.dataflow is Dataflow.OUTPUT_STATIONARY else flags.T
            activations += n * passing_toggles(along)
            clocked_x += found.macs - CODE_BITS * found.zero_activation_macs
        stays = array.dataflow is Dataflow.WEIGHT_STATIONARY
        clocked_weight = weight.bits * (loading_steps(n, k, array.array_rows) if stays else found.macs)
        found.toggles.update({WireClass.ACTIVATION_REGISTER: activations, WireClass.WEIGHT_REGISTER: weights})
        found.clocked_bits.update({WireClass.ACTIVATION_REGISTER: clocked_x, WireClass.WEIGHT_REGISTER: clocked_weight})

    def _count_held(self, found: Activity, x: Operand, weight: Operand) -> None:
        gates = self._gates(weight)
        by_pairs = weight.ternary and not any(gates)
        arithmetic = self._arithmetic(weight, counts_products=not by_pairs)

        def of_part(lanes: Array) -> tuple[int, int, int]:
            narrow_high, *limits_and_masks = arithmetic
            settings = (narrow_high, self._array.array_rows, gates, *limits_and_masks)
            return held_sums_toggles(x.codes, self._shift, lanes, *settings)

        parts = list(self._across(of_part, self._shares(weight)))
        classes = (WireClass.SUM_REGISTER, WireClass.PRODUCT, WireClass.SUM_BUS)
        for wires, counts in zip(classes, zip(*parts, strict=True), strict=True):
            found.toggles[wires] += sum(counts)
        if by_pairs:
            pairs = weight.once("pairs", lambda: pair_counts(along_k(weight.codes)))
            found.toggles[WireClass.PRODUCT] += int(np.vdot(pairs, pair_toggles(along_k(x.codes, self._shift))))
        found.clocked_bits[WireClass.SUM_REGISTER] = self._array.accumulator_bits * (found.macs - found.gated_macs)

    def _count_streamed(self, found: Activity, x: Operand, weight: Operand) -> None:
        bits, rows, k = self._array.accumulator_bits, self._array.array_rows, x.codes.shape[1]
        weights_stay = self._array.dataflow is Dataflow.WEIGHT_STATIONARY
        stays, moves = (weight, x) if weights_stay else (x, weight)
        gates_x, gates_weight = self._gates(weight)
        holds_zeros = gates_x if weights_stay else gates_weight
        passing = moves.once("passing", lambda: moves.passing(shift=self._shift, holds_zeros=holds_zeros))
        arithmetic = self._arithmetic(weight, counts_products=not weight.ternary)

        def of_part(lanes: Array) -> tuple[int, Array]:
            by_k = np.zeros(k, np.int64)
            operands = (passing.moving, passing.opening, passing.closing, lanes, stays.largest)
            return streamed_sums_toggles(*operands, *arithmetic, by_k), by_k

        products, by_part = zip(*self._across(of_part, self._shares(stays)), strict=True)
        by_k = np.sum(by_part, axis=0)
        if weight.ternary:
            pairs = staying(stays.codes), along_stream(passing)
            codes, weights = reversed(pairs) if weights_stay else pairs
            counts = weight.once("pairs", lambda: pair_counts(weights))
            found.toggles[WireClass.PRODUCT] += int(np.vdot(counts, pair_toggles(codes)))
        idle_rows = -k % rows  # below the last product of a ragged fold a sum still has to leave
        leaving = by_k[[*range(rows - 1, k - 1, rows), k - 1]]
        found.toggles[WireClass.SUM_REGISTER] += int(by_k.sum() + idle_rows * by_k[-1])
        found.toggles[WireClass.PRODUCT] += sum(products)
        found.toggles[WireClass.SUM_BUS] += int(2 * leaving.sum() - leaving[-1])  # all but the last come back
        found.clocked_bits[WireClass.SUM_REGISTER] = bits * len(x.codes) * len(weight.codes) * (k + idle_rows)

    def _shares(self, operand: Operand) -> Sequence[Array]:
        """Return the blocks of an operand's lanes in parts, to be counted side by side."""
        lanes = operand.once("lanes", lambda: operand.lanes(self._pieces))
        return [part for part in np.array_split(lanes, self._pieces) if len(part)]


def _product_bits(weight: Operand) -> int:
    return CODE_BITS if weight.ternary else 2 * CODE_BITS
