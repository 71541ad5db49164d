"""`python -m deploy.runtime.row_latency BUNDLE INPUTS.npz`: each row alone, on one thread.

Prints one JSON object: the median time of a row, and the peak memory of this process.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import numpy as np

from deploy.runtime.classifier import Classifier
from deploy.runtime.machine import peak_rss_bytes
from deploy.runtime.timing import time_calls_ms


def main(bundle: Path, inputs_file: Path) -> None:
    """Measure and print."""
    classifier = Classifier.load(bundle, threads=1)
    with np.load(inputs_file, allow_pickle=False) as arrays:
        input_ids, token_type_ids, lengths = (arrays[name] for name in ("input_ids", "token_type_ids", "lengths"))
    calls = [
        {
            "input_ids": input_ids[row : row + 1, :length],
            "token_type_ids": token_type_ids[row : row + 1, :length],
            "lengths": lengths[row : row + 1],
        }
        for row, length in enumerate(lengths)
    ]
    times_ms = time_calls_ms(classifier.logits, calls)
    print(json.dumps({"latency_ms": statistics.median(times_ms), "peak_rss_bytes": peak_rss_bytes()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
