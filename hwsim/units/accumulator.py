"""The accumulator of a processing element: as many bits as it has, saturating or wrapping, counted.

Products are added one by one in the order of k. Where no order of additions can leave the range,
the exact product is that sum (exact_product.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwsim.compiled_numerics import compiled

CODE_BITS = 8
CODE_MAGNITUDE = 127


@dataclass(frozen=True)
class AccumulatorRange:
    """Values that an accumulator holds, both ends included; `wraps` says what it does beyond them."""

    low: int
    high: int
    wraps: bool

    @classmethod
    def of_bits(cls, bits: int, *, wraps: bool) -> AccumulatorRange:
        """Return the range of a two's complement accumulator of 2 to 32 bits."""
        return cls(-(1 << (bits - 1)), (1 << (bits - 1)) - 1, wraps)

    @staticmethod
    def bits_for(lowest: int, highest: int) -> int:
        """Return the smallest width, at least 2 bits, whose range holds both."""
        return max(2, 1 + max(highest.bit_length(), (-lowest - 1).bit_length() if lowest < 0 else 0))

    def holds(self, magnitude: int) -> bool:
        """Return whether sums up to `magnitude` stay inside."""
        return magnitude <= self.high


WIDEST = AccumulatorRange.of_bits(32, wraps=False)


@compiled
def accumulate_step(accumulator, addend, low, high, wraps):  # type: ignore[no-untyped-def]
    """Return (accumulator + addend held within [low, high], 1 where that changed it or else 0); int64."""
    value = accumulator + addend
    if low <= value <= high:
        return value, 0
    if wraps:
        return (value - low) % (high - low + 1) + low, 1
    return (high if value > high else low), 1


@compiled
def prefix_extremes(x, w):  # type: ignore[no-untyped-def]
    """Return (lowest, highest), int32 (K,): of any sum of x (M, K) and w (K, N) int8 after each addition along k.

    127 * 127 * K stays below 2**31 for K <= 2**17.
    """
    depth, width = w.shape
    sums = np.zeros(width, np.int32)
    lowest, highest = np.zeros(depth, np.int32), np.zeros(depth, np.int32)
    for m in range(x.shape[0]):
        sums[:] = 0
        for k in range(depth):
            factor = np.int32(x[m, k])
            low, high = lowest[k], highest[k]
            for n in range(width):
                value = np.int32(sums[n] + np.int32(factor * np.int32(w[k, n])))
                sums[n] = value
                low = min(low, value)
                high = max(high, value)
            lowest[k], highest[k] = low, high
    return lowest, highest
