"""The smallest accumulator of every matrix product: from the sums on their way, not their worst case."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np

from hwsim.units.accumulator import AccumulatorRange, prefix_extremes
from ti_qat.artifact.encoder import Encoder, Operation, OpKind
from ti_qat.artifact.reference import split_heads

Array = np.ndarray[Any, Any]


class AccumulatorWidths:
    """Watches the operands of every product; `needed_bits` is then the smallest width without an overflow.

    One object serves all threads of a run. `observe` is for ti_qat.artifact.encoder.execute.
    """

    def __init__(self, encoder: Encoder, parameters: Mapping[str, Array]) -> None:
        self._weights = {  # (K, N): the sums of all columns advance together
            op.name: np.ascontiguousarray(parameters[op.inputs["weight_codes"]].T)
            for op in encoder.of_kind(OpKind.TERNARY_LINEAR)
        }
        self._extremes: dict[str, tuple[int, int]] = {}
        self._lock = Lock()

    def observe(self, op: Operation, operands: Mapping[str, Array]) -> None:
        """Take the sums of one operation in; other kinds than matrix products have none."""
        for x, w in self._products(op, operands):
            low, high = prefix_extremes(x, w)
            with self._lock:
                lowest, highest = self._extremes.get(op.name, (0, 0))
                self._extremes[op.name] = min(lowest, int(low)), max(highest, int(high))

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
        return {name: AccumulatorRange.bits_for(*extremes) for name, extremes in sorted(self._extremes.items())}
