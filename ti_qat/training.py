"""The Trainer subclasses: one loop, transformers' own, with finite losses, complete checkpoints and TI."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from ti_qat.artifact.evaluation import score
from ti_qat.artifact.schema import Metric
from ti_qat.checkpoints import newest_complete, publish
from ti_qat.config import TrainingConfig
from ti_qat.data import RightPadding, lengths_of, training_order
from ti_qat.errors import TrainingError
from ti_qat.progress import LOG_FILE, CurveLog, ProgressLine

EVALUATION_BATCH_ROWS = 64


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
        model: PreTrainedModel,
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
