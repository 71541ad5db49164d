from __future__ import annotations

import re
from pathlib import Path

CSRC = Path(__file__).parents[2] / "deploy" / "csrc"


def test_kernels_include_no_onnx_runtime_header() -> None:
    for source in (CSRC / "kernels").iterdir():
        assert not re.search(r'#include\s*["<](ort/|onnxruntime)', source.read_text()), source


def test_the_build_contracts_no_multiply_add_and_uses_no_fast_math() -> None:
    flags = (CSRC / "CMakeLists.txt").read_text()
    assert "-ffp-contract=off" in flags
    assert not re.search(r"-ffast-math|-Ofast|-funsafe-math|-fassociative-math|-mfma|-mrecip", flags)
