"""The C++ example: the same logits as Python's, to the bit, from ONNX Runtime's own shared library."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from deploy.export import pack
from deploy.runtime import Classifier
from deploy.runtime.operator_library import library_path
from tests.builders import tiny_artifact
from tests.deploy.operands import same_bits

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "cpp"


@pytest.fixture(scope="module")
def ort_dir(official_header: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like ONNX Runtime's release archives: Debian's header, the library that is inside the Python wheel."""
    libraries = list((Path(ort.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not libraries:
        pytest.skip("this ONNX Runtime wheel has no libonnxruntime.so")
    folder = tmp_path_factory.mktemp("onnxruntime")
    (folder / "lib").mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / "lib" / name).symlink_to(libraries[0])
    (folder / "include").symlink_to(official_header)
    return folder


@pytest.fixture(scope="module")
def program(ort_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built by its CMakeLists.txt where CMake is installed, else by the compiler alone."""
    build = tmp_path_factory.mktemp("build")
    if shutil.which("cmake"):
        commands = [
            ["cmake", "-S", str(EXAMPLE), "-B", str(build), f"-DORT_DIR={ort_dir}"],
            ["cmake", "--build", str(build)],
        ]
    else:
        flags = [f"-I{ort_dir / 'include'}", f"-L{ort_dir / 'lib'}", f"-Wl,-rpath,{ort_dir / 'lib'}"]
        output = ["-o", str(build / "classify"), "-lonnxruntime"]
        commands = [[os.environ.get("CXX", "g++"), "-std=c++17", "-Wall", str(EXAMPLE / "main.cpp"), *flags, *output]]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "classify"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack(tiny_artifact(folder / "artifact", labels=3), folder / "bundle")
    return folder / "bundle"


def _run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("threads", [(), ("--threads", "2")])
def test_the_program_prints_the_bits_that_python_computes(
    program: Path, bundle: Path, threads: tuple[str, ...]
) -> None:
    first, second = [2, 9, 5, 7, 3], [8, 6, 3]
    done = _run(program, bundle, library_path(), *threads, *first, "/", *second)
    assert done.returncode == 0, done.stderr
    inputs = {
        "input_ids": np.array([first + second], np.int32),
        "token_type_ids": np.array([[0] * len(first) + [1] * len(second)], np.int32),
        "lengths": np.array([len(first) + len(second)], np.int32),
    }
    printed = np.array([done.stdout.split()], np.float32)
    assert same_bits(printed, Classifier.load(bundle).logits(inputs))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("2", "61", "3"), "input_ids: expected values from 0 to 60, found 61 at element 1"),
        (("2", "x"), "classify: expected a number, found x"),
        (("/",), "classify: expected token ids, found none"),
    ],
)
def test_what_the_program_cannot_run_is_told_in_a_line(
    program: Path, bundle: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = _run(program, bundle, library_path(), *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
