"""The loss of the student: what it shall have in common with its teacher, and with the labels.

Every term is a mean, and a step's batch may come in several parts (micro-batches, processes): each part's
means are multiplied by its share of the whole, so that the parts add up to the loss of the whole batch.

Hidden states, attention scores and logits: Zhang et al., TernaryBERT (EMNLP 2020). Attention map and
attention output: Kim et al., Understanding and Improving Knowledge Distillation for Quantization-Aware
Training of Large Transformer Encoders (EMNLP 2022). Token scaling: Kim et al., Token-Scaled Logit
Distillation for Ternary Weight Generative Language Models (NeurIPS 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ti_qat.config import LogitScaling, LossSettings
from ti_qat.errors import ConfigurationError
from ti_qat.method.intervention import AttentionRecord

# Scores at or below this are what TernaryBERT's code takes for masked, and sets to 0.
MASKED_SCORE = -100.0
# The student's probabilities underflow to 0 where the teacher's do not, and log(0) is no loss: they count
# as at least this much. 1e-8 as in the code of the EMNLP paper.
SMALLEST_PROBABILITY = 1e-8
# Divides the teacher's cross-entropies before they become the scales of tokens; the NeurIPS code's default.
TOKEN_SCALE_TEMPERATURE = 10.0
# A label that no loss counts, as torch and transformers have it.
NO_LABEL = -100


@dataclass(frozen=True)
class Counts:
    """Over how many elements a batch's means are taken.

    `rows`; `tokens` and `pairs` of query and key; `targets`, the labels that are to be predicted.
    """

    rows: float
    tokens: float
    pairs: float
    targets: float


@dataclass(frozen=True)
class Shares:
    """A part's counts over those of the whole step's batch; what the part's means are multiplied by."""

    rows: float = 1.0
    tokens: float = 1.0
    pairs: float = 1.0
    targets: float = 1.0


def counts_of(inputs: Mapping[str, Tensor], causal: bool, mask_padding: bool = True) -> Counts:
    """Return the counts of a collated batch: its input_ids or pixel_values, attention_mask and labels.

    In a causal model a query sees no later key, and such pairs do not count. Images have no padding, and
    all the same number of positions: they count by rows. Without `mask_padding` every position counts.
    """
    labels, mask = inputs.get("labels"), inputs.get("attention_mask")
    rows = float(len(next(iter(inputs.values()))))
    targets = rows if labels is None or labels.ndim == 1 else float((labels[:, 1:] != NO_LABEL).sum())
    if mask is None:
        return Counts(rows, rows, rows, targets)
    if not mask_padding:
        positions = float(mask.shape[1])
        return Counts(rows, rows * positions, rows * positions**2, targets)
    lengths = mask.sum(dim=-1, dtype=torch.float64)
    pairs = lengths * (lengths + 1) / 2 if causal else lengths.square()
    return Counts(rows, lengths.sum().item(), pairs.sum().item(), targets)


@dataclass(frozen=True)
class Observation:
    """What the loss sees of one forward pass.

    logits: (B, labels), or (B, S, vocabulary) of a language model. hidden: L + 1 of (B, S, H), or none
    where that term is off.
    """

    logits: Tensor
    hidden: Sequence[Tensor]
    attention: AttentionRecord


@dataclass(frozen=True)
class DistillationLoss:
    """`terms` before their weights, each a scalar tensor; `total` is what training minimises."""

    terms: dict[str, Tensor]
    total: Tensor


def distillation_loss(
    settings: LossSettings,
    student: Observation,
    teacher: Observation,
    inputs: Mapping[str, Tensor],
    *,
    causal: bool,
    share: Shares,
) -> DistillationLoss:
    """Return the weighted sum of the terms whose weight is not 0; the others are not computed.

    `inputs`: attention_mask (B, S), 1 on tokens, where rows differ in length; labels where a term needs
    them: (B,) classes or values, or (B, S) tokens with `NO_LABEL` where there is none.
    """
    mask = inputs.get("attention_mask")
    tokens, pairs = _valid(mask, causal) if settings.mask_padding else (None, None)
    mine, its = student.attention, teacher.attention
    weights = {name: getattr(settings, f"{name}_weight") for name in TERMS}
    terms: dict[str, Tensor] = {}
    if weights["hidden"]:
        terms["hidden"] = share.tokens * _squared_errors(student.hidden, teacher.hidden, tokens)
    if weights["attention_scores"]:
        scores = (mine.scores, its.scores)
        if not settings.mask_padding:
            scores = tuple([_without_masked(one, mask, causal) for one in each] for each in scores)
        terms["attention_scores"] = share.pairs * _squared_errors(*scores, pairs)
    if weights["attention_map"]:
        terms["attention_map"] = share.tokens * _map_divergence(mine.probabilities, its.probabilities, tokens)
    if weights["attention_output"]:
        terms["attention_output"] = share.tokens * _squared_errors(mine.sublayer, its.sublayer, tokens)
    if weights["logits"]:
        terms["logits"] = _logits_term(settings, student.logits, teacher.logits, inputs, tokens, share)
    if weights["labels"]:
        terms["labels"] = _labels_term(student.logits, inputs["labels"], share)
    return DistillationLoss(terms, torch.stack([weights[name] * term for name, term in terms.items()]).sum())


TERMS = tuple(name.removesuffix("_weight") for name in LossSettings.model_fields if name.endswith("_weight"))


def require_served(settings: LossSettings, is_language_model: bool) -> None:
    """Raise `ConfigurationError` where the settings leave nothing to minimise, or do not fit the model."""
    if not any(getattr(settings, f"{name}_weight") for name in TERMS):
        raise ConfigurationError(f"{', '.join(f'{name}_weight' for name in TERMS)}: expected one above 0, found none")
    if settings.logit_scaling is LogitScaling.TOKEN and not is_language_model:
        raise ConfigurationError(
            f"logit_scaling: expected '{LogitScaling.UNIFORM}' for a model that classifies rows, found"
            f" '{LogitScaling.TOKEN}': a row has one set of logits, and no tokens to scale"
        )


def _valid(mask: Tensor | None, causal: bool) -> tuple[Tensor | None, Tensor | None]:
    """Return which tokens (B, S, 1) and pairs of query and key (B, 1, S, S) count, 0 or 1; None: all."""
    if mask is None:
        return None, None
    tokens = mask.to(torch.float32)
    pairs = (tokens[:, :, None] * tokens[:, None, :])[:, None]
    return tokens[..., None], pairs.tril() if causal else pairs


class _SquaredError(torch.autograd.Function):
    """Sum of valid * (student - teacher)**2; the teacher is a constant.

    Composed of torch's own operations it would take five tensors of the inputs' size; this takes two.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, valid: Tensor | None) -> Tensor:
        wide = torch.promote_types(student.dtype, torch.float32)
        difference = student.to(wide) - teacher
        if valid is not None:
            difference.mul_(valid)
        ctx.save_for_backward(difference)
        ctx.dtype = student.dtype
        return torch.linalg.vector_norm(difference).square()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (difference,) = ctx.saved_tensors
        return (difference * (2 * grad)).to(ctx.dtype), None, None


def _squared_errors(student: Sequence[Tensor], teacher: Sequence[Tensor], valid: Tensor | None) -> Tensor:
    """Return the sum over layers of the mean of (student - teacher)**2 over the elements that are `valid`."""
    errors = [_SquaredError.apply(mine, its, valid) for mine, its in zip(student, teacher, strict=True)]
    elements = student[0].numel() if valid is None else valid.sum() * (student[0].numel() // valid.numel())
    return torch.stack(errors).sum() / elements


def _without_masked(scores: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Return the scores with 0 where the mask on keys makes them, or they are, `MASKED_SCORE` or less."""
    kept = scores > MASKED_SCORE
    if mask is not None:
        kept &= mask[:, None, None, :] > 0
    return torch.where(kept.tril() if causal else kept, scores, 0.0)


def _map_divergence(student: Sequence[Tensor], teacher: Sequence[Tensor], tokens: Tensor | None) -> Tensor:
    """Return the sum over layers of KL(teacher || student), mean over valid queries and heads."""
    total = student[0].new_zeros(())
    for mine, its in zip(student, teacher, strict=True):
        logarithms = mine.clamp_min(SMALLEST_PROBABILITY).log()
        queries = functional.kl_div(logarithms, its, reduction="none").sum(dim=-1)
        total = total + _mean(queries, None if tokens is None else tokens.transpose(1, 2))
    return total


def _mean(values: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean of `values` where `valid`, which broadcasts to them, is 1."""
    if valid is None:
        return values.mean()
    valid = valid.expand_as(values)
    return (values * valid).sum() / valid.sum()


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return -sum(softmax(teacher) * log_softmax(student)) over the last dimension."""
    targets = functional.softmax(teacher_logits.float(), dim=-1)
    return -(targets * functional.log_softmax(student_logits.float(), dim=-1)).sum(dim=-1)


def next_token_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of logits (B, S, vocabulary) with each next of the labels (B, S), (B, S - 1).

    It is 0 where there is no label.
    """
    following = labels[:, 1:]
    # As one matrix: of more dimensions torch has no deterministic kernel on GPUs, and refuses.
    rows = logits[:, :-1].flatten(0, 1).float()
    entropies = functional.cross_entropy(rows, following.flatten(), ignore_index=NO_LABEL, reduction="none")
    return entropies.view_as(following)


def token_scales(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Return how much the prediction of each next token counts, (B, S - 1): a row's scales add up to 1.

    The softmax over a row's tokens of the teacher's cross-entropy with the labels, divided by a
    temperature: the less sure the teacher, the more its distribution says beyond the label. A row
    without a label has no scales.
    """
    entropies = next_token_entropies(teacher_logits, labels)
    scaled = (entropies / TOKEN_SCALE_TEMPERATURE).masked_fill(labels[:, 1:] == NO_LABEL, -torch.inf)
    return functional.softmax(scaled, dim=-1).nan_to_num(0.0)


def _logits_term(
    settings: LossSettings,
    student: Tensor,
    teacher: Tensor,
    inputs: Mapping[str, Tensor],
    tokens: Tensor | None,
    share: Shares,
) -> Tensor:
    if settings.logit_scaling is LogitScaling.TOKEN:
        entropies = soft_cross_entropy(student[:, :-1], teacher[:, :-1])
        return share.rows * (token_scales(teacher, inputs["labels"]) * entropies).sum(dim=-1).mean()
    if student.ndim == 3:
        return share.tokens * _mean(soft_cross_entropy(student, teacher), None if tokens is None else tokens[..., 0])
    if student.shape[-1] == 1:
        return share.rows * functional.mse_loss(student, teacher)
    return share.rows * soft_cross_entropy(student, teacher).mean()


def _labels_term(student: Tensor, labels: Tensor, share: Shares) -> Tensor:
    """Return the mean cross-entropy with the classes or next tokens, or the mean squared error with values."""
    if student.ndim == 3:
        return share.targets * next_token_entropies(student, labels).sum() / (labels[:, 1:] != NO_LABEL).sum()
    if student.shape[-1] == 1:
        return share.rows * functional.mse_loss(student[:, 0], labels.to(student.dtype))
    return share.rows * functional.cross_entropy(student, labels)
