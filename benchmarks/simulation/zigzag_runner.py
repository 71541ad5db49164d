"""Runs ZigZag in an environment that holds nothing else: cases as JSON come in on standard input.

Started by `zigzag_check.py` with that environment's own Python; imports nothing of this project.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from zigzag.api import get_hardware_performance_zigzag
from zigzag.datatypes import LayerOperand


def run(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Search a mapping of one product and cost it; accesses are words of a port, by operand, innermost level first."""
    files = {name: folder / f"{name}.yaml" for name in ("accelerator", "mapping")}
    for name, file in files.items():
        file.write_text(json.dumps(case[name]))  # JSON is YAML
    began = time.perf_counter()
    energy_pj, _, costs = get_hardware_performance_zigzag(
        workload=case["workload"],
        accelerator=str(files["accelerator"]),
        mapping=str(files["mapping"]),
        opt="EDP",  # energy times latency: ours, too, asks first for time and then for less traffic
        dump_folder=str(folder / "out"),
        loma_show_progress_bar=False,
    )
    cost = costs[0][1][0][0]
    return {
        "seconds": time.perf_counter() - began,
        "energy_pj": energy_pj,
        "array_energy_pj": cost.mac_energy,
        "energy_pj_by_operand": {str(operand): levels for operand, levels in cost.mem_energy_breakdown.items()},
        "words": {
            operand: [
                {str(direction.name): count for direction, count in level.data.items()}
                for level in cost.memory_word_access[LayerOperand(operand)]
            ]
            for operand in "IWO"
        },
        "ideal_cycles": cost.ideal_cycle,
        "temporal_cycles": cost.ideal_temporal_cycle,
        "stall_cycles": cost.stall_slack_comb,
        "loading_cycles": cost.data_onloading_cycle,
        "unloading_cycles": cost.data_offloading_cycle,
        "drain_cycles": cost.systolic_drain_cycle,
        "cycles": cost.latency_total2,
        "loops": str(cost.temporal_mapping.mapping_dic_stationary),
    }


if __name__ == "__main__":
    cases = json.load(sys.stdin)
    logging.disable(logging.CRITICAL)
    # ZigZag prints what it does, and standard output is ours.
    with (
        tempfile.TemporaryDirectory() as folder,
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        results = [run(case, Path(folder)) for case in cases]
    json.dump(results, sys.stdout)
