"""summary.json, into which every script here puts its own figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deploy.runtime.machine import machine
from ti_qat.artifact.atomic import write_whole

FILE = Path(__file__).with_name("summary.json")


def known_figures(file: Path = FILE) -> dict[str, Any]:
    """Return what the file holds already."""
    return json.loads(file.read_text()) if file.is_file() else {}


def merge_summary(file: Path = FILE, **figures: object) -> None:
    """Replace `figures` in the file and leave the rest as it is; note the machine."""
    write_whole(
        file, json.dumps(known_figures(file) | figures | {"machine": machine()}, indent=2, sort_keys=True) + "\n"
    )
