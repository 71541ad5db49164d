"""Brings splits of a data set from the Hugging Face hub, once, to files that are read like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from datasets import ClassLabel, Dataset, load_dataset
from datasets.exceptions import DatasetsError

from ti_qat.artifact.atomic import write_whole
from ti_qat.errors import TaskError
from ti_qat.tasks.text_task import RowFiles


def keep_split(task: RowFiles, split: str, file: Path) -> None:
    """Write the task's columns of `split` to `file` as JSON lines, whole or not at all.

    Classes are written by name where the data set names them. The copy pins the data: what a run
    trained on can be read, hashed and used again offline. Raises `TaskError` naming data set and split.
    """
    source = " ".join(filter(None, (task.hub, task.hub_config)))
    try:
        rows = load_dataset(task.hub, task.hub_config or None, split=split)
    except (OSError, ValueError, DatasetsError) as error:
        reason = " ".join(str(error).split())
        raise TaskError(f"task {task.name}: data set {source}: split {split} cannot be loaded: {reason}") from error
    for column in task.columns.names:
        if column not in rows.column_names:
            found = ", ".join(rows.column_names)
            raise TaskError(f"data set {source}: split {split}: expected a column '{column}', found {found}")
    lines = list(_json_lines(task, rows, f"data set {source}: split {split}"))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, "".join(lines))


def _json_lines(task: RowFiles, rows: Dataset, where: str) -> Iterator[str]:
    column = task.columns.label
    label = None if column is None else rows.features[column]
    names = label.names if isinstance(label, ClassLabel) else None
    for number, row in enumerate(rows.select_columns(list(task.columns.names))):
        if names is not None:
            # The hub marks the rows of unlabelled test splits by -1.
            value = row[column]
            if value is None or not 0 <= value < len(names):
                raise TaskError(f"{where}: row {number}: {column}: expected a class, found {value}")
            row[column] = names[value]
        yield json.dumps(row, ensure_ascii=False) + "\n"
