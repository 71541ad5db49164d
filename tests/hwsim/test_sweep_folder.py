"""What a sweep leaves in its folder: found again, never another's, and nothing else in it is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hwsim.errors import SimulatorError
from hwsim.exploration import evaluation as evaluation_module
from hwsim.exploration.cli import sweep_space
from hwsim.exploration.costs import Candidate, Workload, cost_of_each
from hwsim.exploration.point_log import FindingLog, Point
from tests.hwsim.spaces import COSTS, files_of, written
from ti_qat.artifact.errors import OutputError


@pytest.mark.parametrize("cut", ["line", "half a line"])
def test_what_is_there_is_not_evaluated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str) -> None:
    file, out = written(tmp_path, COSTS), tmp_path / "out"
    sweep_space(file, out)
    whole, log = files_of(out), out / "points.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:10]) + (lines[10][:40] if cut == "half a line" else b""))
    evaluated: list[Candidate] = []

    def counting(workload: Workload, candidates: list[Candidate]) -> Any:
        evaluated.extend(candidates)
        return cost_of_each(workload, candidates)

    monkeypatch.setattr(evaluation_module, "cost_of_each", counting)
    sweep_space(file, out)
    assert files_of(out) == whole
    assert sorted(log.read_bytes().splitlines(keepends=True)) == sorted(lines)
    missing = [json.loads(line) for line in lines[10:]]
    assert len(evaluated) == sum(point["failure"] is None for point in missing) > 0
    sweep_space(file, out)
    assert len(evaluated) == sum(point["failure"] is None for point in missing)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("array_rows = [8, 16]", "array_rows = [8, 32]", r"space\.axes\.array_rows"),
        ('energy_pj = "minimise"', 'energy_pj = "maximise"', r"space\.objectives\.energy_pj"),
        ("hidden = 32", "hidden = 64", r"space\.shape\.hidden"),
        ('"wearable"', '"phone"', r"space\.accelerator"),
    ],
)
def test_a_folder_of_another_space_is_refused(tmp_path: Path, old: str, new: str, field: str) -> None:
    sweep_space(written(tmp_path, COSTS), tmp_path / "out")
    before = files_of(tmp_path / "out")
    with pytest.raises(SimulatorError, match=rf"out: {field}: expected .+ as in this folder's sweep, found"):
        sweep_space(written(tmp_path, COSTS.replace(old, new)), tmp_path / "out")
    assert files_of(tmp_path / "out") == before


def test_who_evaluates_is_no_part_of_the_space_or_the_result(tmp_path: Path) -> None:
    sweep_space(written(tmp_path, COSTS), tmp_path / "out")
    before = files_of(tmp_path / "out")
    processes = COSTS.replace('"sequential"', '"loky", jobs = 2, points_per_task = 3')
    sweep_space(written(tmp_path, processes), tmp_path / "out")
    assert files_of(tmp_path / "out") == before
    sweep_space(written(tmp_path, processes), tmp_path / "afresh")
    assert files_of(tmp_path / "afresh") == before


def test_a_folder_of_other_things_and_a_broken_log_are_refused(tmp_path: Path) -> None:
    file, out = written(tmp_path, COSTS), tmp_path / "out"
    with pytest.raises(OutputError, match=r"space\.json"):
        sweep_space(file, tmp_path.parent)
    with pytest.raises(OutputError, match="expected a folder or a place for one"):
        sweep_space(file, file / "out")
    sweep_space(file, out)
    lines = (out / "points.jsonl").read_text().splitlines(keepends=True)
    (out / "points.jsonl").write_text(lines[0] + '{"key": 5}\n' + lines[2])
    with pytest.raises(SimulatorError, match=r"points\.jsonl:2: key"):
        sweep_space(file, out)


@pytest.mark.parametrize(
    ("found", "content", "message"),
    [
        ('"design":{', '"design":{"bank_ports":2,', r"points\.jsonl: design: expected what this sweep has written"),
        ('"latency_ms":', '"latency_ms":1e999,"other":', r"points\.jsonl:1: figures\.latency_ms"),
    ],
)
def test_a_log_that_another_has_edited_is_refused(tmp_path: Path, found: str, content: str, message: str) -> None:
    file, out = written(tmp_path, COSTS), tmp_path / "out"
    sweep_space(file, out)
    text = (out / "points.jsonl").read_text()
    lines = sorted(text.splitlines(keepends=True), key=lambda line: found not in line)
    (out / "points.jsonl").write_text(lines[0].replace(found, content, 1) + "".join(lines[1:]))
    with pytest.raises(SimulatorError, match=message):
        sweep_space(file, out)


def test_a_log_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    file, out, letter = written(tmp_path, COSTS), tmp_path / "out", tmp_path / "letter"
    letter.write_text("dear")
    sweep_space(file, out)
    (out / "points.jsonl").unlink()
    (out / "points.jsonl").symlink_to(letter)
    with pytest.raises(SimulatorError, match=r"points\.jsonl: file: expected a log of ours"):
        sweep_space(file, out)
    assert letter.read_text() == "dear"


def test_settings_that_are_none_are_refused(tmp_path: Path) -> None:
    file, out = written(tmp_path, COSTS), tmp_path / "out"
    sweep_space(file, out)
    for content, message in ((b"{", r"space\.json: content"), (b"\xff", r"space\.json: content"), (b"[1]", "content")):
        (out / "space.json").write_bytes(content)
        with pytest.raises(SimulatorError, match=message):
            sweep_space(file, out)


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    file, out = written(tmp_path, COSTS), tmp_path / "out"
    sweep_space(file, out)
    with (
        FindingLog(out / "points.jsonl", Point),
        pytest.raises(SimulatorError, match="one sweep at a time, found another"),
    ):
        sweep_space(file, out)
