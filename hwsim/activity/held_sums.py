"""Toggles where sums stay in their elements and operands pass: output stationary.

An element (m, n) sees x[m, k] and w[n, k] for k = 0, 1, ... Lanes are columns n, so that one instruction counts
the toggles of 32 elements: in 16 bits wherever the sums of the next few k provably fit, else in 32.
"""

from __future__ import annotations

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.units.popcount import popcount

_CHUNK = 128  # products between two looks at how large the sums have become
_NARROW_HIGH = (1 << 15) - 1


@compiled
def _narrow_steps(codes, shift, m, lanes, block, steps, count, gates_lanes, product_mask, sums, held):  # type: ignore[no-untyped-def]
    """Take `count` steps, a multiple of 4, in int16; return toggles of (low 16 sum bits, sum sign, product).

    Each loop adds 4 * 16 ones a lane at most, so that 256 lanes stay within uint16.
    """
    ones, signs, products = np.int64(0), np.int64(0), np.int64(0)
    sign = np.uint16(15)
    for i in range(0, count, 4):
        k0, k1, k2, k3 = steps[i], steps[i + 1], steps[i + 2], steps[i + 3]
        x0, x1 = np.int16(codes[m, k0]), np.int16(codes[m, k1])
        x2, x3 = np.int16(codes[m, k2]), np.int16(codes[m, k3])
        f0, f1, f2, f3 = x0 >> shift, x1 >> shift, x2 >> shift, x3 >> shift
        bits, flips, wires = np.uint16(0), np.uint16(0), np.uint16(0)
        for n in range(sums.shape[0]):
            w0, w1 = np.int16(lanes[block, k0, n]), np.int16(lanes[block, k1, n])
            w2, w3 = np.int16(lanes[block, k2, n]), np.int16(lanes[block, k3, n])
            p0, p1, p2, p3 = np.int16(x0 * w0), np.int16(x1 * w1), np.int16(x2 * w2), np.int16(x3 * w3)
            s = sums[n]
            s0 = np.int16(s + p0)
            s1 = np.int16(s0 + p1)
            s2 = np.int16(s1 + p2)
            s3 = np.int16(s2 + p3)
            sums[n] = s3
            d0, d1, d2, d3 = np.uint16(s ^ s0), np.uint16(s0 ^ s1), np.uint16(s1 ^ s2), np.uint16(s2 ^ s3)
            bits = np.uint16(bits + popcount(d0) + popcount(d1) + popcount(d2) + popcount(d3))
            flips = np.uint16(flips + (d0 >> sign) + (d1 >> sign) + (d2 >> sign) + (d3 >> sign))
            h = held[n]
            q0, q1, q2, q3 = np.int16(f0 * w0), np.int16(f1 * w1), np.int16(f2 * w2), np.int16(f3 * w3)
            if gates_lanes:
                p0, q0 = (p0, q0) if w0 != 0 else (h, h)
                p1, q1 = (p1, q1) if w1 != 0 else (p0, p0)
                p2, q2 = (p2, q2) if w2 != 0 else (p1, p1)
                p3, q3 = (p3, q3) if w3 != 0 else (p2, p2)
            held[n] = p3
            e0, e1 = np.uint16(np.uint16(q0 ^ h) & product_mask), np.uint16(np.uint16(q1 ^ p0) & product_mask)
            e2, e3 = np.uint16(np.uint16(q2 ^ p1) & product_mask), np.uint16(np.uint16(q3 ^ p2) & product_mask)
            wires = np.uint16(wires + popcount(e0) + popcount(e1) + popcount(e2) + popcount(e3))
        ones += np.int64(bits)
        signs += np.int64(flips)
        products += np.int64(wires)
    return ones, signs, products


@compiled
def _wide_steps(codes, shift, m, lanes, block, steps, first, last, gates_lanes, limits, masks, sums, held):  # type: ignore[no-untyped-def]
    """Take the steps from `first` to `last` in int32, held within any limits; return toggles of (sum, product)."""
    low, high, wraps, spare_bits = limits
    sum_mask, product_mask = masks
    bits, wires = np.int64(0), np.int64(0)
    for i in range(first, last):
        k = steps[i]
        x = np.int32(codes[m, k])
        opening = x >> shift
        changed, driven = np.uint32(0), np.uint32(0)
        for n in range(sums.shape[0]):
            w = np.int32(lanes[block, k, n])
            before, product = sums[n], held[n]
            value = np.int32(before + np.int32(x * w))
            saturated = min(max(value, low), high)
            wrapped = np.int32(np.int32(value << spare_bits) >> spare_bits)
            value = wrapped if wraps else saturated
            sums[n] = value
            changed = np.uint32(changed + popcount(np.uint32(np.uint32(value ^ before) & sum_mask)))
            active = w != 0 or not gates_lanes
            first_product = np.int32(opening * w) if active else product
            held[n] = np.int32(x * w) if active else product
            driven = np.uint32(driven + popcount(np.uint32(np.uint32(first_product ^ product) & product_mask)))
        bits += np.int64(changed)
        wires += np.int64(driven)
    return bits, wires


@compiled
def _plan_steps(codes, m, first, last, gates_codes, steps):  # type: ignore[no-untyped-def]
    """Fill `steps` with the k in [first, last) that are not gated; return (their number, sum of |code|)."""
    count, magnitude = 0, 0
    for k in range(first, last):
        code = np.int64(codes[m, k])
        if code != 0 or not gates_codes:
            steps[count] = k
            count += 1
        magnitude += abs(code)
    return count, magnitude


@compiled
def _settle_row(sums, held, masks, bus, opens_fold):  # type: ignore[no-untyped-def]
    """Put a row's sums on the bus, then clear; return the toggles of (sum, product, bus)."""
    sum_mask, product_mask = masks
    cleared, released, sent = np.int64(0), np.int64(0), np.int64(0)
    for n in range(sums.shape[0]):
        if opens_fold:
            sent += np.int64(popcount(np.uint32(np.uint32(bus[n]) & sum_mask)))
            bus[n] = 0
        sent += np.int64(popcount(np.uint32(np.uint32(bus[n] ^ sums[n]) & sum_mask)))
        bus[n] = sums[n]
        cleared += np.int64(popcount(np.uint32(np.uint32(sums[n]) & sum_mask)))
        released += np.int64(popcount(np.uint32(np.uint32(held[n]) & product_mask)))
        sums[n] = held[n] = 0
    return cleared, released, sent


@compiled
def held_sums_toggles(codes, shift, lanes, largest, array_rows, gates, limits, masks, sum_bits):  # type: ignore[no-untyped-def]
    """Return the toggles of (sum, product, bus) for codes int8 (M, K) against lanes int8 (blocks, K, L).

    `largest` bounds |lanes|; gates are (of codes, of lanes): a zero there leaves sum and product as they are.
    `limits` are (low, high, wraps, 32 - sum_bits) and `masks` the bits of a sum and of a product that exist.
    """
    gates_codes, gates_lanes = gates
    length = lanes.shape[2]
    sums, held, bus = np.zeros(length, np.int32), np.zeros(length, np.int32), np.zeros(length, np.int32)
    narrow_sums, narrow_held = np.zeros(length, np.int16), np.zeros(length, np.int16)
    steps = np.zeros(_CHUNK, np.int64)
    narrow_high, narrow_mask = min(np.int64(_NARROW_HIGH), np.int64(limits[1])), np.uint16(masks[1])
    of_sum, of_product, of_bus = np.int64(0), np.int64(0), np.int64(0)
    for block in range(lanes.shape[0]):
        for m in range(codes.shape[0]):
            for first in range(0, codes.shape[1], _CHUNK):
                last = min(first + _CHUNK, codes.shape[1])
                count, magnitude = _plan_steps(codes, m, first, last, gates_codes, steps)
                done, peak = 0, np.int32(0)
                for n in range(length):
                    peak = max(peak, abs(sums[n]))
                if np.int64(peak) + magnitude * largest <= narrow_high:
                    done = count // 4 * 4
                    narrow_sums[:] = sums
                    narrow_held[:] = held
                    ones, signs, products = _narrow_steps(
                        codes, shift, m, lanes, block, steps, done, gates_lanes, narrow_mask, narrow_sums, narrow_held
                    )
                    of_sum += ones + (sum_bits - 16) * signs  # all bits above the narrow sum's are its sign
                    of_product += products
                    sums[:] = narrow_sums
                    held[:] = narrow_held
                bits, wires = _wide_steps(
                    codes, shift, m, lanes, block, steps, done, count, gates_lanes, limits, masks, sums, held
                )
                of_sum += bits
                of_product += wires
            cleared, released, sent = _settle_row(sums, held, masks, bus, m % array_rows == 0)
            of_sum += cleared
            of_product += released
            of_bus += sent
        for n in range(length):
            of_bus += np.int64(popcount(np.uint32(np.uint32(bus[n]) & masks[0])))
            bus[n] = 0
    return of_sum, of_product, of_bus
