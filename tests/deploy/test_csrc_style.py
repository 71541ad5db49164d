from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.emulation import library_of, why_not

CSRC = Path(__file__).parents[2] / "deploy" / "csrc"


def test_kernels_include_no_onnx_runtime_header() -> None:
    for source in (CSRC / "kernels").iterdir():
        assert not re.search(r'#include\s*["<](ort/|onnxruntime)', source.read_text()), source


def test_the_build_contracts_no_multiply_add_and_uses_no_fast_math() -> None:
    flags = (CSRC / "CMakeLists.txt").read_text()
    assert "-ffp-contract=off" in flags
    assert not re.search(r"-ffast-math|-Ofast|-funsafe-math|-fassociative-math|-mfma|-mrecip", flags)


@pytest.mark.slow
def test_no_fused_multiply_add_is_in_the_library_for_arm() -> None:
    """Every processor of the family has them, so nothing but the flag keeps the compiler from it."""
    if reason := why_not("aarch64"):
        pytest.skip(reason)
    disassembler = shutil.which("aarch64-linux-gnu-objdump")
    assert disassembler, "the cross compiler brings it"
    command = (disassembler, "--disassemble", "--no-show-raw-insn", str(library_of("aarch64")))
    instructions = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"\bfmul\b", instructions) and re.search(r"\bsdot\b", instructions)
    assert not re.findall(r"\bfn?m(?:add|sub|la|ls)\b.*", instructions)
