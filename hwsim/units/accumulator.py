"""The accumulator of a processing element: as many bits as it has, saturating or wrapping, counted.

Products are added one by one in the order of k. Where no order of additions can leave the range,
the exact int32 dot product is that sum, and LLVM turns its loop into packed multiply-adds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwsim.compiled_numerics import compiled

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

    def holds(self, magnitude: int) -> bool:
        """Return whether sums up to `magnitude` stay inside."""
        return magnitude <= self.high


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
def exact_dot(x, w):  # type: ignore[no-untyped-def]
    """Return the exact dot product of two int8 vectors (K,) as int32; K <= 2**17."""
    accumulator = np.int32(0)
    for k in range(x.shape[0]):
        accumulator += np.int32(np.int32(x[k]) * np.int32(w[k]))
    return accumulator
