"""What a training run tells: a progress line with time left on stderr and a log of its curves."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from ti_qat.artifact.atomic import write_whole
from ti_qat.config import TrainingConfig
from ti_qat.errors import ConfigurationError
from ti_qat.method.distillation import TERMS

LOG_FILE = "training.jsonl"
REPORTS_DIR = "runs"  # what TensorBoard reads
PLAIN_INTERVAL_S = 15.0
_KEPT = ("step", "loss", *(f"loss_{term}" for term in TERMS), "learning_rate", "intervention", "lambda")


def log_lines(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the curves in a Trainer's log history: training entries and, apart from them, scores."""
    lines = []
    for entry in history:
        if "loss" in entry:
            lines.append({key: entry[key] for key in _KEPT if key in entry})
        elif "eval_score" in entry:
            lines.append({"step": entry["step"], "score": entry["eval_score"]})
    return lines


def reporters(config: TrainingConfig) -> list[str]:
    """Return the Trainer's reporters that `config` names; raise `ConfigurationError` where one cannot be used."""
    names = [name.strip() for name in config.report_to.split(",")]
    if names == ["none"]:
        return []
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(["none", *sorted(INTEGRATION_TO_CALLBACK)])
            raise ConfigurationError(f"report_to: expected names out of {known}, found {name!r}")
        if name not in get_available_reporting_integrations():
            raise ConfigurationError(f"report_to: {name!r} needs a package that is not installed")
    return names


class CurveLog(TrainerCallback):
    """Keeps `training.jsonl` equal to the run's log history, which checkpoints carry over a resume."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the log anew, from the main process."""
        if state.is_world_process_zero:
            write_whole(self._file, "".join(json.dumps(line) + "\n" for line in log_lines(state.log_history)))


class ProgressLine(TrainerCallback):
    """A bar with time left on a terminal; elsewhere a line every few seconds. Silent but for the main process."""

    def __init__(self, title: str) -> None:
        self._title = title
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("time left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._plain = not console.is_terminal
        self._console = console

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the bar, at the step that a resumed run starts from."""
        self._first_step, self._started_s = state.global_step, time.monotonic()
        self._told_s = self._started_s
        if not state.is_world_process_zero:
            self._bar.disable, self._plain = True, False
        elif self._first_step:
            self._console.print(f"{self._title}: resuming from step {self._first_step} of {state.max_steps}")
        self._task = self._bar.add_task(self._title, total=state.max_steps, completed=state.global_step)
        self._bar.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Advance."""
        self._bar.update(self._task, completed=state.global_step)
        now_s = time.monotonic()
        if self._plain and now_s - self._told_s >= PLAIN_INTERVAL_S:
            self._told_s = now_s
            seconds_per_step = (now_s - self._started_s) / (state.global_step - self._first_step)
            left_s = seconds_per_step * (state.max_steps - state.global_step)
            self._console.print(f"{self._title}: step {state.global_step}/{state.max_steps}, {left_s:.0f} s left")

    def stop(self) -> None:
        """Give the terminal back."""
        self._bar.stop()
