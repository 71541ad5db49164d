"""Progress with the time left, on a terminal's standard error."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_bars(verb: str) -> Progress:
    """Return bars for a verb's tasks, each described by what it counts."""
    columns = (
        TextColumn(verb), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}, elapsed"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, console=Console(stderr=True))
