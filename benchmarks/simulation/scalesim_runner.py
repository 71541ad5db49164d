"""Runs SCALE-Sim in an environment that holds nothing else: cases as JSON come in on standard input.

Started by `scalesim_environment.py` with that environment's own Python; imports nothing of this project.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from scalesim.scale_sim import scalesim

CONFIGURATION = """\
[general]
run_name = case
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {columns}
IfmapSramSzkB = 1024
FilterSramSzkB = 1024
OfmapSramSzkB = 1024
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = {dataflow}
Bandwidth = 10
ReadRequestBuffer = 64
WriteRequestBuffer = 64
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""


def run(case: dict[str, int | str], folder: Path) -> dict[str, int | float]:
    """Simulate one product without writing traces; the time is that of its layer alone."""
    configuration, topology, layout = folder / "case.cfg", folder / "case.csv", folder / "layout.csv"
    configuration.write_text(CONFIGURATION.format(**case))
    topology.write_text("Layer,M,N,K,\nproduct,{m},{n},{k},\n".format(**case))
    layout.write_text("unused\n")
    simulator = scalesim(
        save_disk_space=True,
        verbose=False,
        config=str(configuration),
        topology=str(topology),
        layout=str(layout),
        input_type_gemm=True,
    )
    began = time.perf_counter()
    simulator.run_scale(top_path=str(folder))
    seconds = time.perf_counter() - began
    layer = simulator.runner.single_layer_sim_object_list[0]
    accesses = layer.get_detail_report_items()
    return {
        "cycles": int(layer.get_compute_report_items()[1]),
        "input_reads": int(accesses[2]),
        "weight_reads": int(accesses[5]),
        "output_writes": int(accesses[8]),
        "seconds": seconds,
    }


if __name__ == "__main__":
    cases = json.load(sys.stdin)
    # SCALE-Sim prints what it does, and standard output is ours.
    with (
        tempfile.TemporaryDirectory() as folder,
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        results = [run(case, Path(folder)) for case in cases]
    json.dump(results, sys.stdout)
