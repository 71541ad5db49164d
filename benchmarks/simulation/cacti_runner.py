"""Runs the CACTI 7 that comes with ZigZag: macros as JSON come in on standard input.

Started by `cacti_check.py` with the Python of ZigZag's environment; imports nothing of this project.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# What the tables say of their macros, as settings of the configuration that ZigZag's wheel has beside the program.
SETTINGS = {
    r"size \(bytes\)": "{capacity_bytes}",
    r"block size \(bytes\)": "8",
    "output/input bus width": "64",
    "read-write port": "1",
    "exclusive read port": "0",
    "exclusive write port": "0",
    r"technology \(u\)": "{node_um}",
    "Data array cell type -": '"itrs-{cell}"',
    "Data array peripheral type -": '"itrs-{cell}"',
    "Tag array cell type -": '"itrs-{cell}"',
    "Tag array peripheral type -": '"itrs-{cell}"',
    r"operating temperature \(K\)": "320",
    "Add ECC -": '"false"',
}
RESULTS = {
    "sram_read": r"Total dynamic read energy per access \(nJ\): ([\d.e-]+)",
    "sram_write": r"Total dynamic write energy per access \(nJ\): ([\d.e-]+)",
    "sram_leakage": r"Total leakage power of a bank \(mW\): ([\d.e-]+)",
}


def run(macro: dict[str, Any], program: Path, folder: Path) -> dict[str, float]:
    """Return picojoules a bit read and written, and picojoules a nanosecond of leakage (milliwatts)."""
    text = program.with_name("cache.cfg_temp").read_text()
    for name, value in SETTINGS.items():
        text, found = re.subn(rf"(?m)^-({name}) .*$", lambda match, v=value: f"-{match[1]} {v.format(**macro)}", text)
        if found != 1:
            sys.exit(f"{name}: {found} settings of that name")
    configuration = folder / "macro.cfg"
    configuration.write_text(text)
    # CACTI reads its technologies from the folder that it is in.
    said = subprocess.run(
        [program, "-infile", configuration], cwd=program.parent, capture_output=True, text=True, check=True
    ).stdout
    values = {name: float(re.search(pattern, said)[1]) for name, pattern in RESULTS.items()}
    return values | {name: values[name] * 1e3 / 64 for name in ("sram_read", "sram_write")}


if __name__ == "__main__":
    package = importlib.util.find_spec("zigzag")
    cacti = Path(package.origin).parent / "cacti" / "cacti_master" / "cacti"
    with tempfile.TemporaryDirectory() as folder:
        results = [run(macro, cacti, Path(folder)) for macro in json.load(sys.stdin)]
    json.dump(results, sys.stdout)
