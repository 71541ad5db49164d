"""Counts the actions of a leaf function by running that function once on a number that keeps count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from hwsim.units.actions import ADD, DIVIDE, MULTIPLY, SQUARE_ROOT, WORD, Actions

_FREE: Actions = Counter()  # a sign bit costs nothing
_PRICES: dict[np.ufunc, Actions] = {
    np.add: ADD,
    np.subtract: ADD,
    np.multiply: MULTIPLY,
    np.divide: DIVIDE,
    np.sqrt: SQUARE_ROOT,
    np.maximum: WORD,
    np.minimum: WORD,
    np.greater: WORD,
    np.rint: WORD,
    np.copysign: WORD,
    np.absolute: _FREE,
    np.negative: _FREE,
}


class _Counting(np.lib.mixins.NDArrayOperatorsMixin):
    """A float32 value; what NumPy computes with it is computed and added to a shared tally."""

    def __init__(self, value: Any, tally: Actions) -> None:
        self.value = value
        self.tally = tally

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *operands: Any, **_: Any) -> _Counting:
        self.tally.update(_PRICES[ufunc])
        return _Counting(ufunc(*(_plain(operand) for operand in operands)), self.tally)

    def __array_function__(self, function: Callable[..., Any], _types: Any, operands: Any, _: Any) -> _Counting:
        return _Counting(function(*(_plain(operand) for operand in operands)), self.tally)

    def __int__(self) -> int:
        self.tally.update(WORD)
        return int(self.value)

    def astype(self, dtype: Any) -> _Counting:
        return _Counting(np.asarray(self.value).astype(dtype), self.tally)


def _plain(operand: Any) -> Any:
    return operand.value if isinstance(operand, _Counting) else operand


def actions_of(leaf: Callable[..., Any], *fixed: Any, at: float = -0.75) -> Actions:
    """Return the actions of `leaf(x, *fixed)` for one element; leaf functions do not branch on x."""
    tally: Actions = Counter()
    leaf(_Counting(np.float32(at), tally), *fixed)
    return tally
