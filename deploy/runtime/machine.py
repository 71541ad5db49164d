"""What this process runs on and how much memory it took."""

from __future__ import annotations

import os
import platform
import resource
import sys
from pathlib import Path

import onnxruntime as ort

from deploy.runtime.session import supported_isas


def peak_rss_bytes() -> int:
    """Return the largest resident size of this process so far.

    On Linux from /proc: what getrusage reports starts from the parent's size at the moment of the fork.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def machine() -> dict[str, str | int]:
    """Return processor, cores, instruction sets and versions, for a reader of measurements."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "isas": ", ".join(supported_isas()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "onnxruntime": ort.__version__,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
