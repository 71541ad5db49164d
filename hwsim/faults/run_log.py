"""Finished runs of a campaign that goes on: a file beside the output, so that a killed campaign resumes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from hwsim.config import Accelerator
from hwsim.faults.plan import RunKey, UpsetPlan
from hwsim.faults.results import UpsetRun
from ti_qat.artifact.io import Artifact


class RunLog:
    """The runs that a campaign of the same artifact, accelerator, rows and machine has finished.

    The rates, seeds and protections may differ: a run depends on its own only.
    """

    def __init__(self, out_dir: Path, artifact: Artifact, accelerator: Accelerator, plan: UpsetPlan, rows: int) -> None:
        out_dir = out_dir.absolute()
        self._file = out_dir.with_name(out_dir.name + ".partial.jsonl")
        what = (artifact.digest, accelerator.model_dump_json(), plan.machine, rows)
        self._key = hashlib.sha256(json.dumps(what).encode()).hexdigest()
        self._runs = {run.key: run for run in self._finished()}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        lines = (self._key, *(run.model_dump_json() for run in self._runs.values()))
        self._file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def _finished(self) -> Iterator[UpsetRun]:
        lines = self._file.read_text(encoding="utf-8").splitlines() if self._file.is_file() else []
        for line in lines[1:] if lines[:1] == [self._key] else []:
            try:
                yield UpsetRun.model_validate_json(line)
            except ValidationError:  # the line that a killed process was writing
                return

    def find(self, key: RunKey) -> UpsetRun | None:
        """Return a finished run, or None."""
        return self._runs.get(key)

    def add(self, run: UpsetRun) -> None:
        """Keep a run that has just finished."""
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(run.model_dump_json() + "\n")

    def remove(self) -> None:
        """Forget all: the output is written."""
        self._file.unlink(missing_ok=True)
