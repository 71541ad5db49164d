"""How fast `ti-qat sweep` is: BERT-base on the example's 1,008 arrays, a process from its start to its page."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from benchmarks.simulation.summary import merge_summary

SPACE = Path(__file__).parents[2] / "examples" / "design_space" / "space.toml"


@click.command()
def main() -> None:
    """Sweep once, in a fresh folder, and put the figures into summary.json."""
    with tempfile.TemporaryDirectory() as folder:
        out_dir = Path(folder) / "sweep"
        began = time.perf_counter()
        command = [sys.executable, "-m", "ti_qat", "sweep", "--space", str(SPACE), "--out", str(out_dir)]
        subprocess.run(command, check=True, capture_output=True)
        wall_s = time.perf_counter() - began
        points = len(json.loads((out_dir / "sweep.json").read_text())["points"])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_s = used.ru_utime + used.ru_stime
    merge_summary(
        sweep_points=points,
        sweep_points_per_s=points / wall_s,
        sweep_points_per_processor_s=points / processor_s,
        sweep_load_average=os.getloadavg()[0],
    )
    cores = len(os.sched_getaffinity(0))
    click.echo(f"{points} points in {wall_s:.1f} s on {cores} cores, {processor_s:.1f} s of processors: "
               f"{points / wall_s:.0f} a second")  # fmt: skip


if __name__ == "__main__":
    main()
