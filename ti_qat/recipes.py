"""Teaching and training from directories to a directory; what `ti-qat teach` and `ti-qat train` do."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.utils import logging as transformers_logging

from ti_qat import __version__, model_directory
from ti_qat.artifact.atomic import require_replaceable, whole_directory, write_whole
from ti_qat.artifact.schema import Metric
from ti_qat.config import StudentConfig, TeacherConfig, TrainingConfig
from ti_qat.data import RightPadding, lengths_of, read_rows, task_file, tokenized, training_order
from ti_qat.errors import ConfigurationError, TaskError, TrainingError
from ti_qat.families import position_offset, require_exportable
from ti_qat.intervention_trainer import InterventionTrainer
from ti_qat.model_directory import StudentDescription, TrainedModel, TrainedTask
from ti_qat.modeling import make_student, set_dropout, static_quantizers
from ti_qat.progress import LOG_FILE, log_lines
from ti_qat.quantizers import Mode, activation_mode
from ti_qat.schedules import Method, Schedule, schedule_for
from ti_qat.tasks import TextTask
from ti_qat.training import ResumableTrainer, total_steps

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


def teach(source: str, task: TextTask, data_dir: Path, out: Path, config: TeacherConfig) -> TrainingResult:
    """Fine-tune the encoder at `source` (a directory or hub name) into the teacher directory `out`.

    Raises `UnsupportedModelError`, `TaskError` or `TrainingError`. Killed, it goes on when called again.
    """
    _prepare_process(config)
    model, tokenizer = model_directory.load_pretrained(source, task)
    longest = model.config.max_position_embeddings - position_offset(model.config)
    if config.max_length > longest:
        raise TaskError(f"max_length: expected at most the model's {longest} positions, found {config.max_length}")
    splits = _read_splits(task, data_dir, tokenizer, config.max_length)
    trained = TrainedTask(
        task=task,
        max_length=config.max_length,
        source=Path(source).name,
        seed=config.seed,
        training_rows=len(splits.train),
    )
    with _work_directory(out, _settings("teach", config, source, task, data_dir)) as work_dir:
        trainer = ResumableTrainer(
            model=model,
            config=config,
            tokenizer=tokenizer,
            train=splits.train,
            dev=splits.dev,
            metric=task.metric,
            work_dir=work_dir,
            title="teacher",
        )
        trainer.run()
        return _finish(trainer, TrainedModel(trainer.model, tokenizer, trained, None), splits, out)


def train(
    teacher_dir: Path, task: TextTask, data_dir: Path, method: Method, out: Path, config: StudentConfig
) -> TrainingResult:
    """Train the ternary student of the teacher at `teacher_dir` into the student directory `out`.

    Raises `UnsupportedModelError`, `TaskError`, `ConfigurationError` or `TrainingError`. Killed, it goes on
    when called again.
    """
    _prepare_process(config)
    teacher = model_directory.load_teacher(teacher_dir)
    if config.exportable:
        require_exportable(teacher.model.config)
    model_directory.require_same_labels(task, teacher)
    splits = _read_splits(task, data_dir, teacher.tokenizer, teacher.trained.max_length)
    intervened_steps = steps_of_intervention(config, total_steps(config, len(splits.train)))
    schedule = schedule_for(method, intervened_steps, config.seed)
    student = make_student(teacher.model, config.quantizers())
    set_dropout(student, config.dropout)
    calibrate(student, splits.train, teacher.tokenizer, config)
    trained = teacher.trained.model_copy(
        update={"task": task, "source": teacher_dir.name, "seed": config.seed, "training_rows": len(splits.train)}
    )
    description = StudentDescription(quantizers=config.quantizers(), method=method)
    settings = _settings("train", config, str(teacher_dir), task, data_dir) | {"method": method.value}
    with _work_directory(out, settings) as work_dir:
        trainer = _student_trainer(student, teacher, splits, method, schedule, config, task.metric, work_dir)
        trainer.run()
        return _finish(trainer, TrainedModel(student, teacher.tokenizer, trained, description), splits, out)


def _student_trainer(
    student: PreTrainedModel,
    teacher: TrainedModel,
    splits: _Splits,
    method: Method,
    schedule: Schedule,
    config: StudentConfig,
    metric: Metric,
    work_dir: Path,
) -> ResumableTrainer:
    common: dict[str, Any] = {
        "model": student,
        "config": config,
        "tokenizer": teacher.tokenizer,
        "train": splits.train,
        "dev": splits.dev,
        "metric": metric,
        "work_dir": work_dir,
        "title": f"student ({method})",
    }
    if not method.distils:
        return ResumableTrainer(**common)
    return InterventionTrainer(teacher=teacher.model, schedule=schedule, **common)


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
    student: PreTrainedModel, train: Dataset, tokenizer: PreTrainedTokenizerBase, config: StudentConfig
) -> None:
    """Set the learned scales of `student` from the first training batches, seen through ternary weights."""
    quantizers = static_quantizers(student)
    if not quantizers:
        return
    size = config.batch_size
    order = training_order(lengths_of(train), size, config.calibration_batches, config.seed)
    collate = RightPadding(tokenizer)
    student.eval()
    with torch.no_grad(), activation_mode(student, Mode.OBSERVE):
        for start in range(0, len(order), size):
            batch = collate([train[row] for row in order[start : start + size]])
            student(**{name: tensor for name, tensor in batch.items() if name != "labels"})
    for quantizer in quantizers.values():
        quantizer.calibrate()


def _prepare_process(config: TrainingConfig) -> None:
    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    if config.threads:
        torch.set_num_threads(config.threads)
    set_seed(config.seed)


def _read_splits(task: TextTask, data_dir: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> _Splits:
    train, dev = (
        tokenized(read_rows(task, task_file(task, data_dir, name)), tokenizer, max_length)
        for name in (task.train_file, task.dev_file)
    )
    return _Splits(train, dev)


def _settings(verb: str, config: TrainingConfig, source: str, task: TextTask, data_dir: Path) -> dict[str, Any]:
    """Return what a run depends on, so that a checkpoint is never continued under other settings."""
    digests = {}
    files = [task_file(task, data_dir, name) for name in (task.train_file, task.dev_file)]
    for file in (*files, *sorted(Path(source).glob("*.safetensors"))):
        with file.open("rb") as stream:
            digests[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    config_values = config.model_dump(mode="json")
    return {
        "verb": verb,
        "version": __version__,
        **config_values,
        "source": source,
        "task": task.model_dump(mode="json"),
        "inputs": digests,
    }


@contextmanager
def _work_directory(out: Path, settings: dict[str, Any]) -> Iterator[Path]:
    """Yield OUT.partial, where an unfinished run with the same settings left its checkpoints."""
    require_replaceable(out, _telling_file(settings["verb"] == "train"))
    work_dir = out.with_name(out.name + ".partial")
    file = work_dir / SETTINGS_FILE
    if file.exists():
        earlier = json.loads(file.read_text(encoding="utf-8"))
        changed = [key for key in settings if earlier.get(key) != settings[key]]
        if changed:
            raise TrainingError(
                f"{work_dir}: holds an unfinished run with other settings ({', '.join(changed)});"
                " finish it with those, remove the folder, or choose another --out"
            )
    else:
        work_dir.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(settings, indent=2) + "\n")
    yield work_dir
    shutil.rmtree(work_dir)


def _telling_file(is_student: bool) -> str:
    """Return the file that tells an earlier output, which may be replaced, from anything else."""
    return model_directory.STUDENT_FILE if is_student else model_directory.TASK_FILE


def _finish(trainer: ResumableTrainer, trained: TrainedModel, splits: _Splits, out: Path) -> TrainingResult:
    """Score the trained model and write it, whole, to `out`."""
    value = trainer.final_score()
    lines = log_lines(trainer.state.log_history)
    with whole_directory(out, _telling_file(trained.student is not None)) as fresh:
        model_directory.save(fresh, trained)
        (fresh / LOG_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return TrainingResult(
        path=str(out),
        score=value,
        metric=trained.trained.task.metric.value,
        steps=trainer.state.global_step,
        training_rows=len(splits.train),
        evaluation_rows=len(splits.dev),
    )
