"""What a sweep has found so far, a JSON line each, kept through a kill at any moment."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Generic, Self, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from hwsim.errors import SimulatorError, first_problem
from hwsim.exploration.axes import Value
from hwsim.exploration.costs import Figure
from ti_qat.artifact.schema import Frozen


class Finding(Frozen):
    """Figures under the key of what they were found for, or the reason why there are none."""

    model_config = ConfigDict(allow_inf_nan=False)

    key: str
    figures: dict[str, Figure] = Field(default_factory=dict)
    failure: str | None = None


class Point(Finding):
    """The finding of one design: the values of the axes."""

    design: dict[str, Value]


Entry = TypeVar("Entry", bound=Finding)


def _opened(file: Path) -> BinaryIO:
    """Open a file to read and to append, no link to another one. Raises SimulatorError."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise SimulatorError(file, "file", expected="a log of ours or nothing", found=str(error.strerror)) from error
    return os.fdopen(descriptor, "ab+")


class FindingLog(Generic[Entry]):
    """An open log file and its entries by key; one process at a time has it open.

    A last line that a kill cut short is dropped, and its entry found again. Raises SimulatorError where
    another line is malformed or another process has the log.
    """

    def __init__(self, file: Path, model: type[Entry]) -> None:
        self._stream = _opened(file)
        try:
            self._lock(file)
            self.entries: dict[str, Entry] = {entry.key: entry for entry in self._read(file, model)}
        except BaseException:
            self._stream.close()
            raise

    def _lock(self, file: Path) -> None:
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SimulatorError(
                file.parent, "folder", expected="one sweep at a time", found="another that is running"
            ) from None

    def _read(self, file: Path, model: type[Entry]) -> list[Entry]:
        self._stream.seek(0)
        content = self._stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        entries = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entries.append(model.model_validate_json(line))
            except ValidationError as error:
                raise first_problem(f"{file}:{number}", error) from error
        self._stream.truncate(len(whole))  # nothing is taken from a file before all of it is known to be a log
        return entries

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep entries; they are on the disk when this returns."""
        self._stream.write(b"".join(entry.model_dump_json().encode() + b"\n" for entry in entries))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.entries |= {entry.key: entry for entry in entries}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stream.close()
