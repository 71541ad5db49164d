"""Latency and memory as a device would see them: in a fresh process that imports the runtime only."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.bundle import Bundle
from ti_qat.artifact.evaluation import EvaluationSplit

MAX_ROWS = 200


@dataclass(frozen=True)
class DeviceFigures:
    """Median time of one sequence on one thread over `rows` rows, and the process's peak memory."""

    latency_ms: float
    peak_rss_bytes: int
    rows: int


def device_figures(bundle: Bundle, split: EvaluationSplit) -> DeviceFigures:
    """Measure `bundle` on up to MAX_ROWS rows, evenly spaced in `split`."""
    rows = np.unique(np.linspace(0, split.rows - 1, MAX_ROWS).round().astype(np.int64))
    with tempfile.TemporaryDirectory() as directory:
        inputs = Path(directory) / "inputs.npz"
        np.savez(
            inputs,
            input_ids=split.input_ids[rows],
            token_type_ids=split.token_type_ids[rows],
            lengths=split.lengths[rows],
        )
        command = [sys.executable, "-m", "deploy.runtime.row_latency", str(bundle.path), str(inputs)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout)
    return DeviceFigures(figures["latency_ms"], figures["peak_rss_bytes"], len(rows))
