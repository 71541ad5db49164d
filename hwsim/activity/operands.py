"""Operands of one product as the counting kernels take them: in lanes, or passing by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from typing import Any, TypeVar

import numpy as np

from hwsim.compiled_numerics import compiled
from ti_qat.artifact.packing import ZERO_FIELD

Array = np.ndarray[Any, Any]
T = TypeVar("T")

_BLOCK = 256  # lanes whose sums stay in the first-level cache; the kernels' 16-bit tallies hold no more
_VECTOR = 32  # lanes of one instruction
_UNROLL = 4  # values that a kernel takes at once


@dataclass(frozen=True)
class Passing:
    """An operand that passes stationary ones: `moving` int8 (T, K), and what drives the product's wires.

    In the step of `moving[t, k]` the product starts from `opening[t, k]` and ends at `closing[t, k]` times the
    stationary operand. T is padded to a multiple of 4 whose last row is zero.
    """

    moving: Array
    opening: Array
    closing: Array


@dataclass(frozen=True)
class Operand:
    """One matrix of a product, int8 codes (rows, K), with what is asked of it more than once."""

    codes: Array
    ternary: bool = False
    _known: dict[str, Any] = field(default_factory=dict)

    @property
    def fields(self) -> Array:
        """Register contents, uint8 (rows, K), told by which bits differ from code 0's."""
        if self.ternary:  # a packed field is code + 1; where bits toggle does not depend on what 0 looks like
            return (self.codes + np.int8(1)).view(np.uint8) ^ np.uint8(ZERO_FIELD)
        return self.codes.view(np.uint8)

    @cached_property
    def zeros_by_k(self) -> Array:
        """Number of zero codes for every k, int64 (K,)."""
        return np.count_nonzero(self.codes == 0, axis=0)

    @property
    def bits(self) -> int:
        """Bits of a register."""
        return 2 if self.ternary else 8

    @property
    def largest(self) -> int:
        """Bound of the codes' magnitude."""
        return 1 if self.ternary else 127

    def once(self, what: str, make: Callable[[], T]) -> T:
        """Return what depends on these codes and the accelerator alone, made on first call."""
        if what not in self._known:
            self._known[what] = make()
        known: T = self._known[what]
        return known

    def lanes(self, pieces: int) -> Array:
        """Return the codes as int8 (blocks, K, L), a multiple of `pieces` blocks, padded with rows of zeros."""
        rows, k = self.codes.shape
        blocks = ceil(rows / (pieces * _BLOCK)) * pieces
        length = ceil(rows / (blocks * _VECTOR)) * _VECTOR
        padded = np.zeros((blocks * length, k), np.int8)
        padded[:rows] = self.codes
        return np.ascontiguousarray(padded.reshape(blocks, length, k).transpose(0, 2, 1))

    def passing(self, *, shift: int, holds_zeros: bool) -> Passing:
        """Return the codes as they pass; `shift` >> a code is what its first cycle has of it."""
        rows, k = self.codes.shape
        moving = np.zeros(((rows // _UNROLL + 1) * _UNROLL, k), np.int8)
        moving[:rows] = self.codes
        if not (shift or holds_zeros):
            return Passing(moving, moving, moving)
        opening, closing = np.zeros_like(moving), np.zeros_like(moving)
        _drive(self.codes, shift, holds_zeros, opening, closing)
        return Passing(moving, opening, closing)


@compiled
def _drive(codes, shift, holds_zeros, opening, closing):  # type: ignore[no-untyped-def]
    for t in range(codes.shape[0]):
        for k in range(codes.shape[1]):
            code = codes[t, k]
            if holds_zeros and code == 0:
                opening[t, k] = closing[t, k] = closing[t - 1, k] if t > 0 else np.int8(0)
            else:
                opening[t, k], closing[t, k] = code >> shift, code
