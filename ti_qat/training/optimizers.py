"""Optimiser and learning rate of teacher and student, over one stage of training or two."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ti_qat.config import StudentConfig, TrainingConfig

SCALE_PARAMETER = "log2_scale"

# beta ** step is 0 in float64 from here on, for every beta up to 0.9992: the bias corrections are exactly 1.
_STEP_WITHOUT_CORRECTION = 1e6


class BertAdam(torch.optim.AdamW):
    """AdamW without bias correction: p -= lr * (m / (sqrt(v) + epsilon) + decay * p).

    What BERT was published with, and TernaryBERT after it; Zhang et al., Revisiting Few-sample BERT
    Fine-tuning (2021), tell what it does: the first steps are (1 - beta1) / sqrt(1 - beta2) = 3.2 times as
    long. AdamW has no switch for it, but its correction 1 - beta ** step is 1 to the last bit once the
    count of steps is high, and that is where it starts here.
    """

    def step(self, closure: Any = None) -> Any:
        """Make one step; gradients are in place, or `closure` computes them."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and not self.state[parameter]:
                    self.state[parameter] = {
                        "step": torch.tensor(_STEP_WITHOUT_CORRECTION, device=parameter.device),
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }
        return super().step(closure)


def optimizer_for(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Return AdamW over `model`: decay for matrices alone, and for learned scales a rate of their own."""
    groups: dict[str, list[nn.Parameter]] = {"decayed": [], "plain": [], "scales": []}
    for name, parameter in model.named_parameters():
        kind = "scales" if name.endswith(SCALE_PARAMETER) else "decayed" if parameter.ndim > 1 else "plain"
        groups[kind].append(parameter)
    scale_learning_rate = config.scale_learning_rate if isinstance(config, StudentConfig) else config.learning_rate
    settings = {
        "decayed": {"lr": config.learning_rate, "weight_decay": config.weight_decay},
        "plain": {"lr": config.learning_rate, "weight_decay": 0.0},
        "scales": {"lr": scale_learning_rate, "weight_decay": 0.0},
    }
    optimizer = torch.optim.AdamW if config.adam_bias_correction else BertAdam
    members = [{"params": found, **settings[kind]} for kind, found in groups.items() if found]
    return optimizer(members, eps=config.adam_epsilon, fused=True)


def learning_rate_factor(step: int, stages: Sequence[int], warmup_fraction: float) -> float:
    """Return the share of the peak rate at the 0-based `step` of a run of `stages` steps each.

    Every stage rises linearly from 0 over `warmup_fraction` of its steps and falls linearly to 0.
    """
    for steps in stages:
        if step < steps:
            warmup = int(round(warmup_fraction * steps, 9))
            return step / warmup if step < warmup else (steps - step) / (steps - warmup)
        step -= steps
    return 0.0


def staged_schedule(optimizer: torch.optim.Optimizer, stages: Sequence[int], warmup_fraction: float) -> LambdaLR:
    """Return the schedule that multiplies every group's rate by `learning_rate_factor`."""
    return LambdaLR(optimizer, partial(learning_rate_factor, stages=stages, warmup_fraction=warmup_fraction))


class OptimizerRestart(TrainerCallback):
    """Forgets the optimiser's moments after `step` steps; before a checkpoint of that step, so it resumes the same."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Clear the state at the border of the stages."""
        if state.global_step == self._step:
            kwargs["optimizer"].state.clear()


class PerParameterClipping(TrainerCallback):
    """Scales each parameter's gradient down to `max_norm` on its own, as TernaryBERT's code does."""

    def __init__(self, max_norm: float) -> None:
        self._max_norm = max_norm

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Clip."""
        for parameter in kwargs["model"].parameters():
            nn.utils.clip_grad_norm_(parameter, self._max_norm)
