"""Teaching and training from directories to a directory; what `ti-qat teach` and `ti-qat train` do."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from transformers import PreTrainedModel, set_seed
from transformers.utils import logging as transformers_logging

from ti_qat import __version__
from ti_qat.artifact.atomic import require_replaceable, whole_directory, write_whole
from ti_qat.config import StudentConfig, TeacherConfig, TrainingConfig
from ti_qat.errors import ConfigurationError, TaskError, TrainingError, UnsupportedModelError
from ti_qat.method.distillation import require_served
from ti_qat.method.schedules import GradualLambda, Method, Schedule, schedule_for
from ti_qat.models import model_directory
from ti_qat.models.families import longest_input, require_exportable
from ti_qat.models.model_directory import StudentDescription, TrainedModel, TrainedTask, TrainingRecord
from ti_qat.models.modeling import make_student, set_dropout, static_quantizers
from ti_qat.quantization.quantizers import Mode, activation_mode
from ti_qat.sharing.model_card import write_card
from ti_qat.sharing.model_hub import inherited_metadata
from ti_qat.tasks.data import training_order
from ti_qat.tasks.lookup import Task, objective_of
from ti_qat.tasks.objectives import Objective, Processor, Split
from ti_qat.training.intervention_trainer import InterventionTrainer
from ti_qat.training.processes import processes, require_whole_models
from ti_qat.training.progress import LOG_FILE, REPORTS_DIR, log_lines, reporters
from ti_qat.training.trainer import ResumableTrainer, micro_batch_rows, total_steps

SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class TrainingResult:
    """Where the model lies, its score on the evaluation split, and what it cost."""

    path: str
    score: float
    metric: str
    steps: int
    training_rows: int
    evaluation_rows: int


@dataclass(frozen=True)
class _Splits:
    train: Dataset
    dev: Dataset


def teach(source: str, task: Task, data_dir: Path, out: Path, config: TeacherConfig) -> TrainingResult:
    """Fine-tune the encoder at `source` (a directory or hub name) into the teacher directory `out`.

    Raises `UnsupportedModelError`, `TaskError` or `TrainingError`. Killed, it goes on when called again.
    """
    _prepare_process(config)
    model, processor = model_directory.load_pretrained(source, task)
    longest = longest_input(model.config)
    if longest is not None and config.max_length > longest:
        raise TaskError(f"max_length: expected at most the model's {longest} positions, found {config.max_length}")
    splits = _read_splits(task, data_dir, processor, config.max_length)
    trained = TrainedTask(
        task=task,
        max_length=config.max_length,
        source=Path(source).name,
        base_model=Path(source).name if Path(source).is_dir() else source,
        seed=config.seed,
        training_rows=len(splits.train),
    )
    with _work_directory(out, _settings("teach", config, source, task, data_dir)) as work_dir:
        trainer = ResumableTrainer(
            model=model,
            config=config,
            processor=processor,
            train=splits.train,
            dev=splits.dev,
            objective=objective_of(task),
            work_dir=work_dir,
            title="teacher",
        )
        trainer.run()
        return _finish(trainer, TrainedModel(trainer.model, processor, trained, None), splits, work_dir, source, out)


def train(
    teacher_dir: Path, task: Task, data_dir: Path, method: Method, out: Path, config: StudentConfig
) -> TrainingResult:
    """Train the ternary student of the teacher at `teacher_dir` into the student directory `out`.

    Raises `UnsupportedModelError`, `TaskError`, `ConfigurationError` or `TrainingError`. Killed, it goes on
    when called again.
    """
    _prepare_process(config)
    teacher = model_directory.load_teacher(teacher_dir)
    if config.exportable:
        _require_exportable(teacher.model, config)
    if method.distils:
        require_served(config, is_language_model=teacher.model.can_generate())
    model_directory.require_same_labels(task, teacher)
    splits = _read_splits(task, data_dir, teacher.processor, teacher.trained.max_length)
    steps = total_steps(config, len(splits.train))
    schedule = schedule_for(method, steps_of_intervention(config, steps) if method.intervenes else 0, config.seed)
    student = make_student(teacher.model, config.quantizers())
    set_dropout(student, config.dropout)
    objective = objective_of(task)
    calibrate(student, splits.train, objective, teacher.processor, config)
    trained = teacher.trained.model_copy(
        update={"task": task, "source": teacher_dir.name, "seed": config.seed, "training_rows": len(splits.train)}
    )
    description = StudentDescription(quantizers=config.quantizers(), method=method)
    settings = _settings("train", config, str(teacher_dir), task, data_dir) | {"method": method.value}
    with _work_directory(out, settings) as work_dir:
        trainer = _student_trainer(student, teacher, splits, method, schedule, config, objective, work_dir)
        trainer.run()
        model = TrainedModel(student, teacher.processor, trained, description)
        return _finish(trainer, model, splits, work_dir, str(teacher_dir), out)


def _require_exportable(teacher: PreTrainedModel, config: StudentConfig) -> None:
    """Raise `UnsupportedModelError` or `ConfigurationError`, with the way out, where no artifact holds the student."""
    try:
        require_exportable(teacher.config)
        config.quantizers().exported()
    except (UnsupportedModelError, ConfigurationError) as error:
        raise type(error)(f"{error}; set exportable=false to train it nevertheless") from error


def _student_trainer(
    student: PreTrainedModel,
    teacher: TrainedModel,
    splits: _Splits,
    method: Method,
    schedule: Schedule,
    config: StudentConfig,
    objective: Objective,
    work_dir: Path,
) -> ResumableTrainer:
    common: dict[str, Any] = {
        "model": student,
        "config": config,
        "processor": teacher.processor,
        "train": splits.train,
        "dev": splits.dev,
        "objective": objective,
        "work_dir": work_dir,
        "title": f"student ({method})",
        "first_stage_steps": _first_stage_steps(schedule, config, len(splits.train)),
        "padded_length": teacher.trained.max_length if config.pad_to_max_length else None,
    }
    if not method.distils:
        return ResumableTrainer(**common)
    gradual_lambda = GradualLambda(config.gradual_lambda_steps) if method is Method.GRADUAL_LAMBDA else None
    return InterventionTrainer(teacher=teacher.model, schedule=schedule, gradual_lambda=gradual_lambda, **common)


def _first_stage_steps(schedule: Schedule, config: StudentConfig, rows: int) -> int:
    """Return the steps after which the optimiser starts anew, 0 where it never does."""
    if not config.restart_after_intervention or schedule.point(0) is None:
        return 0
    return steps_of_intervention(config, total_steps(config, rows))


def steps_of_intervention(config: StudentConfig, steps: int) -> int:
    """Return T, the steps with intervention among `steps`; raise `ConfigurationError` where it is more than all."""
    if config.intervention_steps is None:
        return int(config.intervention_fraction * steps)
    if config.intervention_steps > steps:
        raise ConfigurationError(
            f"intervention_steps: expected at most the run's {steps} steps, found {config.intervention_steps}"
        )
    return config.intervention_steps


def calibrate(
    student: PreTrainedModel, train: Dataset, objective: Objective, processor: Processor, config: StudentConfig
) -> None:
    """Set the learned scales of `student` from the first training batches, seen through ternary weights."""
    quantizers = static_quantizers(student)
    if not quantizers:
        return
    size = config.batch_size
    order = training_order(objective.lengths(train), size, config.calibration_batches, config.seed)
    collate = objective.collator(processor)
    student.eval()
    with torch.no_grad(), activation_mode(student, Mode.OBSERVE):
        for start in range(0, len(order), size):
            batch = collate([train[row] for row in order[start : start + size]])
            student(**{name: tensor for name, tensor in batch.items() if name != "labels"})
    for quantizer in quantizers.values():
        quantizer.calibrate()


def _prepare_process(config: TrainingConfig) -> None:
    """Set up this process; raise `ConfigurationError` for what the Trainer could not start with."""
    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    if config.threads:
        torch.set_num_threads(config.threads)
    set_seed(config.seed)
    require_whole_models()
    micro_batch_rows(config)
    reporters(config)


def _read_splits(task: Task, data_dir: Path, processor: Processor, max_length: int) -> _Splits:
    with processes().main_process_first():  # a task of the hub is downloaded once
        return _Splits(*(objective_of(task).read(data_dir, split, processor, max_length) for split in Split))


def _settings(verb: str, config: TrainingConfig, source: str, task: Task, data_dir: Path) -> dict[str, Any]:
    """Return what a run depends on, so that a checkpoint is never continued under other settings."""
    digests = objective_of(task).fingerprints(data_dir)
    for file in sorted(Path(source).glob("*.safetensors")):
        with file.open("rb") as stream:
            digests[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    config_values = config.model_dump(mode="json")
    return {
        "verb": verb,
        "version": __version__,
        **config_values,
        "processes": processes().num_processes,
        "source": source,
        "task": task.model_dump(mode="json"),
        "inputs": digests,
    }


@contextmanager
def _work_directory(out: Path, settings: dict[str, Any]) -> Iterator[Path]:
    """Yield OUT.partial, where an unfinished run with the same settings left its checkpoints."""
    work_dir = out.with_name(out.name + ".partial")
    with processes().main_process_first():
        require_replaceable(out, _telling_file(settings["verb"] == "train"))
        _take_up(work_dir, settings)
    yield work_dir
    processes().wait_for_everyone()
    if processes().is_main_process:
        shutil.rmtree(work_dir)


def _take_up(work_dir: Path, settings: dict[str, Any]) -> None:
    """Make `work_dir`, or raise `TrainingError` where it holds a run with other settings."""
    file = work_dir / SETTINGS_FILE
    if not file.exists():
        work_dir.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(settings, indent=2) + "\n")
    earlier = json.loads(file.read_text(encoding="utf-8"))
    changed = [key for key in settings if earlier.get(key) != settings[key]]
    if changed:
        raise TrainingError(
            f"{work_dir}: holds an unfinished run with other settings ({', '.join(changed)});"
            " finish it with those, remove the folder, or choose another --out"
        )


def _telling_file(is_student: bool) -> str:
    """Return the file that tells an earlier output, which may be replaced, from anything else."""
    return model_directory.STUDENT_FILE if is_student else model_directory.TASK_FILE


def _finish(
    trainer: ResumableTrainer, model: TrainedModel, splits: _Splits, work_dir: Path, source: str, out: Path
) -> TrainingResult:
    """Score the model made from `source` and write it, whole, to `out`: scored by all processes, written by one."""
    record = TrainingRecord(
        score=trainer.final_score(), steps=trainer.state.global_step, evaluation_rows=len(splits.dev)
    )
    if processes().is_main_process:
        model = replace(model, trained=model.trained.model_copy(update={"result": record}))
        lines = log_lines(trainer.state.log_history)
        with whole_directory(out, _telling_file(model.student is not None)) as fresh:
            model_directory.save(fresh, model)
            (fresh / LOG_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            if (work_dir / REPORTS_DIR).is_dir():
                shutil.copytree(work_dir / REPORTS_DIR, fresh / REPORTS_DIR)
            write_card(fresh, out.name, model, inherited_metadata(source))
    return TrainingResult(
        path=str(out),
        score=record.score,
        metric=model.trained.task.metric.value,
        steps=record.steps,
        training_rows=len(splits.train),
        evaluation_rows=record.evaluation_rows,
    )
