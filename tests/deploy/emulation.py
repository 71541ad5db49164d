"""Machines other than this one: the C++ operators built for them and run under emulation, behind a pipe."""

from __future__ import annotations

import platform
import shutil
import struct
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
SOURCES = Path(__file__).parent / "csrc"
TYPES = {np.dtype(np.float32): 0, np.dtype(np.uint8): 1, np.dtype(np.int8): 2, np.dtype(np.int32): 3}
DTYPES = {number: dtype for dtype, number in TYPES.items()}
TENSOR_HEADER = struct.Struct("<ii8q")  # TiQatTensor of kernels/drive.h without its pointer


class OperatorError(Exception):
    """The operator refused its operands."""


@dataclass(frozen=True)
class Machine:
    """A machine: its instruction sets, what a build for it takes, and what runs that build."""

    isas: tuple[str, ...]
    host: str  # processor family that can build and run it
    needs: tuple[str, ...]  # programs and headers
    options: tuple[str, ...]  # of CMake
    runner: tuple[str, ...] = ()


MACHINES = {
    # Debian: g++-aarch64-linux-gnu, qemu-user
    "aarch64": Machine(
        isas=("scalar", "neon", "neondot"),
        host="x86_64",
        needs=("cmake", "aarch64-linux-gnu-g++", "qemu-aarch64"),
        options=(f"-DCMAKE_TOOLCHAIN_FILE={ROOT / 'deploy/csrc/aarch64-linux-gnu.cmake'}",),
        runner=("qemu-aarch64", "-cpu", "max", "-L", "/usr/aarch64-linux-gnu"),
    ),
    # An ARM processor before its dot products
    "cortex-a53": Machine(
        isas=("neon",),
        host="x86_64",
        needs=("cmake", "aarch64-linux-gnu-g++", "qemu-aarch64"),
        options=(f"-DCMAKE_TOOLCHAIN_FILE={ROOT / 'deploy/csrc/aarch64-linux-gnu.cmake'}",),
        runner=("qemu-aarch64", "-cpu", "cortex-a53", "-L", "/usr/aarch64-linux-gnu"),
    ),
    # Intrinsics compiled as portable code. Debian: libsimde-dev
    "simde": Machine(
        isas=("sse41", "avx2", "avxvnni", "avx512vnni"),
        host="x86_64",
        needs=("cmake", "c++", "/usr/include/simde/x86/avx512.h"),
        options=("-DTI_QAT_EMULATE_X86=ON",),
    ),
}


def why_not(name: str) -> str | None:
    """What machine `name` lacks here, or None."""
    machine = MACHINES[name]
    if platform.machine() != machine.host:
        return f"{name} is emulated on {machine.host} only"
    missing = [need for need in machine.needs if not (shutil.which(need) or Path(need).is_file())]
    return f"{name}: not installed: {', '.join(missing)}" if missing else None


class OperatorServer:
    """A process of csrc/operator_server.cpp on one machine; see there for the protocol."""

    def __init__(self, name: str) -> None:
        command = (*MACHINES[name].runner, str(_built(MACHINES[name].options)))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def supports(self, isa: str) -> int:
        self._send(_text(""), _text(isa))
        return self._integer()

    def run(self, name: str, isa: str, heads: int, arrays: list[np.ndarray], outputs: int) -> list[np.ndarray]:
        counts = struct.pack("<qII", heads, len(arrays), outputs)
        self._send(_text(name), _text(isa), counts, *(_header(a) + a.tobytes() for a in arrays))
        if self._integer() != 0:
            raise OperatorError(self._receive(self._integer()).decode())
        return [self._array() for _ in range(outputs)]

    def _send(self, *parts: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(parts))
        self.process.stdin.flush()

    def _receive(self, size: int) -> bytes:
        assert self.process.stdout is not None
        data = self.process.stdout.read(size)
        assert len(data) == size, f"the operator server ended with status {self.process.wait()}"
        return data

    def _integer(self) -> int:
        return int.from_bytes(self._receive(4), "little", signed=True)

    def _array(self) -> np.ndarray:
        kind, rank, *dims = TENSOR_HEADER.unpack(self._receive(TENSOR_HEADER.size))
        shape, dtype = tuple(dims[:rank]), DTYPES[kind]
        return np.frombuffer(self._receive(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)


def library_of(name: str) -> Path:
    """The operators' library built for machine `name`."""
    return _built(MACHINES[name].options).parent / "ti_qat_ops" / "libti_qat_ops.so"


@cache
def server(name: str) -> OperatorServer:
    return OperatorServer(name)


@cache
def _built(options: tuple[str, ...]) -> Path:
    """Configure and build, or bring up to date, what CMake makes of `options`."""
    folder = ROOT / "build" / "emulated" / ("aarch64" if "TOOLCHAIN" in options[0] else "simde")
    for command in (("-S", str(SOURCES), "-B", str(folder), *options), ("--build", str(folder), "--parallel", "2")):
        done = subprocess.run(("cmake", *command), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "operator_server"


def _text(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode()


def _header(array: np.ndarray) -> bytes:
    return TENSOR_HEADER.pack(TYPES[array.dtype], array.ndim, *array.shape, *([0] * (8 - array.ndim)))
