"""Tools that we are compared with, each in a virtual environment of its own: they want other versions than we do."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def make_environment(folder: Path, requirements: Sequence[str]) -> Path:
    """Create an environment that holds `requirements` and nothing else unless it is there whole; return its Python."""
    python, installed = folder / "bin" / "python", folder / "installed.json"
    if installed.is_file() and json.loads(installed.read_text()) == list(requirements):
        return python
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        sys.exit(f"{folder} is no virtual environment and not empty; --environment names another folder")
    venv.create(folder, with_pip=True, clear=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
    installed.write_text(json.dumps(list(requirements)))
    return python


def answers(python: Path, runner: Path, questions: object) -> Any:
    """Run `runner` with the environment's Python; `questions` go in and its answers come out as JSON.

    The runner imports nothing of this project. The script ends here if the runner fails.
    """
    done = subprocess.run(
        [python.absolute(), "-I", runner.absolute()],
        input=json.dumps(questions),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{runner.name} ended with status {done.returncode}")
    return json.loads(done.stdout)
