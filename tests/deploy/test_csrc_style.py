from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "deploy" / "csrc"
SOURCES = sorted([*CSRC.rglob("*.cpp"), *CSRC.rglob("*.h")])


def test_clang_format_has_nothing_to_change() -> None:
    if shutil.which("clang-format") is None:
        pytest.skip("clang-format is not installed")
    command = ["clang-format", "--dry-run", "--Werror", *map(str, SOURCES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_kernels_include_no_onnx_runtime_header() -> None:
    for source in (CSRC / "kernels").iterdir():
        assert not re.search(r'#include\s*["<](ort/|onnxruntime)', source.read_text()), source


def test_the_build_contracts_no_multiply_add_and_uses_no_fast_math() -> None:
    flags = (CSRC / "CMakeLists.txt").read_text()
    assert "-ffp-contract=off" in flags
    assert not re.search(r"-ffast-math|-Ofast|-funsafe-math|-fassociative-math|-mfma|-mrecip", flags)
