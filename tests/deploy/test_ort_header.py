"""Our declarations of ONNX Runtime's C interface against an official header, where one can be had."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.driver import library

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "deploy" / "csrc"
OURS = CSRC / "ort" / "ort_c_api.h"


def _functions(struct: str) -> list[str]:
    """Names of the function pointers that our `struct` declares."""
    body = re.search(rf"^struct {struct} {{(.*?)^}};", OURS.read_text(), re.DOTALL | re.MULTILINE)
    assert body
    return re.findall(r"^  \S[^(]*\(\*(\w+)\)\(", body[1], re.MULTILINE)


def _enumerators() -> list[str]:
    return re.findall(
        r"\b(?:ORT_(?:OK|FAIL|INVALID_ARGUMENT)|ONNX_TENSOR_\w+|INPUT_OUTPUT_\w+|OrtMemTypeDefault)\b", OURS.read_text()
    )


def _compile(source: Path, *flags: str) -> None:
    done = subprocess.run(
        [os.environ.get("CXX", "g++"), "-std=c++17", "-fsyntax-only", f"-I{CSRC}", *flags, str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_slot_layout_and_value_is_the_official_one(official_header: Path, tmp_path: Path) -> None:
    asserts = [
        f'static_assert(offsetof(ours::{struct}, {name}) == offsetof(::{struct}, {name}), "{struct}::{name}");'
        for struct in ("OrtApi", "OrtApiBase", "OrtCustomOp")
        for name in _functions(struct)
    ]
    asserts += [f'static_assert(int(ours::{name}) == int(::{name}), "{name}");' for name in sorted(set(_enumerators()))]
    assert len(asserts) > 50
    source = tmp_path / "slots.cpp"
    source.write_text(
        "#include <cstddef>\n#include <cstdint>\n#include <onnxruntime_c_api.h>\n"
        + 'namespace ours {\n#include "ort/ort_c_api.h"\n}\n'
        + "static_assert(ours::kOrtApiVersion <= ORT_API_VERSION);\n"
        + "static_assert(sizeof(ours::OrtCustomOp) <= sizeof(::OrtCustomOp));\n"
        + "\n".join(asserts)
        + "\n"
    )
    _compile(source, f"-I{official_header}")


@pytest.mark.parametrize("name", ["api.cpp", "custom_op.cpp", "register.cpp"])
def test_the_glue_compiles_against_the_official_header(official_header: Path, name: str) -> None:
    _compile(CSRC / "ort" / name, f"-isystem{official_header}", "-DTI_QAT_OFFICIAL_ORT_HEADER")


GetApi = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_uint32)
GetVersion = ctypes.CFUNCTYPE(ctypes.c_size_t)
CreateStatus = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p)


class ApiBase(ctypes.Structure):
    _fields_ = (("get_api", GetApi), ("get_version", GetVersion))


def test_a_runtime_too_old_for_the_interface_is_an_error() -> None:
    messages: list[bytes] = []
    status = 4096

    def create_status(_code: int, message: bytes) -> int:
        messages.append(message)
        return status

    version = ctypes.create_string_buffer(b"1.16.3")
    table = (CreateStatus * 1)(CreateStatus(create_status))
    base = ApiBase(
        GetApi(lambda number: ctypes.addressof(table) if number == 1 else 0),
        GetVersion(lambda: ctypes.addressof(version)),
    )
    register = library().RegisterCustomOps
    register.restype = ctypes.c_size_t
    assert register(None, ctypes.byref(base)) == status
    assert messages == [b"ti_qat operators need ONNX Runtime 1.17 or newer, found 1.16.3"]
