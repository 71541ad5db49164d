"""Our declarations of ONNX Runtime's C interface against an official header, where one can be had."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.driver import library

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "deploy" / "csrc"
OURS = CSRC / "ort" / "ort_c_api.h"
HEADER = "onnxruntime_c_api.h"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# The first Debian release with libonnxruntime-dev.
SUITE = "trixie"


def _debian_archive() -> str:
    """The archive that this system installs from."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        origin, _, uri = line.partition(" ")
        if origin == "Debian" and "security" not in uri:
            return uri
    raise OSError("no Debian archive is configured")


def _download(directory: Path) -> Path:
    """Unpack Debian's libonnxruntime-dev into `directory`; nothing is installed, no system list is touched."""
    for name in ("lists/partial", "archives/partial"):
        (directory / name).mkdir(parents=True)
    source = f"deb [signed-by={KEYRING}] {_debian_archive()} {SUITE} main\n"
    (directory / "sources.list").write_text(source)
    options = {
        "Dir::Etc::sourcelist": directory / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": directory,
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": directory,
        "APT::Sandbox::User": "root",
        "Acquire::Retries": 0,
        "Acquire::http::Timeout": 10,
    }
    flags = [argument for key, value in options.items() for argument in ("-o", f"{key}={value}")]
    for command in ("update", "-qq"), ("download", "-qq", "libonnxruntime-dev"):
        subprocess.run(["apt-get", *flags, *command], cwd=directory, check=True, capture_output=True, timeout=60)
    subprocess.run(["dpkg-deb", "-x", *directory.glob("*.deb"), "unpacked"], cwd=directory, check=True)
    return next((directory / "unpacked").rglob(HEADER)).parent


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the official header: $ORT_INCLUDE_DIR, or Debian's package."""
    if given := os.environ.get("ORT_INCLUDE_DIR"):
        return Path(given)
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb") and KEYRING.exists()):
        pytest.skip("no official header: ORT_INCLUDE_DIR is not set, and this is no Debian to take it from")
    try:
        return _download(tmp_path_factory.mktemp("headers"))
    except (subprocess.SubprocessError, OSError, StopIteration) as error:
        pytest.skip(f"no official header: libonnxruntime-dev cannot be downloaded: {error}")


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


def test_every_slot_layout_and_value_is_the_official_one(official: Path, tmp_path: Path) -> None:
    asserts = [
        f'static_assert(offsetof(ours::{struct}, {name}) == offsetof(::{struct}, {name}), "{struct}::{name}");'
        for struct in ("OrtApi", "OrtApiBase", "OrtCustomOp")
        for name in _functions(struct)
    ]
    asserts += [f'static_assert(int(ours::{name}) == int(::{name}), "{name}");' for name in sorted(set(_enumerators()))]
    assert len(asserts) > 50
    source = tmp_path / "slots.cpp"
    source.write_text(
        f"#include <cstddef>\n#include <cstdint>\n#include <{HEADER}>\n"
        + 'namespace ours {\n#include "ort/ort_c_api.h"\n}\n'
        + "static_assert(ours::kOrtApiVersion <= ORT_API_VERSION);\n"
        + "static_assert(sizeof(ours::OrtCustomOp) <= sizeof(::OrtCustomOp));\n"
        + "\n".join(asserts)
        + "\n"
    )
    _compile(source, f"-I{official}")


@pytest.mark.parametrize("name", ["api.cpp", "custom_op.cpp", "register.cpp"])
def test_the_glue_compiles_against_the_official_header(official: Path, name: str) -> None:
    _compile(CSRC / "ort" / name, f"-isystem{official}", "-DTI_QAT_OFFICIAL_ORT_HEADER")


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
