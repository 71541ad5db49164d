"""The array, one element and one step at a time in plain integers: what the activity kernels are held to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hwsim.activity.wires import WireClass
from hwsim.config import Accelerator, Dataflow, ZeroGating
from ti_qat.artifact.packing import FIELD_MASK, pack_ternary


@dataclass
class Register:
    """A register or a wire of `bits` bits that starts cleared; counts what changes and how often it is clocked."""

    bits: int
    value: int = 0
    toggles: int = 0
    clocks: int = 0

    def take(self, value: int) -> None:
        self.clocks += 1
        self.show(value)

    def show(self, value: int) -> None:
        self.toggles += bin((self.value ^ value) & ((1 << self.bits) - 1)).count("1")
        self.value = value


@dataclass
class Walk:
    accelerator: Accelerator
    ternary: bool
    toggles: Counter[WireClass] = field(default_factory=Counter)
    clocked_bits: Counter[WireClass] = field(default_factory=Counter)
    gated: int = 0

    def close(self, wires: WireClass, *registers: Register) -> None:
        for register in registers:
            register.show(0)
            self.toggles[wires] += register.toggles
            self.clocked_bits[wires] += register.clocks * register.bits

    @property
    def product_bits(self) -> int:
        return 8 if self.ternary else 16

    def weight_field(self, code: int) -> int:
        """A ternary weight as packed, less the packed zero, which is what a cleared register holds."""
        if not self.ternary:
            return code
        packed, zero = pack_ternary(np.array([[code], [0]], np.int8))[:, 0] & FIELD_MASK
        return int(packed ^ zero)

    def gates(self, x: int, w: int) -> bool:
        match self.accelerator.zero_gating:
            case ZeroGating.NONE:
                return False
            case ZeroGating.WEIGHTS:
                return self.ternary and w == 0
            case ZeroGating.WEIGHTS_AND_ACTIVATIONS:
                return x == 0 or w == 0

    def added(self, total: int, product: int) -> int:
        bits = self.accelerator.accumulator_bits
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        total += product
        if self.accelerator.accumulator_range.wraps:
            return (total - low) % (1 << bits) + low
        return max(low, min(high, total))

    def pass_activation(self, register: Register, flag: Register, code: int) -> None:
        if self.accelerator.zero_gating is ZeroGating.WEIGHTS_AND_ACTIVATIONS:
            flag.take(int(code == 0))
            if code == 0:
                return
        if self.accelerator.bit_serial:
            for bit in range(7, -1, -1):
                register.take((code >> bit) & 1)
        else:
            register.take(code)

    def multiply(self, product: Register, x: int, w: int) -> bool:
        """Put x * w on the product's wires, unless gated; return whether it was not."""
        if self.gates(x, w):
            self.gated += 1
            return False
        if self.accelerator.bit_serial:
            value = 0
            for bit in range(7, -1, -1):
                digit = (x >> bit) & 1
                value = 2 * value + (-w if bit == 7 else w) * digit
                product.take(value)
            assert value == x * w
        else:
            product.show(x * w)
        return True


def walk(x: Any, w: Any, accelerator: Accelerator, *, ternary: bool) -> Walk:
    """Walk x (M, K) times w (N, K), fold by fold; every register is cleared before and after a fold."""
    found = Walk(accelerator, ternary)
    rows, columns = accelerator.array_rows, accelerator.array_columns
    x, w = x.tolist(), w.tolist()
    m, n, k = len(x), len(w), len(x[0])
    if accelerator.dataflow is Dataflow.OUTPUT_STATIONARY:
        for m0 in range(0, m, rows):
            for n0 in range(0, n, columns):
                _held_fold(found, x[m0 : m0 + rows], w[n0 : n0 + columns])
        return found
    weights_stay = accelerator.dataflow is Dataflow.WEIGHT_STATIONARY
    stays, moves = (w, x) if weights_stay else (x, w)
    partial = [[0] * len(stays) for _ in moves]
    for s0 in range(0, len(stays), columns):
        for k0 in range(0, k, rows):
            _streamed_fold(found, stays, moves, slice(s0, s0 + columns), range(k0, min(k0 + rows, k)), partial)
    return found


def _held_fold(found: Walk, x: list[list[int]], w: list[list[int]]) -> None:
    bits = found.accelerator.accumulator_bits
    sums = [[Register(bits) for _ in w] for _ in x]
    for r, row in enumerate(x):
        for c, column in enumerate(w):
            activation = Register(1 if found.accelerator.bit_serial else 8)
            flag, weight = Register(1), Register(2 if found.ternary else 8)
            product = Register(found.product_bits)
            for code, weight_code in zip(row, column, strict=True):
                found.pass_activation(activation, flag, code)
                weight.take(found.weight_field(weight_code))
                if found.multiply(product, code, weight_code):
                    sums[r][c].take(found.added(sums[r][c].value, code * weight_code))
            found.close(WireClass.ACTIVATION_REGISTER, activation, flag)
            found.close(WireClass.WEIGHT_REGISTER, weight)
            found.close(WireClass.PRODUCT, product)
    for c in range(len(w)):
        bus = Register(bits)
        for r in range(len(x)):
            bus.show(sums[r][c].value)
        found.close(WireClass.SUM_BUS, bus)
    for register in (register for row in sums for register in row):
        found.close(WireClass.SUM_REGISTER, register)


def _streamed_fold(
    found: Walk,
    stays: list[list[int]],
    moves: list[list[int]],
    chosen: slice,
    depth: range,
    partial: list[list[int]],
) -> None:
    accelerator = found.accelerator
    weights_stay, bits = accelerator.dataflow is Dataflow.WEIGHT_STATIONARY, accelerator.accumulator_bits
    staying = WireClass.WEIGHT_REGISTER if weights_stay else WireClass.ACTIVATION_REGISTER
    width = (2 if found.ternary else 8) if weights_stay else 8
    last_fold = depth.stop == len(stays[0])
    for s in range(len(stays))[chosen]:
        loaded = [Register(width) for _ in depth]
        shifted_in: list[int] = []
        for k in reversed(depth):  # each step moves all one row down
            code = stays[s][k]
            shifted_in.insert(0, found.weight_field(code) if weights_stay else code)
            for register, value in zip(loaded, shifted_in, strict=False):
                register.take(value)
        found.close(staying, *loaded)
        entry, bus = Register(bits), Register(bits)
        sums = [Register(bits) for _ in range(accelerator.array_rows)]
        products = [Register(found.product_bits) for _ in depth]
        moving = [Register((1 if accelerator.bit_serial else 8) if weights_stay else width) for _ in depth]
        if not weights_stay:
            moving = [Register(2 if found.ternary else 8) for _ in depth]
        flags = [Register(1) for _ in depth]
        for t, row in enumerate(moves):
            total = partial[t][s]
            if depth.start:
                entry.show(total)
            for r in range(accelerator.array_rows):
                if r < len(depth):
                    still, code = stays[s][depth[r]], row[depth[r]]
                    if weights_stay:
                        found.pass_activation(moving[r], flags[r], code)
                    else:
                        moving[r].take(found.weight_field(code))
                    x, w = (code, still) if weights_stay else (still, code)
                    found.multiply(products[r], x, w)
                    total = found.added(total, x * w)
                if r < len(depth) or last_fold:
                    sums[r].take(total)
            bus.show(total)
            partial[t][s] = total
        found.close(WireClass.ACTIVATION_REGISTER if weights_stay else WireClass.WEIGHT_REGISTER, *moving)
        found.close(WireClass.ACTIVATION_REGISTER, *flags)
        found.close(WireClass.PRODUCT, *products)
        found.close(WireClass.SUM_REGISTER, *sums)
        found.close(WireClass.SUM_BUS, entry, bus)
