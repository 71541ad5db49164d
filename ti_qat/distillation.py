"""The distillation loss of the student: hidden states, attention scores and logits of the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class DistillationLoss:
    """Terms of L_trm, each a scalar tensor; `total` is what training minimises."""

    hidden: Tensor
    attention: Tensor
    logits: Tensor

    @property
    def total(self) -> Tensor:
        """Sum of the terms."""
        return self.hidden + self.attention + self.logits


def masked_mean_squared_error(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of (student - teacher)**2 over the elements where `valid` (broadcastable, 0 or 1) is 1."""
    squares = (student - teacher).square() * valid
    return squares.sum() / valid.expand_as(squares).sum()


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the mean over rows of -sum(softmax(teacher) * log_softmax(student)); logits (B, labels)."""
    targets = functional.softmax(teacher_logits, dim=-1)
    return -(targets * functional.log_softmax(student_logits, dim=-1)).sum(dim=-1).mean()


def transformer_loss(
    student_hidden: Sequence[Tensor],
    teacher_hidden: Sequence[Tensor],
    student_scores: Sequence[Tensor],
    teacher_scores: Sequence[Tensor],
    student_logits: Tensor,
    teacher_logits: Tensor,
    attention_mask: Tensor,
) -> DistillationLoss:
    """Return L_trm, the sums over layers of the mean squared errors plus the soft cross-entropy.

    Hidden states: L + 1 of (B, S, H). Raw scaled attention scores: L of (B, heads, S, S).
    `attention_mask` (B, S) is 1 on tokens; padding counts neither as a token nor as query or key.
    """
    tokens = attention_mask.to(student_logits.dtype)
    pairs = (tokens[:, :, None] * tokens[:, None, :])[:, None]
    hidden = [
        masked_mean_squared_error(s, t, tokens[..., None]) for s, t in zip(student_hidden, teacher_hidden, strict=True)
    ]
    scores = [masked_mean_squared_error(s, t, pairs) for s, t in zip(student_scores, teacher_scores, strict=True)]
    return DistillationLoss(
        torch.stack(hidden).sum(), torch.stack(scores).sum(), soft_cross_entropy(student_logits, teacher_logits)
    )
