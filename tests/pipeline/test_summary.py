"""What `ti-qat run` prints of the stages' results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ti_qat.pipeline.command import as_text
from ti_qat.pipeline.runner import StageResult
from ti_qat.pipeline.summary import write_summary

MEASURED = {"metric": "accuracy", "score": 0.85, "bytes": 7_000_000, "peak_rss_bytes": 90_000_000, "latency_ms": 2.5}
VERIFICATION: dict[str, Any] = MEASURED | {
    "rows": 872, "bundle_bytes": 7_000_000, "codes_compared": 4900, "code_mismatches": 0, "label_agreement": 0.998,
    "logits_max_abs_difference": 0.25, "isa_bit_identical": True, "threads_bit_identical": True,
    "bits_per_weight_with_scales": 2.06, "machine": {},
}  # fmt: skip


def told(run_dir: Path, simulated_rows: int) -> str:
    simulation = MEASURED | {
        "rows": simulated_rows, "estimate": {"memory": {"parameter_bytes": 6_000_000}},
        "accelerator_peak_bytes": 7_000_000, "energy_pj_per_inference": 3.2e8, "cycles_per_inference": 2.5e6,
    }  # fmt: skip
    results = {
        "teacher_score": MEASURED,
        "student_score": MEASURED,
        "simulation": simulation,
        "verification": VERIFICATION,
    }
    stages = {name: StageResult(name, 1.0, found, reused=False) for name, found in results.items()}
    return as_text(write_summary(run_dir, stages))


@pytest.mark.parametrize(("rows", "is_told"), [(64, True), (872, False)])
def test_a_simulation_of_fewer_rows_is_told_beside_the_scores(tmp_path: Path, rows: int, is_told: bool) -> None:
    line = f"simulated: the first {rows} of 872 rows, the other scores are of all"
    assert (line in told(tmp_path, rows).splitlines()) is is_told
