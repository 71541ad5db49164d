"""A bundle's files as they lie on a disk that others may write to: which are taken, and whether they stay the same.

Standard library only, as the device's runtime reads bundles with this file.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Self


class BundleError(ValueError):
    """A bundle that breaks its contract; says where, what was expected and what was found."""

    def __init__(self, file: Path | str, where: str, *, expected: str, found: str) -> None:
        self.file = Path(file)
        self.where = where
        self.expected = expected
        self.found = found
        super().__init__(f"{file}: {where}: expected {expected}, found {found}")


@dataclass(frozen=True)
class FileStamp:
    """What tells that a name still means the file it meant, with the content it had."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """Return the stamp of a file."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @classmethod
    def at(cls, file: Path) -> Self | None:
        """Return the stamp of what `file` names now, no link followed; None where that is nothing."""
        try:
            return cls.of(file.lstat())
        except OSError:
            return None


def open_regular(file: Path) -> BufferedReader:
    """Open a file of one name; raise BundleError for a link of either kind, a directory, a pipe, or nothing."""
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # a pipe without a writer would block
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(file, flags)
    except OSError as error:
        raise _refusal(file, _kind(file) or str(error.strerror)) from error
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise _refusal(file, _kind(file) or f"a file with {found.st_nlink} names (hard links)")


def _refusal(file: Path, found: str) -> BundleError:
    return BundleError(file, "file", expected="a regular file", found=found)


def _kind(file: Path) -> str | None:
    """Return what stands at `file` instead of a regular file; None for a regular one."""
    if file.is_symlink():
        return "a symbolic link"
    if file.is_dir():
        return "a directory"
    if file.is_file():
        return None
    return "something else" if file.exists() else "nothing"


def digest_and_stamp(file: Path) -> tuple[str, FileStamp]:
    """Return the SHA-256 of a regular file in hexadecimal, and its stamp."""
    with open_regular(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), FileStamp.of(os.fstat(stream.fileno()))


def read_at_most(file: Path, limit_bytes: int) -> bytes:
    """Return the content of a regular file; raise BundleError if it is larger than `limit_bytes`."""
    with open_regular(file) as stream:
        content = stream.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        size_bytes = file.stat().st_size
        raise BundleError(file, "size", expected=f"at most {limit_bytes} bytes", found=f"{size_bytes} bytes")
    return content
