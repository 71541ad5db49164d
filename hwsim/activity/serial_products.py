"""Toggles of a bit-serial element's product register while it takes the bits of one activation."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.units.popcount import popcount

Array = np.ndarray[Any, Any]


@compiled
def _inner_toggles(x, w, mask):  # type: ignore[no-untyped-def]
    toggles = np.int64(0)
    for k in range(x.shape[1]):
        alike = np.zeros(256, np.int64)  # columns by their weight: two kinds matter if it is ternary
        for n in range(w.shape[0]):
            alike[np.int64(w[n, k]) + 128] += 1
        for kind in range(256):
            if alike[kind] == 0 or kind == 128:
                continue
            weight, of_rows = np.int32(kind - 128), np.int64(0)
            for m in range(x.shape[0]):
                code = np.int32(x[m, k])
                for bit in range(7):
                    step = np.int32(weight * (code >> bit)) ^ np.int32(weight * (code >> (bit + 1)))
                    of_rows += np.int64(popcount(np.uint32(np.uint32(step) & mask)))
            toggles += of_rows * alike[kind]
    return toggles


def serial_product_toggles(x: Array, w: Array, product_bits: int) -> int:
    """Return the toggles from the first to the eighth bit of every product of x (M, K) and w (N, K), int8.

    Most significant bit first, the register holds w * (x >> 7), w * (x >> 6), ..., w * x.
    """
    return int(_inner_toggles(x, w, np.uint32((1 << product_bits) - 1)))
