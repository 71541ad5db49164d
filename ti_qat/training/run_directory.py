"""What a training run keeps on disk: OUT.partial while it lasts, OUT once it is done, and the settings of both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ti_qat import __version__
from ti_qat.artifact.atomic import require_replaceable, sha256_of, write_whole
from ti_qat.artifact.errors import OutputError
from ti_qat.config import TrainingConfig
from ti_qat.errors import TrainingError
from ti_qat.tasks.lookup import Task, objective_of
from ti_qat.training.checkpoints import newest_complete
from ti_qat.training.processes import processes

SETTINGS_FILE = "settings.json"


def run_settings(verb: str, config: TrainingConfig, source: str, task: Task, data_dir: Path) -> dict[str, Any]:
    """Return what a run depends on: two runs of the same settings end in the same result."""
    weights = {file.name: sha256_of(file) for file in sorted(Path(source).glob("*.safetensors"))}
    return {
        "verb": verb,
        "version": __version__,
        **config.model_dump(mode="json"),
        "processes": processes().num_processes,
        "source": Path(source).name if Path(source).is_dir() else source,
        "task": task.model_dump(mode="json"),
        "inputs": objective_of(task).fingerprints(data_dir) | weights,
    }


def is_finished(out: Path, settings: dict[str, Any], telling_file: str, replace: bool) -> bool:
    """Return whether `out` holds the result of a run with these `settings`.

    Raises `OutputError` where it holds what no run wrote, or, unless `replace`, the result of another run.
    """
    require_replaceable(out, telling_file)
    if not (out / SETTINGS_FILE).is_file():
        return False
    changed = _changed(out / SETTINGS_FILE, settings)
    if changed and not replace:
        raise OutputError(
            f"{out}: holds the result of a run with other settings ({', '.join(changed)});"
            " choose another --out, or replace it with --replace"
        )
    return not changed


@contextmanager
def work_directory(out: Path, settings: dict[str, Any]) -> Iterator[Path]:
    """Yield OUT.partial, where an unfinished run with the same settings left its checkpoints."""
    work_dir = out.with_name(out.name + ".partial")
    with processes().main_process_first():
        _take_up(work_dir, settings)
    yield work_dir
    processes().wait_for_everyone()
    if processes().is_main_process:
        shutil.rmtree(work_dir)


def _take_up(work_dir: Path, settings: dict[str, Any]) -> None:
    """Make `work_dir`, or raise `TrainingError` where it holds the work of a run with other settings."""
    file = work_dir / SETTINGS_FILE
    changed = _changed(file, settings) if file.exists() else []
    if changed and newest_complete(work_dir) is not None:
        raise TrainingError(
            f"{work_dir}: holds an unfinished run with other settings ({', '.join(changed)});"
            " finish it with those, remove the folder, or choose another --out"
        )
    if changed:
        shutil.rmtree(work_dir)  # it came to no checkpoint: there is nothing to lose
    if not file.exists():
        work_dir.mkdir(parents=True, exist_ok=True)
        write_settings(work_dir, settings)


def write_settings(directory: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a run into its directory."""
    write_whole(directory / SETTINGS_FILE, json.dumps(settings, indent=2) + "\n")


def _changed(file: Path, settings: dict[str, Any]) -> list[str]:
    earlier = json.loads(file.read_text(encoding="utf-8"))
    return [key for key in settings if earlier.get(key) != settings[key]]
