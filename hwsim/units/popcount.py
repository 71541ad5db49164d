"""Number of ones in an integer: one instruction a lane once compiled, the same function in plain Python."""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.extending import intrinsic, overload


def popcount(value: Any) -> int:
    """Return the ones among all bits of a NumPy integer, the sign's included; of the same type once compiled."""
    return (int(value) & ((1 << 8 * value.itemsize) - 1)).bit_count()


@intrinsic
def _ctpop(_typing_context, value):  # type: ignore[no-untyped-def]
    return value(value), lambda _context, builder, _signature, values: builder.ctpop(values[0])


@overload(popcount)
def _compiled_popcount(value):  # type: ignore[no-untyped-def]
    def ones(value):  # type: ignore[no-untyped-def]
        return _ctpop(value)  # type: ignore[call-arg]

    return ones if isinstance(value, types.Integer) else None
