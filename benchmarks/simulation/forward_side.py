"""What both sides of forward.py do in their processes: one timed pass for every line on standard input."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from ti_qat.artifact.process import peak_rss_bytes

TOKENS = 128
Forward = Callable[[], object]


def answer(forward: Forward) -> None:
    """Run a pass a line; print its seconds by the wall and by the processors, and the memory so far."""
    for _ in sys.stdin:
        began, processor_began = time.perf_counter(), time.process_time()
        forward()
        seconds = {"wall_s": time.perf_counter() - began, "processor_s": time.process_time() - processor_began}
        print(json.dumps(seconds | {"peak_rss_bytes": peak_rss_bytes()}), flush=True)
