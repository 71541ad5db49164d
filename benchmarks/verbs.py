"""Verbs of ti-qat as processes of their own, as a user calls them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import click


def verb(*arguments: object) -> dict[str, object]:
    """Run a verb of ti-qat in a process of its own; return its JSON."""
    argv = [sys.executable, "-m", "ti_qat", *map(str, arguments)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{shlex.join(argv)}: exit {done.returncode}: {done.stderr[-500:]}")
    return json.loads(done.stdout)
