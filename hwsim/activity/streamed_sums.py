"""Toggles where sums move on and one operand stays: weight and input stationary.

Element (k, l) holds its operand; t passes, and the sum that leaves the element is that of k + 1 products. A sum
register so sees S_k[0, l], S_k[1, l], ... Lanes are l: in 16 bits where the sums provably fit, else in 32.
"""

from __future__ import annotations

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.units.popcount import popcount

_CHUNK = 32  # values of k between two looks at how large the sums have become


@compiled
def _narrow_rows(moving, k, lanes, block, sums):  # type: ignore[no-untyped-def]
    """Add product k to int16 sums (1 + T, L), T a multiple of 4; return the toggles of (low 16 bits, sign).

    A loop adds 4 * 16 ones a lane at most, so that the lanes of a block stay within uint16. Signs are shifted into
    one word, a funnel shift each.
    """
    ones, signs = np.int64(0), np.int64(0)
    one, sign = np.uint16(1), np.uint16(15)
    for t in range(0, moving.shape[0], 4):
        x0, x1 = np.int16(moving[t, k]), np.int16(moving[t + 1, k])
        x2, x3 = np.int16(moving[t + 2, k]), np.int16(moving[t + 3, k])
        bits, flips = np.uint16(0), np.uint16(0)
        for n in range(sums.shape[1]):
            w = np.int16(lanes[block, k, n])
            s = sums[t, n]
            s0, s1 = np.int16(sums[t + 1, n] + np.int16(x0 * w)), np.int16(sums[t + 2, n] + np.int16(x1 * w))
            s2, s3 = np.int16(sums[t + 3, n] + np.int16(x2 * w)), np.int16(sums[t + 4, n] + np.int16(x3 * w))
            sums[t + 1, n], sums[t + 2, n], sums[t + 3, n], sums[t + 4, n] = s0, s1, s2, s3
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
def _wide_rows(moving, opening, closing, k, lanes, block, limits, masks, sums):  # type: ignore[no-untyped-def]
    """Add product k to int32 sums (1 + T, L), held within any limits; return toggles of (sum, product)."""
    low, high, wraps, spare_bits = limits
    sum_mask, product_mask = masks
    bits, products = np.int64(0), np.int64(0)
    left = np.int32(0)
    for t in range(moving.shape[0]):
        x, first, last = np.int32(moving[t, k]), np.int32(opening[t, k]), np.int32(closing[t, k])
        changed, driven = np.uint32(0), np.uint32(0)
        for n in range(sums.shape[1]):
            w = np.int32(lanes[block, k, n])
            value = np.int32(sums[t + 1, n] + np.int32(x * w))
            saturated = min(max(value, low), high)
            wrapped = np.int32(np.int32(value << spare_bits) >> spare_bits)
            value = wrapped if wraps else saturated
            sums[t + 1, n] = value
            changed = np.uint32(changed + popcount(np.uint32(np.uint32(value ^ sums[t, n]) & sum_mask)))
            wires = np.uint32(np.int32(first * w) ^ np.int32(left * w)) & product_mask
            driven = np.uint32(driven + popcount(np.uint32(wires)))
        left = last
        bits += np.int64(changed)
        products += np.int64(driven)
    return bits, products


@compiled
def _chunk_fits(moving, first, last, largest, sums, narrow_high):  # type: ignore[no-untyped-def]
    """Return whether no sum can leave `narrow_high` over k in [first, last), for lanes up to `largest`."""
    for t in range(moving.shape[0]):
        peak, magnitude = np.int32(0), np.int64(0)
        for n in range(sums.shape[1]):
            peak = max(peak, abs(sums[t + 1, n]))
        for k in range(first, last):
            magnitude += abs(np.int64(moving[t, k]))
        if np.int64(peak) + magnitude * largest > narrow_high:
            return False
    return True


@compiled
def streamed_sums_toggles(moving, opening, closing, lanes, largest, narrow_high, limits, masks, of_sum):  # type: ignore[no-untyped-def]
    """Add each k's toggles of the sum registers to `of_sum` int64 (K,); return the products'.

    `moving` int8 (T, K) passes lanes int8 (blocks, K, L), of which `largest` bounds the magnitude; `opening` and
    `closing` are what drives the product's wires first and last. T is a multiple of 4 and its last row is zero,
    which clears what the rows before left. `narrow_high`, `limits` and `masks` as in held_sums_toggles.
    """
    shape = (moving.shape[0] + 1, lanes.shape[2])
    sums, narrow_sums = np.zeros(shape, np.int32), np.zeros(shape, np.int16)
    of_product, wider = np.int64(0), np.int64(16) - np.int64(limits[3])
    for block in range(lanes.shape[0]):
        sums[:] = 0
        for first in range(0, moving.shape[1], _CHUNK):
            last = min(first + _CHUNK, moving.shape[1])
            if _chunk_fits(moving, first, last, largest, sums, narrow_high):
                narrow_sums[:] = sums
                for k in range(first, last):
                    ones, signs = _narrow_rows(moving, k, lanes, block, narrow_sums)
                    of_sum[k] += ones + wider * signs  # all bits above the narrow sum's are its sign
                sums[:] = narrow_sums
                continue
            for k in range(first, last):
                ones, products = _wide_rows(moving, opening, closing, k, lanes, block, limits, masks, sums)
                of_sum[k] += ones
                of_product += products
    return of_product
