"""Files as wholes: outputs that appear whole or not at all (a sibling temporary name, fsync, rename); digests."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ti_qat.artifact.errors import OutputError


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(root: Path) -> None:
    for path in (*root.rglob("*"), root):
        sync(path)


def require_replaceable(target: Path, earlier: str) -> None:
    """Raise OutputError unless `target` is free, empty, or an earlier output: a directory with a file `earlier`."""
    if not target.exists() and not target.is_symlink():
        return
    if target.is_dir() and ((target / earlier).is_file() or not any(target.iterdir())):
        return
    found = "a folder with other things in it" if target.is_dir() else "a file"
    raise OutputError(f"{target}: expected a free path, an empty folder or one with {earlier}, found {found}")


def make_folder(folder: Path) -> None:
    """Make a folder and those it is in, unless they are there. Raises OutputError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: expected a folder or a place for one, found: {error.strerror}") from error


@contextmanager
def whole_directory(target: Path, earlier: str) -> Iterator[Path]:
    """Yield an empty directory that becomes `target` when the block ends without an error.

    An earlier output, told by its file `earlier`, is replaced; anything else at `target` raises
    OutputError (see `require_replaceable`). What a killed process left beside it is cleared by the next
    call for the same target; two writers of one target at once are not supported.
    """
    target = Path.cwd() / target
    make_folder(target.parent)
    fresh = target.with_name(f".{target.name}.new")
    stale = target.with_name(f".{target.name}.old")
    if stale.exists() and not target.exists():
        stale.rename(target)
    require_replaceable(target, earlier)
    for leftover in (fresh, stale):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        _sync_tree(fresh)
        if target.exists():
            target.rename(stale)
        fresh.rename(target)
        sync(target.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(stale, ignore_errors=True)


def write_whole(target: Path, text: str) -> None:
    """Write a UTF-8 file that appears, or replaces the earlier one, in one step."""
    fresh = target.with_name(f".{target.name}.new")
    with fresh.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(target)
    sync(target.parent)
