"""The probe of `make test-onnxruntime`, in this environment: it passes equal bits and fails others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from deploy.runtime.operator_library import library_path
from tests.deploy.onnxruntime_matrix import ROOT, write_bundles


def _probe(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.deploy.onnxruntime_probe", str(folder), str(library_path())]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_probe_tells_equal_bits_from_others(tmp_path: Path) -> None:
    write_bundles(tmp_path)
    done = _probe(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("function bodies: equal bits\n")
    with np.load(tmp_path / "static.npz") as arrays:
        changed = dict(arrays)
    changed["logits"][3, 1] = np.nextafter(changed["logits"][3, 1], np.float32(9))
    np.savez(tmp_path / "static.npz", **changed)
    done = _probe(tmp_path)
    assert done.returncode == 1
    assert "other bits: static by scalar" in done.stdout
    assert "per_token" not in done.stdout.partition("other bits")[2]
