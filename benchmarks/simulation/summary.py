"""summary.json, into which every script here puts its own figures."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.runtime.machine import machine
from ti_qat.artifact.atomic import write_whole

FILE = Path(__file__).with_name("summary.json")


def merge_summary(file: Path = FILE, **figures: object) -> None:
    """Replace `figures` in the file and leave the rest as it is; note the machine."""
    known = json.loads(file.read_text()) if file.is_file() else {}
    write_whole(file, json.dumps(known | figures | {"machine": machine()}, indent=2, sort_keys=True) + "\n")
