"""The verb `sweep`: many designs evaluated, every finding kept, the front of them told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hwsim.errors import SimulatorError
from hwsim.exploration.evaluation import Evaluation, OnProgress
from hwsim.exploration.plan import Plan, Settings
from hwsim.exploration.point_log import Finding, FindingLog, Point
from hwsim.exploration.results import Sweep, summarise
from hwsim.exploration.strategies import explore
from hwsim.exploration.workers import workforce
from ti_qat.artifact.atomic import make_folder, require_replaceable, write_whole

SETTINGS_FILE, POINTS_FILE, VALUES_FILE = "space.json", "points.jsonl", "values.jsonl"


def sweep(plan: Plan, out_dir: Path, on_progress: OnProgress = lambda what, done, total: None) -> Sweep:
    """Evaluate the plan's designs and return what was found; findings are kept in `out_dir` as they are made.

    What is there of an earlier call with the same settings is not evaluated again. Raises SimulatorError where
    `out_dir` belongs to other settings or another process, OutputError where it is no sweep's.
    """
    _claim(out_dir, plan.settings)
    with ExitStack() as stack:
        points = stack.enter_context(FindingLog(out_dir / POINTS_FILE, Point))
        values = stack.enter_context(FindingLog(out_dir / VALUES_FILE, Finding))
        stack.enter_context(workforce(plan.source, plan.workers))
        tried = explore(plan.settings.space, plan.axes, Evaluation(plan, points, values, on_progress))
        return summarise(plan.settings, tried, value_simulations=len(values.entries))


def _claim(out_dir: Path, settings: Settings) -> None:
    """Make `out_dir` the place of a sweep with these settings. Raises SimulatorError or OutputError."""
    require_replaceable(out_dir, SETTINGS_FILE)
    file = out_dir / SETTINGS_FILE
    if not file.is_file():
        make_folder(out_dir)
        write_whole(file, settings.as_json())
        return
    try:
        theirs = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise SimulatorError(file, "content", expected="a sweep's settings", found=str(error)) from error
    ours = json.loads(settings.as_json())
    for where, expected, found in _differences(theirs, ours):
        raise SimulatorError(
            out_dir, where, expected=f"{expected} as in this folder's sweep", found=f"{found}; take another --out"
        )


def _differences(theirs: Any, ours: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[str, str, str]]:
    """Yield (field, what the folder has, what is asked) wherever two JSON values differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in dict.fromkeys((*theirs, *ours)):
            yield from _differences(theirs.get(name), ours.get(name), (*where, name))
    elif theirs != ours:
        yield ".".join(where) or "content", json.dumps(theirs)[:80], json.dumps(ours)[:80]
