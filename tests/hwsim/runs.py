"""A run's folder as the pipeline leaves it, of a tiny model, for the tests of pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hwsim.config import read_accelerator
from hwsim.reporting.report import JSON_FILE, report_run
from hwsim.simulate import simulate, write_simulation
from tests.builders import tiny_artifact

HOSTILE = "</script><img src=x onerror=console.error('escaped')>"


def summary(**changes: Any) -> dict[str, Any]:
    row = {"score": 0.85, "bytes": 7_000_000, "peak_rss_bytes": 90_000_000, "latency_ms": 2.5}
    return {
        "schema_version": 1,
        "stages": dict.fromkeys(("teacher", "student", "simulated", "deployed"), row),
        "agreement": {
            "codes_compared": 4900, "code_mismatches": 0, "label_agreement": 0.998, "logits_max_abs_difference": 0.25,
            "isa_bit_identical": True, "threads_bit_identical": None,
        },
        "energy_pj_per_inference": 3.2e8,
        "cycles_per_inference": 2.5e6,
        "seconds_per_stage": {"teacher": 100.0, HOSTILE: 20.0},
        "machine": {"processor": HOSTILE, "cores": 2},
    } | changes  # fmt: skip


def write_run(run: Path, accelerator: str = "wearable", **changes: Any) -> Path:
    """Write all that a report reads, and the report; `changes` are of report.json."""
    artifact = tiny_artifact(run / "artifact")
    write_simulation(run / "simulation", *simulate(artifact, read_accelerator(accelerator), limit=2))
    for name in ("teacher", "student"):
        (run / name).mkdir()
        lines: list[dict[str, Any]] = [
            {"step": step, "loss": 3 / step, "loss_hidden": 2 / step, "intervention": f"ti-{'ocm'[step % 3]}"}
            for step in range(1, 9)
        ]
        lines.append({"step": 8, "score": 0.8})
        (run / name / "training.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / JSON_FILE).write_text(json.dumps(summary(**changes)))
    report_run(run)
    return run
