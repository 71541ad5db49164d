"""The Trainer subclasses: one loop, transformers' own, with finite losses, complete checkpoints and TI."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    BertForSequenceClassification,
    EvalPrediction,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from ti_qat.artifact.evaluation import score
from ti_qat.artifact.schema import Metric
from ti_qat.checkpoints import newest_complete, publish
from ti_qat.config import StudentConfig, TrainingConfig
from ti_qat.data import RightPadding, lengths_of, training_order
from ti_qat.distillation import transformer_loss
from ti_qat.errors import TrainingError
from ti_qat.intervention import AttentionRecorder, TeacherIntervention
from ti_qat.progress import LOG_FILE, CurveLog, ProgressLine
from ti_qat.schedules import Schedule, phase

EVALUATION_BATCH_ROWS = 64
SCALE_PARAMETER = "log2_scale"


def total_steps(config: TrainingConfig, rows: int) -> int:
    """Return the number of optimiser steps that `config.epochs` passes over `rows` rows take."""
    return max(1, math.ceil(config.epochs * (rows // config.batch_size)))


def arguments(config: TrainingConfig, steps: int, work_dir: Path) -> TrainingArguments:
    """Return the Trainer's arguments: a single pass over rows that are already in order."""
    return TrainingArguments(
        output_dir=str(work_dir),
        max_steps=steps,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=EVALUATION_BATCH_ROWS,
        train_sampling_strategy="sequential",
        learning_rate=config.learning_rate,
        warmup_steps=int(config.warmup_fraction * steps),
        weight_decay=config.weight_decay,
        seed=config.seed,
        full_determinism=config.deterministic,
        logging_steps=config.log_every_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=config.evaluate_every_steps,
        save_strategy="steps",
        save_steps=config.checkpoint_every_steps,
        save_total_limit=2,
        label_names=["labels"],
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


class ResumableTrainer(Trainer):
    """Trains on a fixed sequence of batches and goes on from the newest complete checkpoint."""

    def __init__(
        self,
        model: BertForSequenceClassification,
        config: TrainingConfig,
        tokenizer: PreTrainedTokenizerBase,
        train: Dataset,
        dev: Dataset,
        metric: Metric,
        work_dir: Path,
        title: str,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        steps = total_steps(config, len(train))
        order = training_order(lengths_of(train), config.batch_size, steps, config.seed)
        self._progress = ProgressLine(title)
        self._work_dir = work_dir

        def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
            return {"score": score(metric, prediction.label_ids, np.argmax(prediction.predictions, axis=-1))}

        super().__init__(
            model=model,
            args=arguments(config, steps, work_dir),
            data_collator=RightPadding(tokenizer),
            train_dataset=train.select(order),
            eval_dataset=dev,
            compute_metrics=compute_metrics,
            callbacks=[CurveLog(work_dir / LOG_FILE), self._progress],
            optimizers=(optimizer, None),
        )
        # Its forward takes **kwargs, which the Trainer reads as "scales its loss itself": it does not.
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False
        self.remove_callback(PrinterCallback)  # prints on standard output

    def run(self) -> None:
        """Train to the last step. Raises `TrainingError` where the loss or the weights are not finite."""
        checkpoint = newest_complete(self._work_dir)
        try:
            self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        finally:
            self._progress.stop()
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise TrainingError(f"after step {self.state.global_step}: {name} is not finite")

    def final_score(self) -> float:
        """Return the score on the evaluation split after the last step, computed now unless training did."""
        scores = {entry["step"]: entry["eval_score"] for entry in self.state.log_history if "eval_score" in entry}
        step = self.state.global_step
        return float(scores[step] if step in scores else self.evaluate()["eval_score"])

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return `loss_of`, refusing a loss that is not finite."""
        result = self.loss_of(model, inputs, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        if model.training and not torch.isfinite(loss):
            raise TrainingError(f"step {self.state.global_step}: expected a finite loss, found {loss.item()}")
        return result

    def loss_of(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return the loss as `Trainer.compute_loss` does: the cross-entropy with the labels."""
        return super().compute_loss(model, inputs, *args, **kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        publish(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")


def student_optimizer(student: nn.Module, config: StudentConfig) -> torch.optim.Optimizer:
    """Return AdamW with a learning rate of its own, and no decay, for the activation scales."""
    groups: dict[str, list[nn.Parameter]] = {"decayed": [], "plain": [], "scales": []}
    for name, parameter in student.named_parameters():
        kind = "scales" if name.endswith(SCALE_PARAMETER) else "decayed" if parameter.ndim > 1 else "plain"
        groups[kind].append(parameter)
    settings = {
        "decayed": {"lr": config.learning_rate, "weight_decay": config.weight_decay},
        "plain": {"lr": config.learning_rate, "weight_decay": 0.0},
        "scales": {"lr": config.scale_learning_rate, "weight_decay": 0.0},
    }
    return torch.optim.AdamW(
        [{"params": members, **settings[kind]} for kind, members in groups.items() if members], fused=True
    )


class InterventionTrainer(ResumableTrainer):
    """Distils the teacher into the student while the teacher intervenes where the schedule says."""

    def __init__(
        self,
        *,
        teacher: BertForSequenceClassification,
        schedule: Schedule,
        model: Any,
        config: StudentConfig,
        **rest: Any,
    ) -> None:
        super().__init__(model=model, config=config, optimizer=student_optimizer(model, config), **rest)
        self._teacher = teacher.to(self.args.device).eval().requires_grad_(False)
        self._schedule = schedule
        self._teacher_recorder, self._student_recorder = AttentionRecorder(self._teacher), AttentionRecorder(model)
        self._intervention = TeacherIntervention(model)
        self._sums: dict[str, float] = defaultdict(float)
        self._summed_steps = 0

    def loss_of(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return L_trm while training, the plain loss while evaluating."""
        if not model.training:
            return super().loss_of(model, inputs, *args, **kwargs)
        values = {name: tensor for name, tensor in inputs.items() if name != "labels"}
        with torch.no_grad(), self._teacher_recorder.recording() as teacher:
            target = self._teacher(**values, output_hidden_states=True)
        point = self._schedule.point(self.state.global_step)
        with self._student_recorder.recording() as student, self._intervention.during(point, teacher):
            output = model(**values, output_hidden_states=True)
        loss = transformer_loss(
            output.hidden_states,
            target.hidden_states,
            student.scores,
            teacher.scores,
            output.logits,
            target.logits,
            inputs["attention_mask"],
        )
        for name in ("hidden", "attention", "logits"):
            self._sums[f"loss_{name}"] += getattr(loss, name).item()
        self._summed_steps += 1
        return loss.total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the terms of the loss, means since the last entry, and the point of intervention."""
        if "loss" in logs and self._summed_steps:
            logs |= {name: total / self._summed_steps for name, total in self._sums.items()}
            logs["intervention"] = phase(self._schedule, self.state.global_step - 1)
            self._sums.clear()
            self._summed_steps = 0
        super().log(logs, start_time)
