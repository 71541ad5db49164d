"""Timing of calls, one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Inputs = Mapping[str, NDArray[np.int32]]

WARM_UP_CALLS = 3


def time_calls_ms(function: Callable[[Inputs], Any], calls: Iterable[Inputs]) -> list[float]:
    """Return the time of each call in milliseconds, after a few calls that are not counted."""
    pending = list(calls)
    for inputs in pending[:WARM_UP_CALLS]:
        function(inputs)
    times_ms = []
    for inputs in pending:
        start_ns = time.perf_counter_ns()
        function(inputs)
        times_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    return times_ms
