"""Outputs that appear whole or not at all: a sibling temporary name, fsync, rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(root: Path) -> None:
    for path in (*root.rglob("*"), root):
        _sync(path)


@contextmanager
def whole_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory that becomes `target` when the block ends without an error.

    An earlier `target` is replaced. What a killed process left beside it is cleared by the next
    call for the same target; two writers of one target at once are not supported.
    """
    target = Path.cwd() / target
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    stale = target.with_name(f".{target.name}.old")
    if stale.exists() and not target.exists():
        stale.rename(target)
    for leftover in (fresh, stale):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        _sync_tree(fresh)
        if target.exists():
            target.rename(stale)
        fresh.rename(target)
        _sync(target.parent)
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
    _sync(target.parent)
