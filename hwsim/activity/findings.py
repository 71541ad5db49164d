"""Switching activity of the simulated rows: counted beside the values, summed up by operation and by layer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from hwsim.activity.operands import Operand
from hwsim.activity.product import ProductCounter
from hwsim.activity.wires import Activity, WireClass
from hwsim.config import Accelerator
from hwsim.schedule.workload import layer_of
from ti_qat.artifact.encoder import Operation, OpKind

Array = np.ndarray[Any, Any]


class ActivityFindings(BaseModel):
    """What switched in the array over all simulated rows; counts are whole numbers, and do not depend on threads.

    Fractions are of all multiply-accumulates; `zero_activation_fraction` counts a product of activations once where
    its first operand is zero, `zero_weight_fraction` where its second is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    macs: int
    toggles: int
    toggles_per_mac: float
    toggles_by_wire_class: dict[str, int]
    clocked_bits_by_wire_class: dict[str, int]
    toggles_by_layer: dict[str, dict[str, int]]
    toggles_by_operation: dict[str, dict[str, int]]
    zero_activation_fraction: float
    zero_weight_fraction: float
    zero_both_fraction: float
    gated_fraction: float
    gated_macs_by_operation: dict[str, int]

    @classmethod
    def of(cls, by_operation: Mapping[str, Activity]) -> Self:
        """Sum up the activity of operations, by name."""
        whole = Activity()
        by_layer: defaultdict[str, Counter[WireClass]] = defaultdict(Counter)
        for name, found in by_operation.items():
            whole.add(found)
            by_layer[layer_of(name)].update(found.toggles)
        return cls(
            macs=whole.macs,
            toggles=whole.toggles.total(),
            toggles_per_mac=whole.toggles.total() / whole.macs,
            toggles_by_wire_class=_by_class(whole.toggles),
            clocked_bits_by_wire_class=_by_class(whole.clocked_bits),
            toggles_by_layer={layer: _by_class(toggles) for layer, toggles in by_layer.items()},
            toggles_by_operation={name: _by_class(found.toggles) for name, found in by_operation.items()},
            zero_activation_fraction=whole.zero_activation_macs / whole.macs,
            zero_weight_fraction=whole.zero_weight_macs / whole.macs,
            zero_both_fraction=whole.zero_both_macs / whole.macs,
            gated_fraction=whole.gated_macs / whole.macs,
            gated_macs_by_operation={name: found.gated_macs for name, found in by_operation.items()},
        )


class ActivityRun:
    """Counts the products of a simulation as they are computed; safe from several threads at once.

    Call `observe` with every operation and its operands, in either profile, and `findings` in the end.
    """

    def __init__(self, operations: Iterable[Operation], accelerator: Accelerator, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads)
        self._counter = ProductCounter(accelerator, pieces=threads, across=self._pool.map)
        self._alone = ProductCounter(accelerator)
        self._weights: dict[str, Operand] = {}
        self._lock = Lock()
        self._found = {op.name: Activity() for op in operations if op.kind in _COUNTED}

    def observe(self, op: Operation, operands: Mapping[str, Array]) -> None:
        """Count one operation of a batch of rows of one length, without padding."""
        if op.kind not in _COUNTED:
            return
        if op.kind is OpKind.TERNARY_LINEAR:
            weight = self._weights.setdefault(op.name, Operand(operands["weight_codes"], ternary=True))
            codes = operands["codes"]
            sentences = codes.reshape(len(codes), -1, codes.shape[-1])
            found = [self._counter.count(Operand(x), weight) for x in sentences]
        else:
            pairs = _PRODUCTS[op.kind](operands, op.attributes["heads"])
            found = list(self._pool.map(self._alone.count, *zip(*pairs, strict=True)))
        with self._lock:
            for part in found:
                self._found[op.name].add(part)

    def findings(self) -> ActivityFindings:
        """Return what has been counted, and end the threads."""
        self._pool.shutdown()
        return ActivityFindings.of(self._found)


def _scores(operands: Mapping[str, Array], heads: int) -> Iterable[tuple[Operand, Operand]]:
    query, key = (_by_head(operands[role], heads) for role in ("query", "key"))
    return ((Operand(x), Operand(w)) for x, w in zip(query, key, strict=True))


def _context(operands: Mapping[str, Array], heads: int) -> Iterable[tuple[Operand, Operand]]:
    probabilities = operands["probabilities"]
    square = probabilities.reshape(-1, *probabilities.shape[2:])
    value = _by_head(operands["value"], heads)
    return ((Operand(x), Operand(np.ascontiguousarray(v.T))) for x, v in zip(square, value, strict=True))


def _by_head(codes: Array, heads: int) -> Array:
    """Return int8 (B * heads, S, size) of codes (B, S, heads * size)."""
    batch, tokens, hidden = codes.shape
    split = codes.reshape(batch, tokens, heads, hidden // heads).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(split).reshape(batch * heads, tokens, hidden // heads)


_PRODUCTS: Mapping[OpKind, Callable[..., Iterable[tuple[Operand, Operand]]]] = {
    OpKind.ATTENTION_SCORES: _scores,
    OpKind.ATTENTION_CONTEXT: _context,
}
_COUNTED = {OpKind.TERNARY_LINEAR, *_PRODUCTS}


def _by_class(counts: Mapping[WireClass, int]) -> dict[str, int]:
    return {wires.value: counts.get(wires, 0) for wires in WireClass}
