"""What a training run tells: a progress line with time left on stderr and a log of its curves."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ti_qat.artifact.atomic import write_whole

LOG_FILE = "training.jsonl"
PLAIN_INTERVAL_S = 15.0
_KEPT = ("step", "loss", "loss_hidden", "loss_attention", "loss_logits", "learning_rate", "intervention")


def log_lines(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the curves in a Trainer's log history: training entries and, apart from them, scores."""
    lines = []
    for entry in history:
        if "loss" in entry:
            lines.append({key: entry[key] for key in _KEPT if key in entry})
        elif "eval_score" in entry:
            lines.append({"step": entry["step"], "score": entry["eval_score"]})
    return lines


class CurveLog(TrainerCallback):
    """Keeps `training.jsonl` equal to the run's log history, which checkpoints carry over a resume."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the log anew."""
        write_whole(self._file, "".join(json.dumps(line) + "\n" for line in log_lines(state.log_history)))


class ProgressLine(TrainerCallback):
    """A bar with time left on a terminal; elsewhere a line every few seconds."""

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
