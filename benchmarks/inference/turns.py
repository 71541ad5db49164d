"""Engines take turns: each in a process of its own that runs while the others are stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.inference.engines import Case, Engine

ROOT = Path(__file__).parents[2]
Answer = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where an engine runs: the Python of its environment, and its model."""

    engine: Engine
    python: Path
    model: Path


@dataclass(frozen=True)
class Turn:
    """Medians of a turn's calls. By the processors' clock a machine that others use too matters least."""

    wall_ms: float
    processor_ms: float


class Worker:
    """An engine's process, stopped unless it answers: its idle threads may spin, and would slow the others."""

    def __init__(self, place: Place, threads: int, shapes: Sequence[tuple[int, int]], turn_s: float) -> None:
        task = {
            "engine": place.engine.name,
            "package": place.engine.package,
            "model": str(place.model.absolute()),
            "threads": threads,
            "cores": sorted(os.sched_getaffinity(0))[-threads:],
            "shapes": shapes,
            "turn_s": turn_s,
        }
        self._name = place.engine.name
        self._process = subprocess.Popen(
            [place.python.absolute(), "-m", "benchmarks.inference.worker", json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
            process_group=0,  # should we be killed, the system wakes and ends stopped members of an orphaned group
        )
        try:
            self.loaded = self._answer()
        except BaseException:
            self.close()
            raise

    def turn(self, case: Case) -> Answer:
        """Run the case for a turn; return `calls_ms` and `peak_rss_bytes`."""
        self._process.send_signal(signal.SIGCONT)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: what follows says so
            self._process.stdin.write(json.dumps([case.batch, case.tokens]) + "\n")
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.send_signal(signal.SIGCONT)
        self._process.communicate()

    def _answer(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise click.ClickException(f"{self._name}: its process ended with status {self._process.wait()}")
        self._process.send_signal(signal.SIGSTOP)
        found: Answer = json.loads(line)
        return found


def probe(place: Place, case: Case, turn_s: float) -> Answer:
    """Return what a process tells that loads the model and runs this case alone, `peak_rss_bytes` among it."""
    worker = Worker(place, case.threads, [(case.batch, case.tokens)], turn_s)
    try:
        return worker.loaded | worker.turn(case)
    finally:
        worker.close()


def take_turns(
    places: Sequence[Place], cases: Sequence[Case], rounds: int, turn_s: float
) -> tuple[dict[str, dict[Case, list[Turn]]], dict[str, list[list[list[float]]]]]:
    """Run every case on every engine, once a round; return the turns by engine and case, and the logits by engine."""
    shapes = {
        threads: [(c.batch, c.tokens) for c in cases if c.threads == threads] for threads in {1} | threads_of(cases)
    }
    workers: dict[tuple[str, int], Worker] = {}
    taken: dict[str, dict[Case, list[Turn]]] = {place.engine.name: {case: [] for case in cases} for place in places}
    try:
        for place in places:
            for threads in threads_of(cases):
                workers[place.engine.name, threads] = Worker(place, threads, shapes[threads], turn_s)
        for index in range(rounds):
            click.echo(f"round {index + 1} of {rounds}", err=True)
            for case in cases:
                for place in places if index % 2 else list(reversed(places)):
                    answer = workers[place.engine.name, case.threads].turn(case)
                    taken[place.engine.name][case].append(turn_of(answer))
        return taken, {name: worker.loaded["logits"] for (name, threads), worker in workers.items() if threads == 1}
    finally:
        for worker in workers.values():
            worker.close()


def threads_of(cases: Sequence[Case]) -> set[int]:
    """Return the numbers of threads among the cases."""
    return {case.threads for case in cases}


def turn_of(answer: Mapping[str, Any]) -> Turn:
    """Return the medians of the calls in an answer."""
    walls_ms, processors_ms = zip(*answer["calls_ms"], strict=True)
    return Turn(median(walls_ms), median(processors_ms))
