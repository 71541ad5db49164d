"""Guided search: the same trials for the same seed, also after a kill, and better ones than chance."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwsim.exploration.cli import sweep_space
from hwsim.exploration.results import Sweep

SPACE = """
accelerator = "wearable"
tokens = 16
objectives = {latency_ms = "minimise", energy_pj = "minimise"}
constraints = ["weights_resident = true"]
workers = {backend = "sequential"}
[axes]
array_rows = {from = 4, to = 64, step = 4}
array_columns = {from = 4, to = 64, step = 4}
dataflow = ["output_stationary", "weight_stationary", "input_stationary"]
weight_buffer_bytes = [65536, 1024, 4096, 16384]
clock_hz = {from = 1e7, to = 1e9, count = 8}
[shape]
family = "bert"
layers = 1
hidden = 32
heads = 2
feed_forward = 64
vocabulary = 100
positions = 128
token_types = 2
labels = 2
[strategy]
kind = "optuna"
trials = 60
batch = 12
sampler = "nsga2"
seed = 3
"""


def swept(folder: Path, text: str) -> Sweep:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "space.toml").write_text(text)
    return sweep_space(folder / "space.toml", folder / "out")


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_trials_follow_from_the_seed_and_survive_a_kill(tmp_path: Path, sampler: str) -> None:
    text = SPACE.replace("nsga2", sampler)
    whole = swept(tmp_path / "whole", text)
    assert whole.trials is not None
    assert len(whole.trials) == 60
    assert max(whole.trials) + 1 == len(whole.points)
    killed = tmp_path / "killed"
    swept(killed, text)
    log = killed / "out" / "points.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:17]) + lines[17][:30])  # in the midst of a batch, and of a line
    assert swept(killed, text) == whole
    assert (killed / "out" / "sweep.json").read_bytes() == (tmp_path / "whole" / "out" / "sweep.json").read_bytes()
    assert swept(tmp_path / "other", text.replace("seed = 3", "seed = 4")).points != whole.points


def test_trials_do_not_depend_on_who_evaluates(tmp_path: Path) -> None:
    processes = SPACE.replace('"sequential"', '"loky", jobs = 2, points_per_task = 2')
    assert swept(tmp_path / "loky", processes).points == swept(tmp_path / "sequential", SPACE).points


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_it_learns_where_the_good_designs_are(tmp_path: Path, sampler: str) -> None:
    """The last third of the trials is faster, and keeps the constraint more often, than the first."""
    found = swept(tmp_path, SPACE.replace("nsga2", sampler).replace("trials = 60", "trials = 120"))
    assert found.trials is not None
    points = [found.points[index] for index in found.trials]

    def feasible_and_typical(part: list) -> tuple[int, float]:
        latencies = sorted(point.figures["latency_ms"] for point in part if point.failure is None)
        return sum(point.feasible for point in part), latencies[len(latencies) // 2]

    (first_feasible, first_ms), (last_feasible, last_ms) = (
        feasible_and_typical(points[:40]),
        feasible_and_typical(points[-40:]),
    )
    assert last_feasible > first_feasible
    assert last_ms < first_ms
