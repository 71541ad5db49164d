"""An engine in a process of its own: `python -m benchmarks.inference.worker '{"engine": ...}'`.

The argument is a JSON object: engine, package, model, threads, cores, shapes, turn_s. Prints how long loading took,
and then, for every shape [B, S] that comes as a line of JSON, how long a few calls took. Runs in any of the
environments: it needs NumPy and the engine alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FIRST_ORDINARY_TOKEN, VOCABULARY = 1000, 30522
STRIDE = 7919  # a prime: tokens scatter over the vocabulary


def peak_rss_bytes() -> int:
    """Return the largest resident size of this process so far, as Linux counts it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def scattered_inputs(batch: int, tokens: int) -> dict[str, Any]:
    """Return the same tokens, int64 (B, S), in every process: no padding, one segment.

    Without a random generator, whose import would count as memory of the engine.
    """
    import numpy as np  # noqa: PLC0415 (not before the cores are chosen)

    places = np.arange(batch * tokens).reshape(batch, tokens)
    ids = FIRST_ORDINARY_TOKEN + places * STRIDE % (VOCABULARY - FIRST_ORDINARY_TOKEN)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def turn_ms(call: Any, inputs: dict[str, Any], turn_s: float) -> list[tuple[float, float]]:
    """Call for `turn_s` seconds; return each call's milliseconds by the wall and by the processors.

    The first call finds the caches as other engines left them and is left out, unless it fills the turn alone.
    """
    taken_ms: list[tuple[float, float]] = []
    began = time.perf_counter()
    while not taken_ms or time.perf_counter() - began < turn_s:
        processor_ns, wall_ns = time.process_time_ns(), time.perf_counter_ns()
        call(inputs)
        wall_ms = (time.perf_counter_ns() - wall_ns) / 1e6
        taken_ms.append((wall_ms, (time.process_time_ns() - processor_ns) / 1e6))
    return taken_ms[1:] or taken_ms


def main(task: dict[str, Any]) -> None:
    """Load and answer until standard input ends."""
    os.sched_setaffinity(0, task["cores"])
    began = time.perf_counter()
    from benchmarks.inference.opening import open_engine, package_version  # noqa: PLC0415 (timed)

    version = package_version(task["package"])
    if task["engine"].startswith("ti_qat"):
        import deploy.runtime.classifier  # noqa: F401, PLC0415 (timed)
    imported = time.perf_counter()
    shapes = [(batch, tokens) for batch, tokens in task["shapes"]]
    call = open_engine(task["engine"], Path(task["model"]), task["threads"], shapes)
    loaded = time.perf_counter()
    told = {"version": version, "import_s": imported - began, "load_s": loaded - imported}
    inputs = {shape: scattered_inputs(*shape) for shape in shapes}
    told["logits"] = [call(arrays).tolist() for arrays in inputs.values()]
    print(json.dumps(told), flush=True)
    for line in sys.stdin:
        batch, tokens = json.loads(line)
        taken_ms = turn_ms(call, inputs[batch, tokens], task["turn_s"])
        print(json.dumps({"calls_ms": taken_ms, "peak_rss_bytes": peak_rss_bytes()}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
