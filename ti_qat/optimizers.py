"""Optimisers of teacher and student."""

from __future__ import annotations

import torch
from torch import nn

from ti_qat.config import StudentConfig

SCALE_PARAMETER = "log2_scale"


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
