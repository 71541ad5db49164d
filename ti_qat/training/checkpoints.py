"""Checkpoints that survive a kill: one counts only once its completion marker is in place."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from ti_qat.artifact.atomic import sha256_of, sync, write_whole

MARKER_FILE = "complete.json"


def publish(checkpoint: Path) -> None:
    """Mark `checkpoint` as complete: sync its files, then list their sizes and SHA-256, last and by rename."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != MARKER_FILE)
    listing = {}
    for file in files:
        sync(file)
        listing[str(file.relative_to(checkpoint))] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    write_whole(checkpoint / MARKER_FILE, json.dumps(listing, indent=2) + "\n")


def is_complete(checkpoint: Path) -> bool:
    """Return whether every file that the marker lists is there, to the byte."""
    try:
        listing = json.loads((checkpoint / MARKER_FILE).read_text(encoding="utf-8"))
        return all(_matches(checkpoint / name, entry["bytes"], entry["sha256"]) for name, entry in listing.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _matches(file: Path, size_bytes: int, sha256: str) -> bool:
    return file.stat().st_size == size_bytes and sha256_of(file) == sha256


def newest_complete(root: Path) -> Path | None:
    """Return the complete checkpoint of the latest step below `root`; remove the incomplete ones after it."""
    numbered = [(int(match[1]), path) for path in root.glob("checkpoint-*") if (match := _STEP.fullmatch(path.name))]
    for _, path in sorted(numbered, reverse=True):
        if is_complete(path):
            return path
        shutil.rmtree(path)
    return None


def newest_published_step(out: Path) -> int | None:
    """Return the step of the newest checkpoint of the unfinished run of `out`, its files unread; None without any."""
    markers = out.with_name(out.name + ".partial").glob(f"checkpoint-*/{MARKER_FILE}")
    return max((int(match[1]) for file in markers if (match := _STEP.fullmatch(file.parent.name))), default=None)


_STEP = re.compile(r"checkpoint-(\d+)")
