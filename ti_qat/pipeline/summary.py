"""Gathers what the stages printed into report.json; the field names are fixed for scripts that read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ti_qat import __version__
from ti_qat.artifact.atomic import write_whole
from ti_qat.pipeline.runner import StageResult

SCHEMA_VERSION = 1
REPORT_FILE = "report.json"
REPORTED_PACKAGES = ("torch", "transformers", "numpy", "numba", "onnxruntime")


def write_summary(run_dir: Path, results: Mapping[str, StageResult]) -> dict[str, Any]:
    """Write RUN/report.json from the results by stage and return its content.

    The simulated row speaks of the accelerator (parameter bytes in its memories, most bytes alive at
    once, latency at its clock), the others of this machine (bytes on disk, resident set, latency).
    """
    outcome = {name: result.result for name, result in results.items()}
    simulation, verification = outcome["simulation"], outcome["verification"]
    summary = {
        "schema_version": SCHEMA_VERSION,
        "metric": outcome["student_score"]["metric"],
        "stages": {
            "teacher": _measured(outcome["teacher_score"]),
            "student": _measured(outcome["student_score"]),
            "simulated": {
                "score": simulation["score"],
                "bytes": simulation["estimate"]["memory"]["parameter_bytes"],
                "peak_rss_bytes": simulation["accelerator_peak_bytes"],
                "latency_ms": simulation["latency_ms"],
            },
            "deployed": _measured({**verification, "bytes": verification["bundle_bytes"]}),
        },
        "evaluation_rows": verification["rows"],
        "simulated_rows": simulation["rows"],
        "agreement": {
            name: verification[name]
            for name in (
                "codes_compared",
                "code_mismatches",
                "label_agreement",
                "logits_max_abs_difference",
                "isa_bit_identical",
                "threads_bit_identical",
            )
        },
        "energy_pj_per_inference": simulation["energy_pj_per_inference"],
        "cycles_per_inference": simulation["cycles_per_inference"],
        "bits_per_weight": verification["bits_per_weight_with_scales"],
        "seconds_per_stage": {name: result.seconds for name, result in results.items()},
        "machine": verification["machine"],
        "versions": {"ti-qat": __version__, **{name: metadata.version(name) for name in REPORTED_PACKAGES}},
    }
    write_whole(run_dir / REPORT_FILE, json.dumps(summary, indent=2) + "\n")
    return summary


def _measured(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("score", "bytes", "peak_rss_bytes", "latency_ms")}
