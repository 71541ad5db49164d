import math

import pytest
import torch

from ti_qat.distillation import transformer_loss

LENGTHS = (5, 3)
LAYERS, HEADS, TOKENS, HIDDEN, LABELS = 2, 3, 5, 4, 3


def random_values(seed):
    generator = torch.Generator().manual_seed(seed)
    rows = len(LENGTHS)
    hidden = [torch.randn(rows, TOKENS, HIDDEN, generator=generator) for _ in range(LAYERS + 1)]
    scores = [torch.randn(rows, HEADS, TOKENS, TOKENS, generator=generator) for _ in range(LAYERS)]
    return hidden, scores, torch.randn(rows, LABELS, generator=generator)


def mask():
    return torch.tensor([[int(t < length) for t in range(TOKENS)] for length in LENGTHS])


def loss_of(student, teacher):
    return transformer_loss(student[0], teacher[0], student[1], teacher[1], student[2], teacher[2], mask())


def test_loss_equals_a_naive_loop_over_the_tokens_that_are_there():
    student, teacher = random_values(0), random_values(1)
    hidden = scores = 0.0
    for s, t in zip(student[0], teacher[0], strict=True):
        squares = [(s[b, i] - t[b, i]).square() for b, n in enumerate(LENGTHS) for i in range(n)]
        hidden += torch.stack(squares).mean().item()
    for s, t in zip(student[1], teacher[1], strict=True):
        squares = [
            (s[b, :, i, j] - t[b, :, i, j]).square() for b, n in enumerate(LENGTHS) for i in range(n) for j in range(n)
        ]
        scores += torch.stack(squares).mean().item()
    cross_entropy = 0.0
    for b in range(len(LENGTHS)):
        log_sum = math.log(sum(math.exp(v) for v in student[2][b].tolist()))
        total = sum(math.exp(v) for v in teacher[2][b].tolist())
        pairs = zip(student[2][b].tolist(), teacher[2][b].tolist(), strict=True)
        cross_entropy -= sum(math.exp(t) / total * (s - log_sum) for s, t in pairs) / len(LENGTHS)
    found = loss_of(student, teacher)
    assert found.hidden.item() == pytest.approx(hidden, rel=1e-5)
    assert found.attention.item() == pytest.approx(scores, rel=1e-5)
    assert found.logits.item() == pytest.approx(cross_entropy, rel=1e-5)
    assert found.total.item() == pytest.approx(hidden + scores + cross_entropy, rel=1e-5)


def test_padding_does_not_count():
    student, teacher = random_values(0), random_values(1)
    before = loss_of(student, teacher).total
    for hidden in student[0]:
        hidden[1, 3:] = 100.0
    for scores in student[1]:
        scores[1, :, 3:] = 100.0
        scores[1, :, :, 3:] = -100.0
    assert loss_of(student, teacher).total == before
