"""Designs in, points out: from the log where they are known, else values simulated and costs counted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial

from pydantic import ValidationError

from hwsim.errors import SimulatorError
from hwsim.exploration.costs import Candidate, Cost, cost_of_each
from hwsim.exploration.designs import Design, candidate_of, reason
from hwsim.exploration.plan import Plan
from hwsim.exploration.point_log import Finding, FindingLog, Point
from hwsim.exploration.space import CLUSTERS
from hwsim.exploration.values import ValueTask, simulate_values, value_class
from hwsim.exploration.workers import each

OnProgress = Callable[[str, int, int], None]  # what ("designs" or "rows"), how many are done, of how many


class Evaluation:
    """Finds the points of designs. Every finding is in its log before the next is waited for."""

    def __init__(
        self, plan: Plan, points: FindingLog[Point], values: FindingLog[Finding], on_progress: OnProgress
    ) -> None:
        self._plan, self._points, self._values, self._on_progress = plan, points, values, on_progress
        self._digest = plan.settings.digest
        self._designs_done, self._rows_done, self._rows_total = 0, 0, 0

    def __call__(self, designs: Sequence[Design]) -> list[Point]:
        """Return the points of designs, in their order."""
        keys = [self._key(design) for design in designs]
        missing = {key: design for key, design in zip(keys, designs, strict=True) if key not in self._points.entries}
        for key, design in zip(keys, designs, strict=True):
            known = self._points.entries.get(key)
            if known is not None and known.design != design:
                told = f"{known.design} under the key of {design}"
                raise SimulatorError("points.jsonl", "design", expected="what this sweep has written", found=told)
        self._tell_designs(len(designs) - len(missing))
        valid: dict[str, Candidate] = {}
        invalid = []
        for key, design in missing.items():
            try:
                valid[key] = candidate_of(self._plan.base, design)
            except ValidationError as error:
                invalid.append(Point(key=key, design=design, failure=reason(error)))
        self._keep(invalid)
        classes = {}
        if self._plan.settings.rows:
            classes = {key: value_class(candidate, self._plan.settings.accelerator) for key, candidate in valid.items()}
        self._simulate(list(classes.values()))
        for found in self._costs(valid):
            self._keep([self._point(key, missing[key], cost, classes.get(key)) for key, cost in found.items()])
        return [self._points.entries[key] for key in keys]

    def _key(self, content: object) -> str:
        told = json.dumps([self._digest, content], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def _keep(self, points: Sequence[Point]) -> None:
        if points:
            self._points.append(points)
            self._tell_designs(len(points))

    def _tell_designs(self, done: int) -> None:
        self._designs_done += done
        self._on_progress("designs", self._designs_done, self._plan.tries)

    def _tell_rows(self, done: int) -> None:
        self._rows_done += done
        self._on_progress("rows", self._rows_done, self._rows_total)

    def _value_key(self, found: Candidate) -> str:
        return self._key([found.profile, found.accelerator.model_dump(mode="json")])

    def _simulate(self, classes: Sequence[Candidate]) -> None:
        """Find the values of classes that are not in the log, each once."""
        by_key = {self._value_key(found): found for found in dict.fromkeys(classes)}
        missing = {key: found for key, found in by_key.items() if key not in self._values.entries}
        keys, tasks = list(missing), [self._task(found) for found in missing.values()]
        self._rows_total += sum(task.rows for task in tasks)
        for number, found in self._simulated(tasks):
            self._values.append([Finding(key=keys[number], figures=found.figures, failure=found.failure)])

    def _task(self, found: Candidate) -> ValueTask:
        settings, folder = self._plan.settings, self._plan.artifact_dir
        assert folder is not None  # values are asked of artifacts only
        assert settings.artifact_digest is not None
        return ValueTask(found, folder.absolute(), settings.artifact_digest, settings.rows)

    def _simulated(self, tasks: Sequence[ValueTask]) -> Iterator[tuple[int, Cost]]:
        """Yield the figures of every task: here, one after the other on all cores; or spread over a cluster."""
        if self._plan.workers.backend not in CLUSTERS:
            for number, task in enumerate(tasks):
                yield number, simulate_values(task, self._tell_rows)
            return
        with closing(each(self._plan.workers, simulate_values, tasks)) as results:
            for number, found in results:
                self._tell_rows(tasks[number].rows)
                yield number, found

    def _costs(self, candidates: dict[str, Candidate]) -> Iterator[dict[str, Cost]]:
        """Yield costs by key as they are counted, many a task so that sending one weighs little."""
        keys, stride = list(candidates), self._plan.workers.points_per_task
        tasks = [keys[first : first + stride] for first in range(0, len(keys), stride)]
        sent = [[candidates[key] for key in task] for task in tasks]
        count = partial(cost_of_each, self._plan.workload)
        with closing(each(self._plan.workers, count, sent)) as results:
            for number, costs in results:
                yield dict(zip(tasks[number], costs, strict=True))

    def _point(self, key: str, design: Design, cost: Cost, values_of: Candidate | None) -> Point:
        if values_of is None:
            return Point(key=key, design=design, figures=cost.figures, failure=cost.failure)
        values = self._values.entries[self._value_key(values_of)]
        figures, failure = cost.figures | values.figures, cost.failure or values.failure
        return Point(key=key, design=design, figures=figures, failure=failure)
