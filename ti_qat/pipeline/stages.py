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


def plan(config: RunConfiguration, config_dir: Path, run_dir: Path) -> tuple[Stage, ...]:
    """Return the stages of a run. The command lines are those a user would type."""
    task = _locate(config.task.name, config_dir, run_dir)
    data = _locate(config.task.data, config_dir, run_dir)
    model = _locate(config.model.path, config_dir, run_dir)
    accelerator = _locate(config.simulation.accelerator, config_dir, run_dir)
    definitions = tuple(Path(name) for name in (task, accelerator) if Path(name).is_file())
    on_task = ("--task", task, "--data", data)
    teacher, student, artifact = run_dir / "teacher", run_dir / "student", run_dir / "artifact"
    simulation, bundle = run_dir / "simulation", run_dir / "bundle"
    limit = () if config.simulation.limit is None else ("--limit", str(config.simulation.limit))

    def verb(name: str, *arguments: str | Path) -> tuple[str, ...]:
        return (sys.executable, "-m", "ti_qat", name, *map(str, arguments), "--json")

    stages = [
        Stage(
            "teacher",
            "Fine-tune the full-precision teacher",
            verb("teach", "--model", model, *on_task, "--out", teacher, *as_set_options(config.teacher.settings)),
            teacher,
            definitions,
        ),
        Stage("teacher_score", "Score the teacher", verb("evaluate", teacher, *on_task), None),
        Stage(
            "student",
            f"Train the ternary student ({config.student.method})",
            verb(
                "train", "--teacher", teacher, *on_task, "--method", config.student.method, "--out", student,
                *as_set_options(config.student.settings),
            ),
            student,
        ),
        Stage("student_score", "Score the student", verb("evaluate", student, *on_task), None),
        Stage("artifact", "Export the artifact", verb("export", student, *on_task, "--out", artifact), artifact),
        Stage(
            "simulation",
            "Simulate the accelerator, bit by bit",
            verb("simulate", artifact, "--accelerator", accelerator, *limit, "--out", simulation),
            simulation,
        ),
        Stage("bundle", "Pack to 2 bits a weight", verb("pack", artifact, "--out", bundle), bundle),
        Stage("verification", "Verify the bundle", verb("verify", artifact, bundle, "--simulation", simulation), None),
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
