"""What `ti-qat run` does, in order: each stage is one command line and what it leaves behind."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from ti_qat.pipeline.config import RunConfiguration, as_set_options


@dataclass(frozen=True)
class Stage:
    """One process. `output` (if any) appears whole when it is done; `reads` are files that define it."""

    name: str
    title: str
    argv: tuple[str, ...]
    output: Path | None
    reads: tuple[Path, ...] = ()


def _locate(name: str, config_dir: Path, run_dir: Path) -> str:
    """Return a path beside the configuration, or else in the run; a plain name stays as it is."""
    beside = config_dir / name
    if beside.exists():
        return str(beside.resolve())
    return str(run_dir / name) if name.startswith("inputs/") else name


def _verb(name: str, *arguments: str | Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "ti_qat", name, *map(str, arguments), "--json")


def accelerator_check(config: RunConfiguration, config_dir: Path, run_dir: Path) -> tuple[str, ...] | None:
    """Return the command that fails where the run's accelerator cannot be simulated; it takes a second.

    None where the accelerator is a file that the preparing script has yet to make.
    """
    accelerator = _locate(config.simulation.accelerator, config_dir, run_dir)
    is_made = config.prepare is not None and Path(accelerator).is_relative_to(run_dir / "inputs")
    if is_made and not Path(accelerator).exists():
        return None
    return _verb("accelerators", accelerator)


def plan(config: RunConfiguration, config_dir: Path, run_dir: Path) -> tuple[Stage, ...]:
    """Return the stages of a run. The command lines are those a user would type."""
    task = _locate(config.task.name, config_dir, run_dir)
    data = _locate(config.task.data, config_dir, run_dir)
    model = _locate(config.model.path, config_dir, run_dir)
    accelerator = _locate(config.simulation.accelerator, config_dir, run_dir)
    task_files, accelerator_files = (tuple(filter(Path.is_file, [Path(name)])) for name in (task, accelerator))
    on_task = ("--task", task, "--data", data)
    teacher, student, artifact = run_dir / "teacher", run_dir / "student", run_dir / "artifact"
    simulation, bundle = run_dir / "simulation", run_dir / "bundle"
    limit = () if config.simulation.limit is None else ("--limit", str(config.simulation.limit))

    stages = [
        Stage(
            "teacher",
            "Fine-tune the full-precision teacher",
            _verb("teach", "--model", model, *on_task, "--out", teacher, "--replace",
                *as_set_options(config.teacher.settings)),
            teacher,
            task_files,
        ),
        Stage("teacher_score", "Score the teacher", _verb("evaluate", teacher, *on_task), None),
        Stage(
            "student",
            f"Train the ternary student ({config.student.method})",
            _verb(
                "train", "--teacher", teacher, *on_task, "--method", config.student.method, "--out", student,
                "--replace", *as_set_options(config.student.settings),
            ),
            student,
        ),
        Stage("student_score", "Score the student", _verb("evaluate", student, *on_task), None),
        Stage(
            "artifact",
            "Export the artifact",
            _verb("export", student, *on_task, "--teacher", teacher, "--out", artifact),
            artifact,
        ),
        Stage(
            "simulation",
            "Simulate the accelerator, bit by bit",
            _verb("simulate", artifact, "--accelerator", accelerator, *limit, "--out", simulation),
            simulation,
            accelerator_files,
        ),
        Stage("bundle", "Pack to 2 bits a weight", _verb("pack", artifact, "--out", bundle), bundle),
        Stage("verification", "Verify the bundle", _verb("verify", artifact, bundle, "--simulation", simulation), None),
    ]  # fmt: skip
    if config.prepare is not None:
        script = (config_dir / config.prepare.script).resolve()
        inputs = run_dir / "inputs"
        argv = (sys.executable, str(script), "--out", str(inputs))
        stages.insert(0, Stage("inputs", "Fetch the encoder and the data", argv, inputs, (script,)))
    return tuple(stages)


def report_stage(run_dir: Path) -> Stage:
    """Return the last stage, which draws RUN/report.html from RUN/report.json."""
    argv = (sys.executable, "-m", "ti_qat", "report", str(run_dir), "--json")
    return Stage("report", "Draw the report", argv, run_dir / "report.html", (run_dir / "report.json",))
