"""Toggles where sums stay in their elements and operands pass: output stationary.

An element (m, n) sees x[m, k] and w[n, k] for k = 0, 1, ... Lanes are columns n, so that one instruction counts
the toggles of 32 elements: in 16 bits wherever the sums of the next few k provably fit, else in 32.
"""

from __future__ import annotations

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.units.popcount import popcount

_CHUNK = 256  # products between two looks at how large the sums have become


@compiled
def _narrow_sums(codes, m, lanes, block, steps, first, last, sums):  # type: ignore[no-untyped-def]
    """Take 4 i steps from `first` on in int16; return the toggles of (low 16 bits of a sum, its sign).

    A loop adds 4 * 16 ones a lane at most, so that the lanes of a block stay within uint16. Signs are shifted into
    one word, a funnel shift each.
    """
    ones, signs = np.int64(0), np.int64(0)
    one, sign = np.uint16(1), np.uint16(15)
    for i in range(first, last, 4):
        k0, k1, k2, k3 = steps[m, i], steps[m, i + 1], steps[m, i + 2], steps[m, i + 3]
        x0, x1 = np.int16(codes[m, k0]), np.int16(codes[m, k1])
        x2, x3 = np.int16(codes[m, k2]), np.int16(codes[m, k3])
        bits, flips = np.uint16(0), np.uint16(0)
        for n in range(sums.shape[0]):
            s = sums[n]
            s0 = np.int16(s + np.int16(x0 * np.int16(lanes[block, k0, n])))
            s1 = np.int16(s0 + np.int16(x1 * np.int16(lanes[block, k1, n])))
            s2 = np.int16(s1 + np.int16(x2 * np.int16(lanes[block, k2, n])))
            s3 = np.int16(s2 + np.int16(x3 * np.int16(lanes[block, k3, n])))
            sums[n] = s3
            d0, d1, d2, d3 = np.uint16(s ^ s0), np.uint16(s0 ^ s1), np.uint16(s1 ^ s2), np.uint16(s2 ^ s3)
            bits = np.uint16(bits + popcount(d0) + popcount(d1) + popcount(d2) + popcount(d3))
            turned = np.uint16(np.uint16(np.uint16(d0 >> sign) << one) | np.uint16(d1 >> sign))
            turned = np.uint16(np.uint16(turned << one) | np.uint16(d2 >> sign))
            turned = np.uint16(np.uint16(turned << one) | np.uint16(d3 >> sign))
            flips = np.uint16(flips + popcount(turned))
        ones += np.int64(bits)
        signs += np.int64(flips)
    return ones, signs


@compiled
def _gated_products(codes, shift, m, lanes, block, steps, first, last, held):  # type: ignore[no-untyped-def]
    """Return the toggles of ternary products over 4 i steps, which zero lanes leave as they are in `held` int16."""
    toggles, wires = np.int64(0), np.uint16(255)
    for i in range(first, last, 4):
        k0, k1, k2, k3 = steps[m, i], steps[m, i + 1], steps[m, i + 2], steps[m, i + 3]
        x0, x1 = np.int16(codes[m, k0]), np.int16(codes[m, k1])
        x2, x3 = np.int16(codes[m, k2]), np.int16(codes[m, k3])
        f0, f1, f2, f3 = np.int16(x0 >> shift), np.int16(x1 >> shift), np.int16(x2 >> shift), np.int16(x3 >> shift)
        driven = np.uint16(0)
        for n in range(held.shape[0]):
            w0, w1 = np.int16(lanes[block, k0, n]), np.int16(lanes[block, k1, n])
            w2, w3 = np.int16(lanes[block, k2, n]), np.int16(lanes[block, k3, n])
            h = held[n]
            p0 = np.int16(x0 * w0) if w0 != 0 else h
            p1 = np.int16(x1 * w1) if w1 != 0 else p0
            p2 = np.int16(x2 * w2) if w2 != 0 else p1
            p3 = np.int16(x3 * w3) if w3 != 0 else p2
            q0 = np.int16(f0 * w0) if w0 != 0 else h
            q1 = np.int16(f1 * w1) if w1 != 0 else p0
            q2 = np.int16(f2 * w2) if w2 != 0 else p1
            q3 = np.int16(f3 * w3) if w3 != 0 else p2
            held[n] = p3
            e0, e1 = np.uint16(np.uint16(q0 ^ h) & wires), np.uint16(np.uint16(q1 ^ p0) & wires)
            e2, e3 = np.uint16(np.uint16(q2 ^ p1) & wires), np.uint16(np.uint16(q3 ^ p2) & wires)
            driven = np.uint16(driven + popcount(e0) + popcount(e1) + popcount(e2) + popcount(e3))
        toggles += np.int64(driven)
    return toggles


@compiled
def _wide_steps(codes, shift, m, lanes, block, steps, first, last, gates_lanes, limits, masks, sums, held):  # type: ignore[no-untyped-def]
    """Take the steps from `first` to `last` in int32, held within any limits; return toggles of (sum, product)."""
    low, high, wraps, spare_bits = limits
    sum_mask, product_mask = masks
    bits, wires = np.int64(0), np.int64(0)
    for i in range(first, last):
        k = steps[m, i]
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
def _plan_steps(codes, gates_codes):  # type: ignore[no-untyped-def]
    """Return each chunk's k that are not gated, in order, (M, K); their number and the sum of |code|, (M, chunks)."""
    rows, k = codes.shape
    chunks = (k + _CHUNK - 1) // _CHUNK
    steps = np.zeros((rows, k), np.int32)
    counts, magnitudes = np.zeros((rows, chunks), np.int64), np.zeros((rows, chunks), np.int64)
    for m in range(rows):
        for chunk in range(chunks):
            taken = first = chunk * _CHUNK
            for step in range(first, min(first + _CHUNK, k)):
                if codes[m, step] != 0 or not gates_codes:
                    steps[m, taken] = step
                    taken += 1
                magnitudes[m, chunk] += abs(np.int64(codes[m, step]))
            counts[m, chunk] = taken - first
    return steps, counts, magnitudes


@compiled
def peak_magnitude(sums):  # type: ignore[no-untyped-def]
    """Return the largest |sum| of int32 (L,), as int32."""
    peak = np.int32(0)
    for n in range(sums.shape[0]):
        peak = np.int32(max(peak, np.int32(abs(sums[n]))))
    return peak


@compiled
def _settle_row(sums, held, masks, bus, opens_fold):  # type: ignore[no-untyped-def]
    """Put a row's sums on the bus, then clear; return the toggles of (sum, product, bus)."""
    sum_mask, product_mask = masks
    cleared, released, sent = np.uint32(0), np.uint32(0), np.uint32(0)
    for n in range(sums.shape[0]):
        left = np.uint32(np.uint32(bus[n]) & sum_mask)
        leaving = np.uint32(np.uint32(sums[n]) & sum_mask)
        sent = np.uint32(sent + (popcount(left) + popcount(leaving) if opens_fold else popcount(left ^ leaving)))
        cleared = np.uint32(cleared + popcount(leaving))
        released = np.uint32(released + popcount(np.uint32(np.uint32(held[n]) & product_mask)))
        bus[n], sums[n], held[n] = sums[n], np.int32(0), np.int32(0)
    return np.int64(cleared), np.int64(released), np.int64(sent)


@compiled
def held_sums_toggles(codes, shift, lanes, narrow_high, array_rows, gates, limits, masks):  # type: ignore[no-untyped-def]
    """Return the toggles of (sum, product, bus) for codes int8 (M, K) against lanes int8 (blocks, K, L).

    Lanes are ternary where the 16-bit path is to be taken, for sums up to `narrow_high`; else that is below 0.
    Gates are (of codes, of lanes): a zero there leaves sum and product as they are. `limits` are (low, high, wraps,
    bits of an int32 beyond a sum's), `masks` the bits of a sum and of a product; no bit of a product means that
    products are counted elsewhere.
    """
    gates_codes, gates_lanes = gates
    length = lanes.shape[2]
    sums, held, bus = np.zeros(length, np.int32), np.zeros(length, np.int32), np.zeros(length, np.int32)
    narrow_sums, narrow_held = np.zeros(length, np.int16), np.zeros(length, np.int16)
    steps, counts, magnitudes = _plan_steps(codes, gates_codes)
    counts_products, wider = masks[1] != 0, np.int64(16) - np.int64(limits[3])
    of_sum, of_product, of_bus = np.int64(0), np.int64(0), np.int64(0)
    for block in range(lanes.shape[0]):
        for m in range(codes.shape[0]):
            for chunk in range(counts.shape[1]):
                first = chunk * _CHUNK
                narrow, last = first, first + counts[m, chunk]
                if np.int64(peak_magnitude(sums)) + magnitudes[m, chunk] <= narrow_high:
                    narrow += counts[m, chunk] // 4 * 4
                    for n in range(length):
                        narrow_sums[n], narrow_held[n] = np.int16(sums[n]), np.int16(held[n])
                    ones, signs = _narrow_sums(codes, m, lanes, block, steps, first, narrow, narrow_sums)
                    of_sum += ones + wider * signs  # all bits above the narrow sum's are its sign
                    if counts_products:
                        of_product += _gated_products(codes, shift, m, lanes, block, steps, first, narrow, narrow_held)
                    for n in range(length):
                        sums[n], held[n] = np.int32(narrow_sums[n]), np.int32(narrow_held[n])
                bits, wires = _wide_steps(
                    codes, shift, m, lanes, block, steps, narrow, last, gates_lanes, limits, masks, sums, held
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
