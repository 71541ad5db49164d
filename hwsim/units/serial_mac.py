"""Bit-serial MAC array: activations enter one bit a cycle, most significant first, in two's complement.

An element holds its weight for eight cycles. Each cycle it doubles its product register and adds the weight where
the bit is 1, or subtracts it where that bit is the sign. After the eighth the product is code * weight, and goes to
the accumulator: sums, their order and what overflows on the way are those of the parallel array.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.units.accumulator import CODE_BITS, CODE_MAGNITUDE, AccumulatorRange, accumulate_step
from hwsim.units.actions import Action, Actions
from hwsim.units.popcount import popcount

Array = np.ndarray[Any, Any]

_WORD_BITS = 64


@compiled
def serial_product(code, weight):  # type: ignore[no-untyped-def]
    """Return code * weight, int32, of two's complement codes of 8 bits, bit by bit."""
    product = np.int32(-weight if (code >> 7) & 1 else 0)
    for bit in range(6, -1, -1):
        product = np.int32(np.int32(product << 1) + (weight if (code >> bit) & 1 else np.int32(0)))
    return product


@compiled
def _ordered_sums(x, w, columns, low, high, wraps, exact, sums):  # type: ignore[no-untyped-def]
    """Fill `columns` of sums int32 (M, N), product after product in the order of k; return the overflow events."""
    events = np.int64(0)
    for m in range(x.shape[0]):
        for n in columns:
            if exact:
                total = np.int32(0)
                for k in range(x.shape[1]):
                    total += serial_product(np.int32(x[m, k]), np.int32(w[n, k]))
                sums[m, n] = total
                continue
            accumulator = np.int64(0)
            for k in range(x.shape[1]):
                product = np.int64(serial_product(np.int32(x[m, k]), np.int32(w[n, k])))
                accumulator, event = accumulate_step(accumulator, product, low, high, wraps)
                events += event
            sums[m, n] = accumulator
    return events


@compiled
def _plane_sums(planes, plus, minus, sums):  # type: ignore[no-untyped-def]
    """Fill sums int32 (M, N) from bit planes uint64 (M, 8, words) and masks of the weights 1 and -1 (N, words)."""
    for m in range(planes.shape[0]):
        for n in range(plus.shape[0]):
            total = np.int64(0)
            for plane in range(planes.shape[1]):
                ones = np.int64(0)
                for word in range(planes.shape[2]):
                    bits = planes[m, plane, word]
                    ones += np.int64(popcount(bits & plus[n, word])) - np.int64(popcount(bits & minus[n, word]))
                total = 2 * total + (ones if plane else -ones)
            sums[m, n] = total


def _words(bits: Array) -> Array:
    """Pack the last axis of a boolean array into uint64, padded with zeros."""
    missing = -bits.shape[-1] % _WORD_BITS
    padded = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, missing)])
    return np.packbits(padded, axis=-1).view(np.uint64)


def accumulate(x_codes: Array, weight_codes: Array, limits: AccumulatorRange) -> tuple[Array, int]:
    """Return (int32 sums (M, N), overflow events) of x int8 (M, K) times ternary weights int8 (N, K).

    Where no order of additions can leave the range, a whole bit plane is added at once.
    """
    sums = np.empty((x_codes.shape[0], weight_codes.shape[0]), np.int32)
    planes = x_codes[:, None, :] >> np.arange(CODE_BITS - 1, -1, -1, dtype=np.int8)[:, None] & np.int8(1)
    _plane_sums(_words(planes.astype(bool)), _words(weight_codes > 0), _words(weight_codes < 0), sums)
    reach = CODE_MAGNITUDE * np.count_nonzero(weight_codes, axis=1)
    columns = np.flatnonzero(reach > limits.high)
    events = _ordered_sums(x_codes, weight_codes, columns, limits.low, limits.high, limits.wraps, False, sums)
    return sums, int(events)


def _accumulate_products(x: Array, w: Array, limits: AccumulatorRange) -> tuple[Array, int]:
    """Return (int32 sums (M, N), overflow events) of x times w, both int8 codes, (M, K) and (N, K)."""
    sums = np.empty((x.shape[0], w.shape[0]), np.int32)
    exact = limits.holds(CODE_MAGNITUDE * CODE_MAGNITUDE * x.shape[1])
    columns = np.arange(w.shape[0])
    events = _ordered_sums(x, np.ascontiguousarray(w), columns, limits.low, limits.high, limits.wraps, exact, sums)
    return sums, int(events)


def accumulate_scores(query: Array, key: Array, heads: int, limits: AccumulatorRange) -> tuple[Array, int]:
    """Return (int32 sums (B, heads, S, S), overflow events) of int8 codes (B, S, H), the query's bit by bit."""
    batch, tokens, hidden = query.shape
    sums, events, size = np.empty((batch, heads, tokens, tokens), np.int32), 0, hidden // heads
    for b, head in np.ndindex(batch, heads):
        part = slice(head * size, (head + 1) * size)
        sums[b, head], found = _accumulate_products(np.ascontiguousarray(query[b, :, part]), key[b, :, part], limits)
        events += found
    return sums, events


def accumulate_context(probabilities: Array, value: Array, heads: int, limits: AccumulatorRange) -> tuple[Array, int]:
    """Return (int32 sums (B, S, H), overflow events) of int8 codes (B, heads, S, S), bit by bit, and (B, S, H)."""
    sums, events, size = np.empty(value.shape, np.int32), 0, value.shape[2] // heads
    for b, head in np.ndindex(len(value), heads):
        part = slice(head * size, (head + 1) * size)
        sums[b, :, part], found = _accumulate_products(probabilities[b, head], value[b, :, part].T, limits)
        events += found
    return sums, events


def step_actions(macs: int, weight_bits: int) -> Actions:
    """Return what `macs` products take before the accumulator: eight additions to a product register each.

    An addition as wide as the product is that part of a 32-bit one; its register is clocked with it.
    """
    product_bits = CODE_BITS if weight_bits < CODE_BITS else 2 * CODE_BITS
    word_operations = -(-CODE_BITS * product_bits * macs // 32)
    register_bits = CODE_BITS * product_bits * macs
    return Actions({Action.WORD_OPERATION: word_operations, Action.OPERAND_REGISTER_BIT: register_bits})
