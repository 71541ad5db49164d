"""Stages run once, again when their definition changes, and never twice at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ti_qat.pipeline import runner
from ti_qat.pipeline.runner import RunBusyError, StageError, locked, run_stages
from ti_qat.pipeline.stages import Stage

APPEND = "import json, sys; open(sys.argv[1], 'a').write(sys.argv[2]); print(json.dumps({'wrote': sys.argv[2]}))"


def python_stage(name: str, code: str, *arguments: str, output: Path | None = None, reads: tuple = ()) -> Stage:
    return Stage(name, name, (sys.executable, "-c", code, *arguments), output, reads)


def quiet(*_: object) -> None:
    pass


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    stages = [python_stage("one", APPEND, str(log), "1"), python_stage("two", APPEND, str(log), "2")]
    first = run_stages(stages, tmp_path / "run", quiet)
    again = run_stages(stages, tmp_path / "run", quiet)
    assert log.read_text() == "12"
    assert first["two"].result == again["two"].result == {"wrote": "2"}
    assert (first["two"].reused, again["two"].reused) == (False, True)


def test_a_changed_stage_runs_again_with_all_that_follow(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tail = [python_stage("two", APPEND, str(log), "2"), python_stage("three", APPEND, str(log), "3")]
    run_stages([python_stage("one", APPEND, str(log), "1"), *tail], tmp_path / "run", quiet)
    run_stages([python_stage("one", APPEND, str(log), "x"), *tail], tmp_path / "run", quiet)
    assert log.read_text() == "123x23"


def test_a_changed_definition_file_runs_the_stage_again(tmp_path: Path) -> None:
    log, task = tmp_path / "log", tmp_path / "task.toml"
    for content in ("a", "a", "b"):
        task.write_text(content)
        run_stages([python_stage("one", APPEND, str(log), "1", reads=(task,))], tmp_path / "run", quiet)
    assert log.read_text() == "11"


def test_a_vanished_output_is_made_again(tmp_path: Path) -> None:
    output = tmp_path / "run" / "made"
    stage = python_stage("make", "import os, sys; os.makedirs(sys.argv[1])", str(output), output=output)
    run_stages([stage], tmp_path / "run", quiet)
    output.rmdir()
    run_stages([stage], tmp_path / "run", quiet)
    assert output.exists()


def test_a_failed_stage_stops_the_run_and_is_tried_again(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    code = "import pathlib, sys; sys.exit(0 if pathlib.Path(sys.argv[1]).exists() else 3)"
    with pytest.raises(StageError, match="stage one ended with exit status 3") as caught:
        run_stages([python_stage("one", code, str(flag))], tmp_path / "run", quiet)
    assert caught.value.exit_code == 3
    flag.touch()
    assert not run_stages([python_stage("one", code, str(flag))], tmp_path / "run", quiet)["one"].reused


def test_unfinished_work_survives_a_retry_but_not_a_change(tmp_path: Path) -> None:
    output = tmp_path / "run" / "out"
    partial = tmp_path / "run" / "out.partial"
    code = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); n = len(list(p.iterdir())) if p.exists() else 0; " \
        "p.mkdir(exist_ok=True); (p / str(n)).touch(); sys.exit(1)"  # fmt: skip
    for _ in range(2):
        with pytest.raises(StageError):
            run_stages([python_stage("one", code, str(partial), output=output)], tmp_path / "run", quiet)
    assert sorted(path.name for path in partial.iterdir()) == ["0", "1"]
    with pytest.raises(StageError):
        run_stages([python_stage("one", code, str(partial), "other", output=output)], tmp_path / "run", quiet)
    assert [path.name for path in partial.iterdir()] == ["0"]


def test_two_runs_in_one_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOCK_PATIENCE_S", 0.1)
    with locked(tmp_path / "run"), pytest.raises(RunBusyError, match="is at work in this folder"):
        run_stages([], tmp_path / "run", quiet)
    run_stages([], tmp_path / "run", quiet)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent (prctl)")
def test_killing_the_run_ends_its_stage(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)"
    parent = (
        "import sys; from pathlib import Path; from ti_qat.pipeline.runner import run_stages; "
        "from ti_qat.pipeline.stages import Stage; "
        f"run_stages([Stage('s', 's', (sys.executable, '-c', {child!r}, {str(pid_file)!r}), None)], "
        f"Path({str(tmp_path / 'run')!r}), lambda *_: None)"
    )
    run = subprocess.Popen([sys.executable, "-c", parent])
    deadline_s = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    stage_pid = int(pid_file.read_text())
    while time.monotonic() < deadline_s:
        try:
            os.kill(stage_pid, 0)
        except ProcessLookupError:
            break
        if Path(f"/proc/{stage_pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.01)
    else:
        pytest.fail("the stage outlived the run")
    run_stages([], tmp_path / "run", quiet)


INTERRUPTED = """
import os, pathlib, sys, time
checkpoint = pathlib.Path(sys.argv[1] + ".partial/checkpoint-7")
checkpoint.mkdir(parents=True)
(checkpoint / "complete.json").touch()
time.sleep(60)
"""


def test_an_interrupted_run_alone_says_where_it_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "run" / "student"
    parent = (
        "import click, sys; from pathlib import Path; from ti_qat.cli import LazyGroup; "
        "from ti_qat.pipeline.runner import run_stages; from ti_qat.pipeline.stages import Stage; "
        f"argv = (sys.executable, '-c', {INTERRUPTED!r}, {str(output)!r}); "
        f"stage = Stage('student', 's', argv, Path({str(output)!r})); "
        "verb = click.Command('verb', callback=lambda: "
        f"run_stages([stage], Path({str(tmp_path / 'run')!r}), lambda *_: None)); "
        "LazyGroup.get_command = lambda *_: verb; LazyGroup('test')(['verb'])"
    )
    run = subprocess.Popen([sys.executable, "-c", parent], stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline_s = time.monotonic() + 20
    while not (tmp_path / "run/student.partial/checkpoint-7/complete.json").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the run and its stage
    said = run.communicate()[1]
    line = "interrupted; the work so far is kept, and the same command goes on from step 7 of stage student"
    assert (run.returncode, said) == (130, f"ti-qat: {line}\n")
