"""The Trainer subclasses: one loop, transformers' own, with finite losses, complete checkpoints and TI."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    EvalPrediction,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)
from transformers.integrations import TensorBoardCallback
from transformers.utils import is_torch_tf32_available

from ti_qat.config import GradientClipping, Precision, StudentConfig, TrainingConfig
from ti_qat.errors import ConfigurationError, TrainingError
from ti_qat.method.distillation import Shares, counts_of
from ti_qat.models.families import family_of
from ti_qat.tasks.data import training_order
from ti_qat.tasks.objectives import Objective, Processor
from ti_qat.training.checkpoints import newest_complete, publish
from ti_qat.training.optimizers import OptimizerRestart, PerParameterClipping, optimizer_for, staged_schedule
from ti_qat.training.processes import on_cpu, processes
from ti_qat.training.progress import LOG_FILE, REPORTS_DIR, CurveLog, ProgressLine, reporters

EVALUATION_BATCH_ROWS = 64


def total_steps(config: TrainingConfig, rows: int) -> int:
    """Return the number of optimiser steps that `config.epochs` passes over `rows` rows take."""
    # Rounded first: 1.1 times 10 is 11.000000000000002 in binary, and no 12 steps.
    return max(1, math.ceil(round(config.epochs * (rows // config.batch_size), 9)))


def micro_batch_rows(config: TrainingConfig) -> int:
    """Return the rows of one forward pass; raise `ConfigurationError` where the step's do not divide evenly."""
    count = processes().num_processes
    parts = config.accumulation_steps * count
    if config.batch_size % parts:
        raise ConfigurationError(
            f"batch_size: expected a multiple of accumulation_steps times processes, {config.accumulation_steps}"
            f" x {count}, found {config.batch_size}"
        )
    return config.batch_size // parts


def arguments(config: TrainingConfig, steps: int, work_dir: Path) -> TrainingArguments:
    """Return the Trainer's arguments: a single pass over rows that are already in order.

    Raises `ConfigurationError` for a batch that cannot be split or a reporter that cannot be used.
    """
    is_student, is_bfloat16 = isinstance(config, StudentConfig), config.precision is Precision.BFLOAT16
    found = TrainingArguments(
        output_dir=str(work_dir),
        max_steps=steps,
        per_device_train_batch_size=micro_batch_rows(config),
        gradient_accumulation_steps=config.accumulation_steps,
        per_device_eval_batch_size=EVALUATION_BATCH_ROWS,
        train_sampling_strategy="sequential",
        # PerParameterClipping does it where this is 0.
        max_grad_norm=config.max_gradient_norm if config.gradient_clipping is GradientClipping.GLOBAL else 0.0,
        # bfloat16 would round the student's accumulators; TF32 holds every code exactly and adds in float32.
        bf16=is_bfloat16 and not is_student,
        tf32=True if is_bfloat16 and is_student and is_torch_tf32_available() else None,
        use_cpu=on_cpu(),
        ddp_find_unused_parameters=True,  # under TI-O nothing reaches the output projections
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
        remove_unused_columns=False,  # the collator may need what the model does not: an image
        report_to=reporters(config),
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    # Several GPUs in one process would be DataParallel: more rows a step, and hooks shared by threads.
    found._n_gpu = min(found.n_gpu, 1)
    return found


class ResumableTrainer(Trainer):
    """Trains on a fixed sequence of batches and goes on from the newest complete checkpoint.

    Where `first_stage_steps` is not 0, the steps after them are a second stage: the optimiser starts anew,
    and so does the learning rate. `share` says what the means over the present micro-batch are multiplied
    by, so that gradients add up to those of the whole step's batch, over its micro-batches and processes.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: TrainingConfig,
        processor: Processor,
        train: Dataset,
        dev: Dataset,
        objective: Objective,
        work_dir: Path,
        title: str,
        first_stage_steps: int = 0,
        padded_length: int | None = None,
    ) -> None:
        steps = total_steps(config, len(train))
        order = training_order(objective.lengths(train), config.batch_size, steps, config.seed)
        self._config, self._work_dir = config, work_dir
        self._progress = ProgressLine(title)
        self._stages = [first_stage_steps, steps - first_stage_steps]
        self._causal = family_of(model.config).causal
        self._mask_padding = config.mask_padding if isinstance(config, StudentConfig) else True
        self._shares: Iterator[Shares] = iter(())
        self.share = Shares()

        def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
            return {"score": objective.score(prediction.predictions, dev)}

        super().__init__(
            model=model,
            args=arguments(config, steps, work_dir),
            data_collator=objective.collator(processor, padded_length),
            train_dataset=train.select(order),
            eval_dataset=dev,
            compute_metrics=compute_metrics,
            preprocess_logits_for_metrics=objective.outcome,
            callbacks=[CurveLog(work_dir / LOG_FILE), self._progress],
        )
        # Else ViT's checkpoints would hold the names of older versions, and resuming would pass them over in silence.
        model._weight_conversions = []
        # Its forward takes **kwargs, which the Trainer reads as "scales its loss itself": it does not.
        self.model_accepts_loss_kwargs = False
        # `share` does; the Trainer would divide by the number of micro-batches once more.
        self.loss_is_scaled_for_ga = True
        self._set_callbacks(first_stage_steps)

    def _set_callbacks(self, first_stage_steps: int) -> None:
        self.remove_callback(PrinterCallback)  # prints on standard output
        if self._config.gradient_clipping is GradientClipping.PER_PARAMETER:
            self.add_callback(PerParameterClipping(self._config.max_gradient_norm))
        if first_stage_steps:
            self.add_callback(OptimizerRestart(first_stage_steps))
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback):
                callback.logging_dir = str(self._work_dir / REPORTS_DIR)  # one for all resumptions of a run

    def run(self) -> None:
        """Train to the last step. Raises `TrainingError` where the loss or the weights are not finite."""
        torch.manual_seed(self.args.seed + self.args.process_index)  # dropout differs between processes
        found = [str(newest_complete(self._work_dir) or "") if self.is_world_process_zero() else ""]
        checkpoint = broadcast_object_list(found)[0]  # it removes torn ones, which one process alone may do
        try:
            self.train(resume_from_checkpoint=checkpoint or None)
        finally:
            self._progress.stop()
        self._require_finite_weights()

    def _require_finite_weights(self) -> None:
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise TrainingError(f"after step {self.state.global_step}: {name} is not finite")

    def final_score(self) -> float:
        """Return the score on the evaluation split after the last step, computed now unless training did."""
        scores = {entry["step"]: entry["eval_score"] for entry in self.state.log_history if "eval_score" in entry}
        step = self.state.global_step
        return float(scores[step] if step in scores else self.evaluate()["eval_score"])

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Return the optimiser of `model`, the Trainer's own where it is not given; made at the first call."""
        if self.optimizer is None:
            self.optimizer = optimizer_for(self.model if model is None else model, self._config)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Return the learning rate schedule over the stages; made at the first call."""
        if self.lr_scheduler is None:
            optimizer = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = staged_schedule(optimizer, self._stages, self._config.warmup_fraction)
        return self.lr_scheduler

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], None]:
        """Return the micro-batches of the next step, whose shares are known from then on."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._shares = iter(self._shares_of(batches))
        return batches, None

    def _shares_of(self, batches: Sequence[Mapping[str, Tensor]]) -> list[Shares]:
        rows = [astuple(counts_of(batch, self._causal, self._mask_padding)) for batch in batches]
        counts = torch.tensor(rows, dtype=torch.float64)
        count = self.args.world_size
        whole = counts.sum(dim=0)
        if count > 1:
            whole = self.accelerator.reduce(whole.to(self.args.device), "sum").cpu()
        # Processes' gradients are averaged, so each has to be that many times its part of the sum.
        return [Shares(*row) for row in (counts * count / whole.clamp_min(1)).tolist()]

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return `loss_of`, refusing a loss that is not finite."""
        if model.training:
            self.share = next(self._shares)
        result = self.loss_of(model, inputs, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        if model.training and not torch.isfinite(loss):
            raise TrainingError(f"step {self.state.global_step}: expected a finite loss, found {loss.item()}")
        return result

    def loss_of(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return the model's own loss on the labels, a mean over what is to be predicted."""
        result = super().compute_loss(model, inputs, *args, **kwargs)
        return result * self.share.targets if model.training else result

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._require_finite_weights()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # every process writes the state of its random numbers
        if self.is_world_process_zero():
            publish(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")
