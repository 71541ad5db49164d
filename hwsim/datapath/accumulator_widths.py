"""The accumulator of every matrix product: how wide it has to be, and after how many additions a narrower one fails.

From the sums on their way on the rows that are run, beside the worst case of any operands.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from hwsim.units.accumulator import CODE_MAGNITUDE, AccumulatorRange, prefix_extremes
from ti_qat.artifact.encoder import Encoder, Operation, OpKind
from ti_qat.artifact.reference import split_heads

Array = np.ndarray[Any, Any]

STUDIED_BITS = range(8, 25)
_LARGEST_PRODUCT = {
    OpKind.TERNARY_LINEAR: CODE_MAGNITUDE,
    OpKind.ATTENTION_SCORES: CODE_MAGNITUDE**2,
    OpKind.ATTENTION_CONTEXT: CODE_MAGNITUDE**2,
}


class AccumulatorStudy(BaseModel):
    """Widths in bits, with the sign, of accumulators that add up products in the order of k.

    `needed_bits`: smallest width at which no sum of an operation leaves the range, on these rows.
    `first_failing_k`: by operation and width of 8 to 24 bits, the smallest number of products after which a sum
    has left the range; a width that never fails on these rows is not there. `worst_case_k`: by kind of operation
    and width, the largest number of products that no operands can overflow.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    needed_bits: dict[str, int]
    first_failing_k: dict[str, dict[int, int]]
    worst_case_k: dict[OpKind, dict[int, int]] = {
        kind: {bits: ((1 << (bits - 1)) - 1) // product for bits in STUDIED_BITS}
        for kind, product in _LARGEST_PRODUCT.items()
    }


class AccumulatorWidths:
    """Watches the operands of every product; `study` then says what their sums ask for.

    One object serves all threads of a run. `observe` is for ti_qat.artifact.encoder.execute.
    """

    def __init__(self, encoder: Encoder, parameters: Mapping[str, Array]) -> None:
        self._weights = {  # (K, N): the sums of all columns advance together
            op.name: np.ascontiguousarray(parameters[op.inputs["weight_codes"]].T)
            for op in encoder.of_kind(OpKind.TERNARY_LINEAR)
        }
        self._extremes: dict[str, tuple[Array, Array]] = {}
        self._lock = Lock()

    def observe(self, op: Operation, operands: Mapping[str, Array]) -> None:
        """Take the sums of one operation in; other kinds than matrix products have none."""
        for x, w in self._products(op, operands):
            low, high = prefix_extremes(x, w)
            with self._lock:
                lowest, highest = self._extremes.get(op.name, (low, high))
                self._extremes[op.name] = -_maximum(-lowest, -low), _maximum(highest, high)

    def _products(self, op: Operation, operands: Mapping[str, Array]) -> list[tuple[Array, Array]]:
        if op.kind is OpKind.TERNARY_LINEAR:
            codes = operands["codes"]
            return [(codes.reshape(-1, codes.shape[-1]), self._weights[op.name])]
        heads = op.attributes.get("heads", 1)
        if op.kind is OpKind.ATTENTION_SCORES:
            left, right = (split_heads(operands[role], heads) for role in ("query", "key"))
            right = np.swapaxes(right, -1, -2)
        elif op.kind is OpKind.ATTENTION_CONTEXT:
            left, right = operands["probabilities"], split_heads(operands["value"], heads)
        else:
            return []
        return [
            (np.ascontiguousarray(left[b, h]), np.ascontiguousarray(right[b, h]))
            for b in range(left.shape[0])
            for h in range(heads)
        ]

    @property
    def needed_bits(self) -> dict[str, int]:
        """Smallest accumulator in bits, with the sign, at which no operation had an event."""
        return {
            name: AccumulatorRange.bits_for(int(lowest.min()), int(highest.max()))
            for name, (lowest, highest) in sorted(self._extremes.items())
        }

    @property
    def study(self) -> AccumulatorStudy:
        """What the rows seen so far ask for."""
        return AccumulatorStudy(
            needed_bits=self.needed_bits,
            first_failing_k={
                name: _first_failing_k(lowest, highest) for name, (lowest, highest) in sorted(self._extremes.items())
            },
        )


def _maximum(a: Array, b: Array) -> Array:
    """Return the larger of two arrays, element by element; the longer one goes on alone."""
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    found = longer.copy()
    np.maximum(longer[: len(shorter)], shorter, out=found[: len(shorter)])
    return found


def _first_failing_k(lowest: Array, highest: Array) -> dict[int, int]:
    found = {}
    for bits in STUDIED_BITS:
        limits = AccumulatorRange.of_bits(bits, wraps=False)
        failing = np.flatnonzero((lowest < limits.low) | (highest > limits.high))
        if len(failing):
            found[bits] = int(failing[0]) + 1
    return found
