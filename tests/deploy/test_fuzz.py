"""Damaged bundles end in our typed errors or work; they never end the process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.export import pack
from tests.builders import tiny_artifact, tiny_quantization
from ti_qat.artifact.schema import ActivationScaling

ROOT = Path(__file__).parents[2]
PARTS = ("bundle.json", "model.onnx", "model.bin", "tokenizer.json", "structure")


@pytest.fixture(scope="module", params=[ActivationScaling.STATIC, ActivationScaling.DYNAMIC_PER_TOKEN])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    quantization = tiny_quantization(activations=request.param)
    pack(tiny_artifact(folder / "artifact", quantization=quantization), folder / "bundle")
    return folder / "bundle"


def _open_damaged(bundle: Path, part: str, seed: int, count: int) -> None:
    command = [sys.executable, "-m", "tests.deploy.fuzz", str(bundle), part, str(seed), str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60 + count)
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads(done.stdout)
    assert sum(outcomes.values()) == count
    assert outcomes["refused"] > count // 4


@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_bundle_is_refused_or_works(bundle: Path, part: str) -> None:
    _open_damaged(bundle, part, 0, 40)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_many_damaged_bundles_are_refused_or_work(bundle: Path, part: str) -> None:
    _open_damaged(bundle, part, 1000, 200)
