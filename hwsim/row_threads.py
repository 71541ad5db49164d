"""The rows of one operation over several threads, for runs with fewer batches than cores.

Numba's own parallel loops are not used: its default threading layer aborts the process when two threads enter
it at once. Every value is computed by one thread from the same operands, so results do not depend on how many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_LEAST_SHARE = 16  # rows; below, handing them over costs more than it saves


@dataclass(frozen=True)
class _Helpers:
    pool: ThreadPoolExecutor
    count: int


_helpers: ContextVar[_Helpers | None] = ContextVar("row_threads", default=None)


@contextmanager
def row_threads(threads: int) -> Iterator[None]:
    """Let the caller's `over_rows` use `threads` threads, itself included, until the end of the block."""
    if threads < 2:
        yield
        return
    with ThreadPoolExecutor(threads - 1) as pool:
        token = _helpers.set(_Helpers(pool, threads - 1))
        try:
            yield
        finally:
            _helpers.reset(token)


def over_rows(kernel: Callable[..., int | None], rows: int, *arguments: Any, multiple: int = 1) -> int:
    """Run kernel(first, last, *arguments) over all rows in one or more parts; return the sum of what parts return.

    A compiled kernel releases the interpreter's lock. Parts start at multiples of `multiple`.
    """
    helpers = _helpers.get()
    parts = 1 if helpers is None else min(helpers.count + 1, max(1, rows // _LEAST_SHARE))
    bounds = [rows * part // parts // multiple * multiple for part in range(parts)] + [rows]
    if helpers is None or parts == 1:
        return kernel(0, rows, *arguments) or 0
    others = [helpers.pool.submit(kernel, first, last, *arguments) for first, last in pairwise(bounds[1:])]
    done = kernel(bounds[0], bounds[1], *arguments) or 0
    return done + sum(other.result() or 0 for other in others)
