"""How a task is found: by name, or in a file. Nothing here needs torch."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError

from ti_qat.errors import TaskError
from ti_qat.tasks.glue import GLUE_TASKS
from ti_qat.tasks.image_task import ImageTask
from ti_qat.tasks.language_task import LanguageTask
from ti_qat.tasks.text_task import TextTask

Task = TextTask | ImageTask | LanguageTask


def find_task(name: str) -> Task:
    """Return the GLUE task of that name, or the task that a `.toml` file describes."""
    if name in GLUE_TASKS:
        return GLUE_TASKS[name]
    if not name.endswith(".toml"):
        raise TaskError(f"task '{name}' is not known: expected {', '.join(GLUE_TASKS)} or a .toml file")
    return read_task(Path(name))


def read_task(file: Path) -> Task:
    """Read a task from a TOML file; raise `TaskError` naming the field that is wrong."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaskError(f"{file}: expected TOML: {error}") from error
    kind = ImageTask if "modality" in content else LanguageTask if "objective" in content else TextTask
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        # A rule over several fields names them itself; its input is the whole file.
        where = f"{field}: {first['msg']}, found {first['input']!r}" if field else first["msg"]
        raise TaskError(f"{file}: {where}") from error
