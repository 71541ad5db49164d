"""Teaching and training from directories to a directory; what `ti-qat teach` and `ti-qat train` do."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedConfig, PreTrainedModel, set_seed

from ti_qat.artifact.atomic import whole_directory
from ti_qat.config import QuantizerSettings, StudentConfig, TeacherConfig, TrainingConfig
from ti_qat.errors import ConfigurationError, TaskError, UnsupportedModelError
from ti_qat.method.distillation import require_served
from ti_qat.method.schedules import GradualLambda, Method, schedule_for, warn_of_idleness
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
from ti_qat.training.run_directory import is_finished, run_settings, work_directory, write_settings
from ti_qat.training.trainer import ResumableTrainer, micro_batch_rows, total_steps


@dataclass(frozen=True)
class TrainingResult:
    """Where the model lies, its score on the evaluation split, and what it cost.

    `done_before`: an earlier run with the same settings had ended in it, so nothing was trained.
    """

    path: str
    score: float
    metric: str
    steps: int
    training_rows: int
    evaluation_rows: int
    done_before: bool = False


@dataclass(frozen=True)
class _Splits:
    train: Dataset
    dev: Dataset


def teach(
    source: str, task: Task, data_dir: Path, out: Path, config: TeacherConfig, replace: bool = False
) -> TrainingResult:
    """Fine-tune the encoder at `source` (a directory or hub name) into the teacher directory `out`.

    Raises `UnsupportedModelError`, `TaskError`, `TrainingError` or `OutputError`. Killed, it goes on when
    called again; finished, it returns what it found. `replace` the result of a run with other settings.
    """
    _prepare_process(config)
    checkpoint = model_directory.pretrained_config(source, task)
    if config.exportable:
        _require_exportable(checkpoint)
    settings = run_settings("teach", config, source, task, data_dir)
    if is_finished(out, settings, model_directory.TASK_FILE, replace):
        return _found(out)
    model, processor = model_directory.load_pretrained(source, checkpoint, task)
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
    with work_directory(out, settings) as work_dir:
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
        model = TrainedModel(trainer.model, processor, trained, None)
        return _finish(trainer, model, splits, work_dir, settings, source, out)


def train(
    teacher_dir: Path,
    task: Task,
    data_dir: Path,
    method: Method,
    out: Path,
    config: StudentConfig,
    replace: bool = False,
) -> TrainingResult:
    """Train the ternary student of the teacher at `teacher_dir` into the student directory `out`.

    Raises `UnsupportedModelError`, `TaskError`, `ConfigurationError`, `TrainingError` or `OutputError`.
    Killed, it goes on when called again; finished, it returns what it found. `replace` the result of a run
    with other settings.
    """
    _prepare_process(config)
    settings = run_settings("train", config, str(teacher_dir), task, data_dir) | {"method": method.value}
    if is_finished(out, settings, model_directory.STUDENT_FILE, replace):
        return _found(out)
    teacher = model_directory.load_teacher(teacher_dir)
    if config.exportable:
        _require_exportable(teacher.model.config, config.quantizers())
    if method.distils:
        require_served(config, is_language_model=teacher.model.can_generate())
    model_directory.require_same_labels(task, teacher)
    splits = _read_splits(task, data_dir, teacher.processor, teacher.trained.max_length)
    steps = total_steps(config, len(splits.train))
    intervention_steps = steps_of_intervention(config, steps) if method.intervenes else 0
    if processes().is_main_process:
        warn_of_idleness(method, intervention_steps, config.gradual_lambda_steps, steps)
    student = make_student(teacher.model, config.quantizers())
    set_dropout(student, config.dropout)
    objective = objective_of(task)
    calibrate(student, splits.train, objective, teacher.processor, config)
    trained = teacher.trained.model_copy(
        update={"task": task, "source": teacher_dir.name, "seed": config.seed, "training_rows": len(splits.train)}
    )
    description = StudentDescription(quantizers=config.quantizers(), method=method)
    with work_directory(out, settings) as work_dir:
        trainer = _student_trainer(student, teacher, splits, method, intervention_steps, config, objective, work_dir)
        trainer.run()
        model = TrainedModel(student, teacher.processor, trained, description)
        return _finish(trainer, model, splits, work_dir, settings, str(teacher_dir), out)


def _require_exportable(model: PreTrainedConfig, quantizers: QuantizerSettings | None = None) -> None:
    """Raise `UnsupportedModelError` or `ConfigurationError`, with the way out, where no artifact holds a student."""
    try:
        require_exportable(model)
        if quantizers is not None:
            quantizers.exported()
    except (UnsupportedModelError, ConfigurationError) as error:
        raise type(error)(f"{error}; set exportable=false to train it nevertheless") from error


def _student_trainer(
    student: PreTrainedModel,
    teacher: TrainedModel,
    splits: _Splits,
    method: Method,
    intervention_steps: int,
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
        "first_stage_steps": intervention_steps if config.restart_after_intervention else 0,
        "padded_length": teacher.trained.max_length if config.pad_to_max_length else None,
    }
    if not method.distils:
        return ResumableTrainer(**common)
    schedule = schedule_for(method, intervention_steps, config.seed)
    gradual_lambda = GradualLambda(config.gradual_lambda_steps) if method is Method.GRADUAL_LAMBDA else None
    return InterventionTrainer(teacher=teacher.model, schedule=schedule, gradual_lambda=gradual_lambda, **common)


def steps_of_intervention(config: StudentConfig, steps: int) -> int:
    """Return T, the steps with intervention among `steps`; raise `ConfigurationError` where it is more than all."""
    if config.intervention_steps is None:
        return int(round(config.intervention_fraction * steps, 9))  # 0.29 of 100 is 29, not 28.999...
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
    if config.threads:
        torch.set_num_threads(config.threads)
    set_seed(config.seed)
    require_whole_models()
    micro_batch_rows(config)
    reporters(config)


def _read_splits(task: Task, data_dir: Path, processor: Processor, max_length: int) -> _Splits:
    with processes().main_process_first():  # a task of the hub is downloaded once
        return _Splits(*(objective_of(task).read(data_dir, split, processor, max_length) for split in Split))


def _finish(
    trainer: ResumableTrainer,
    model: TrainedModel,
    splits: _Splits,
    work_dir: Path,
    settings: dict[str, Any],
    source: str,
    out: Path,
) -> TrainingResult:
    """Score the model made from `source` and write it, whole, to `out`: scored by all processes, written by one."""
    record = TrainingRecord(
        score=trainer.final_score(), steps=trainer.state.global_step, evaluation_rows=len(splits.dev)
    )
    if processes().is_main_process:
        model = replace(model, trained=model.trained.model_copy(update={"result": record}))
        lines = log_lines(trainer.state.log_history)
        with whole_directory(out, _telling_file(model)) as fresh:
            model_directory.save(fresh, model)
            write_settings(fresh, settings)
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


def _telling_file(model: TrainedModel) -> str:
    """Return the file that tells an earlier output, which may be replaced, from anything else."""
    return model_directory.TASK_FILE if model.student is None else model_directory.STUDENT_FILE


def _found(out: Path) -> TrainingResult:
    """Return the result of the finished run that `out` holds; raise `TrainingError` where it is damaged."""
    trained = model_directory.load(out).trained
    return TrainingResult(
        path=str(out),
        score=trained.result.score,
        metric=trained.task.metric.value,
        steps=trained.result.steps,
        training_rows=trained.training_rows,
        evaluation_rows=trained.result.evaluation_rows,
        done_before=True,
    )
