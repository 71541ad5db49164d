"""Runs stages as processes, keeps each one's result, and skips those that are done."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ti_qat import __version__
from ti_qat.artifact.atomic import write_whole
from ti_qat.pipeline.stages import Stage
from ti_qat.training.checkpoints import newest_published_step

STAGES_DIR = "stages"
# A stage whose run was killed a moment ago is still on its way out.
LOCK_PATIENCE_S = 10.0
Announce = Callable[[int, int, Stage, "StageResult | None"], None]


class StageError(ValueError):
    """A stage that failed; its own message has gone to stderr."""

    def __init__(self, stage: Stage, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(f"stage {stage.name} ended with exit status {exit_code}: {' '.join(stage.argv)}")


class RunBusyError(ValueError):
    """Another process is at work in the run's folder."""


@dataclass(frozen=True)
class StageResult:
    """What a stage printed with `--json`, how long it took, and whether it was done before."""

    stage: str
    seconds: float
    result: dict[str, Any]
    reused: bool


@contextmanager
def locked(run_dir: Path) -> Iterator[int]:
    """Hold the run's folder. Stages inherit the lock, so one that outlives its parent keeps it."""
    run_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run_dir / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        patient_until_s = time.monotonic() + LOCK_PATIENCE_S
        while not _try_lock(descriptor):
            if time.monotonic() >= patient_until_s:
                raise RunBusyError(f"{run_dir}: another `ti-qat run` is at work in this folder")
            time.sleep(0.05)
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def failure_of(argv: Sequence[str]) -> str | None:
    """Run a verb whose result nobody needs; return what it said to be wrong, None where it is content."""
    process = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if process.returncode == 0:
        return None
    said = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
    return said[-1].removeprefix("ti-qat: ").removeprefix("Error: ")


def run_stages(stages: Sequence[Stage], run_dir: Path, announce: Announce) -> dict[str, StageResult]:
    """Run every stage that is not done; return the results by name. Raises StageError."""
    results: dict[str, StageResult] = {}
    key = __version__
    with locked(run_dir) as lock:
        (run_dir / STAGES_DIR).mkdir(exist_ok=True)
        for number, stage in enumerate(stages, start=1):
            key = _key(stage, key)
            record = run_dir / STAGES_DIR / f"{stage.name}.json"
            found = _finished(record, stage, key)
            if found is None:
                announce(number, len(stages), stage, None)
                found = _run(stage, record, key, lock)
            announce(number, len(stages), stage, found)
            results[stage.name] = found
    return results


def _key(stage: Stage, upstream: str) -> str:
    """Digest what a stage's result depends on: the stages before it, its command, its files."""
    digest = hashlib.sha256(json.dumps([upstream, stage.name, stage.argv[1:]]).encode())
    for file in stage.reads:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _finished(record: Path, stage: Stage, key: str) -> StageResult | None:
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    if found.get("key") != key or "result" not in found or (stage.output is not None and not stage.output.exists()):
        return None
    return StageResult(stage.name, found["seconds"], found["result"], reused=True)


def _run(stage: Stage, record: Path, key: str, lock: int) -> StageResult:
    _clear_foreign_work(stage, record, key)
    _write(record, {"key": key})
    started_s = time.perf_counter()
    try:
        process = subprocess.run(
            stage.argv,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            pass_fds=(lock,),
            preexec_fn=_end_with_parent,
            check=False,
        )
    except KeyboardInterrupt:
        step = None if stage.output is None else newest_published_step(stage.output)
        where = f"stage {stage.name}" if step is None else f"step {step} of stage {stage.name}"
        kept = f"the work so far is kept, and the same command goes on from {where}"
        raise KeyboardInterrupt(f"interrupted; {kept}") from None
    if process.returncode != 0:
        raise StageError(stage, process.returncode)
    result = _parse(stage, process.stdout)
    seconds = time.perf_counter() - started_s
    _write(record, {"key": key, "seconds": seconds, "result": result})
    return StageResult(stage.name, seconds, result, reused=False)


def _parse(stage: Stage, stdout: bytes) -> dict[str, Any]:
    try:
        result = json.loads(stdout or b"{}")
    except json.JSONDecodeError as error:
        raise ValueError(f"stage {stage.name} printed no JSON: {stdout[:200]!r}") from error
    if not isinstance(result, dict):
        raise ValueError(f"stage {stage.name} printed no JSON object: {stdout[:200]!r}")
    return result


def _clear_foreign_work(stage: Stage, record: Path, key: str) -> None:
    """Remove unfinished work of a run under another configuration; work under this key is resumed."""
    try:
        same = json.loads(record.read_text(encoding="utf-8")).get("key") == key
    except (OSError, json.JSONDecodeError):
        same = False
    if not same and stage.output is not None:
        shutil.rmtree(stage.output.with_name(stage.output.name + ".partial"), ignore_errors=True)


def _write(record: Path, content: dict[str, Any]) -> None:
    write_whole(record, json.dumps(content, indent=2) + "\n")


def _end_with_parent() -> None:
    """Leave an interruption from the keyboard to `ti-qat run`, which says what is kept and ends this stage.

    Linux is asked to kill it when `ti-qat run` dies in any other way (prctl PR_SET_PDEATHSIG = 1).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
