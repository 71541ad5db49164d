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
    assert "4 bundles by " in done.stdout
    assert "function bodies: equal bits\n2 standard bundles: within " in done.stdout
    with np.load(tmp_path / "static.npz") as arrays:
        changed = dict(arrays)
    changed["logits"][3, 1] = np.nextafter(changed["logits"][3, 1], np.float32(9))
    np.savez(tmp_path / "static.npz", **changed)
    done = _probe(tmp_path)
    assert done.returncode == 1
    assert "other bits: static by scalar" in done.stdout
    assert "static_at_1_6_bits" not in done.stdout
    assert "per_token" not in done.stdout.partition("other bits")[2]


def test_the_probe_fails_a_standard_bundle_that_is_far_off(tmp_path: Path) -> None:
    write_bundles(tmp_path)
    with np.load(tmp_path / "standard" / "static.npz") as arrays:
        changed = dict(arrays)
    np.savez(tmp_path / "standard" / "static.npz", **changed | {"logits": changed["logits"] + np.float32(0.01)})
    done = _probe(tmp_path)
    assert done.returncode == 1
    assert "equal bits\n2 standard bundles: within 0.01" in done.stdout
