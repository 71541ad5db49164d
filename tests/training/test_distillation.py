"""Every term against loops over Python numbers, on padded batches of odd sizes."""

import math
from dataclasses import fields

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ti_qat.config import LogitScaling, LossSettings
from ti_qat.errors import ConfigurationError
from ti_qat.method.distillation import (
    NO_LABEL,
    TERMS,
    Observation,
    Shares,
    counts_of,
    distillation_loss,
    require_served,
    token_scales,
)
from ti_qat.method.intervention import AttentionRecord
from ti_qat.tasks.language_objective import LanguageObjective

LENGTHS = (7, 4, 1)
ROWS, TOKENS, LAYERS, HEADS, HIDDEN, CLASSES, VOCABULARY = 3, 7, 2, 3, 5, 3, 11
OFF = {f"{name}_weight": 0.0 for name in TERMS}


def settings(*terms, **changes):
    return LossSettings(**OFF | {f"{name}_weight": 1.0 for name in terms} | changes)


def mask():
    return torch.tensor([[int(t < length) for t in range(TOKENS)] for length in LENGTHS])


def visible(row, causal=False):
    """Pairs (query, key) of tokens of a row that see each other."""
    n = LENGTHS[row]
    return [(i, j) for i in range(n) for j in range(i + 1 if causal else n)]


def observation(seed, causal=False, outputs=(ROWS, CLASSES)):
    """Random values in float64, in which sums of these sizes are exact to about 1e-15."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_(seed == 0)

    seen = mask()[:, None, None, :].bool().expand(ROWS, 1, TOKENS, TOKENS)
    seen = seen.tril() if causal else seen
    record = AttentionRecord(
        scores=[draw(ROWS, HEADS, TOKENS, TOKENS) for _ in range(LAYERS)],
        sublayer=[draw(ROWS, TOKENS, HIDDEN) for _ in range(LAYERS)],
    )
    record.probabilities = [s.masked_fill(~seen, -torch.inf).softmax(dim=-1) for s in record.scores]
    hidden = [draw(ROWS, TOKENS, HIDDEN) for _ in range(LAYERS + 1)]
    return Observation(draw(*outputs), hidden, record)


def term(name, student, teacher, labels=None, causal=False, share=None, **changes):
    inputs = {"attention_mask": mask()} | ({} if labels is None else {"labels": labels})
    found = distillation_loss(
        settings(name, **changes), student, teacher, inputs, causal=causal, share=share or Shares()
    )
    assert list(found.terms) == [name]
    assert torch.equal(found.total, found.terms[name])
    return found.total


def log_softmax(values):
    log_sum = math.log(sum(math.exp(v) for v in values))
    return [v - log_sum for v in values]


def entropy(student, teacher):
    """Soft cross-entropy of two lists of logits."""
    return -sum(math.exp(t) * s for s, t in zip(log_softmax(student), log_softmax(teacher), strict=True))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def naive_token_error(students, teachers, positions):
    return sum(
        mean((s[b, i, h] - t[b, i, h]).item() ** 2 for b, i in positions for h in range(HIDDEN))
        for s, t in zip(students, teachers, strict=True)
    )


TOKENS_THERE = [(b, i) for b, n in enumerate(LENGTHS) for i in range(n)]
ALL_POSITIONS = [(b, i) for b in range(ROWS) for i in range(TOKENS)]


@pytest.mark.parametrize(("mask_padding", "positions"), [(True, TOKENS_THERE), (False, ALL_POSITIONS)])
def test_hidden_states_and_attention_output(mask_padding, positions):
    student, teacher = observation(0), observation(1)
    hidden = term("hidden", student, teacher, mask_padding=mask_padding)
    assert hidden.item() == pytest.approx(naive_token_error(student.hidden, teacher.hidden, positions), rel=1e-12)
    output = term("attention_output", student, teacher, mask_padding=mask_padding)
    naive = naive_token_error(student.attention.sublayer, teacher.attention.sublayer, positions)
    assert output.item() == pytest.approx(naive, rel=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_scores(causal):
    student, teacher = observation(0, causal), observation(1, causal)
    naive = sum(
        mean((s[b, h, i, j] - t[b, h, i, j]).item() ** 2
             for b in range(ROWS) for i, j in visible(b, causal) for h in range(HEADS))
        for s, t in zip(student.attention.scores, teacher.attention.scores, strict=True)
    )  # fmt: skip
    assert term("attention_scores", student, teacher, causal=causal).item() == pytest.approx(naive, rel=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_unmasked_scores_are_zero_where_the_mask_makes_them(causal):
    student, teacher = observation(0, causal), observation(1, causal)
    with torch.no_grad():
        student.attention.scores[0][0, 1, 2, 1] = -100.0  # masked by its own value
        teacher.attention.scores[1][1, 0, 0, 0] = -250.0

    def kept(scores, b, h, i, j):
        hidden_key = j >= LENGTHS[b] or (causal and j > i)
        return 0.0 if hidden_key or scores[b, h, i, j] <= -100 else scores[b, h, i, j].item()

    everything = [(b, h, i, j) for b, i in ALL_POSITIONS for h in range(HEADS) for j in range(TOKENS)]
    naive = sum(
        mean((kept(s, *at) - kept(t, *at)) ** 2 for at in everything)
        for s, t in zip(student.attention.scores, teacher.attention.scores, strict=True)
    )
    found = term("attention_scores", student, teacher, causal=causal, mask_padding=False)
    assert found.item() == pytest.approx(naive, rel=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_map_is_the_divergence_from_the_teacher(causal):
    student, teacher = observation(0, causal), observation(1, causal)
    naive = 0.0
    for s, t in zip(student.attention.probabilities, teacher.attention.probabilities, strict=True):
        rows = [
            sum(
                t[b, h, i, j].item() * math.log(t[b, h, i, j].item() / s[b, h, i, j].item())
                for q, j in visible(b, causal)
                if q == i
            )
            for b, i in TOKENS_THERE
            for h in range(HEADS)
        ]
        naive += mean(rows)
    assert term("attention_map", student, teacher, causal=causal).item() == pytest.approx(naive, rel=1e-12)


def test_attention_map_is_finite_where_a_student_never_looks():
    student, teacher = observation(0), observation(1)
    certain = torch.zeros(ROWS, HEADS, TOKENS, TOKENS, dtype=torch.float64)
    certain[..., 0] = 1.0
    student.attention.probabilities[0] = certain.requires_grad_()
    loss = term("attention_map", student, teacher)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(certain.grad).all()
    twin = Observation(teacher.logits, teacher.hidden, AttentionRecord(probabilities=[certain.detach()] * 2))
    assert term("attention_map", twin, twin).item() == 0.0


def test_logits_of_classes_values_and_next_tokens():
    student, teacher = observation(0), observation(1)
    pairs = [(student.logits[b].tolist(), teacher.logits[b].tolist()) for b in range(ROWS)]
    # The logits' terms are computed in float32 whatever comes in: 2**-24 = 6e-8 a rounding, a few of them.
    naive = mean(entropy(*pair) for pair in pairs)
    assert term("logits", student, teacher).item() == pytest.approx(naive, rel=1e-6)

    student, teacher = observation(0, outputs=(ROWS, 1)), observation(1, outputs=(ROWS, 1))
    naive = mean((student.logits[b] - teacher.logits[b]).item() ** 2 for b in range(ROWS))
    assert term("logits", student, teacher).item() == pytest.approx(naive, rel=1e-12)

    shape = (ROWS, TOKENS, VOCABULARY)
    student, teacher = observation(0, True, shape), observation(1, True, shape)
    pairs = {(b, i): (student.logits[b, i].tolist(), teacher.logits[b, i].tolist()) for b, i in ALL_POSITIONS}
    naive = mean(entropy(*pairs[at]) for at in TOKENS_THERE)
    assert term("logits", student, teacher, causal=True).item() == pytest.approx(naive, rel=1e-6)
    naive = mean(entropy(*pairs[at]) for at in ALL_POSITIONS)
    assert term("logits", student, teacher, causal=True, mask_padding=False).item() == pytest.approx(naive, rel=1e-6)


def next_tokens():
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(VOCABULARY, (ROWS, TOKENS), generator=generator)
    return labels.masked_fill(mask() == 0, NO_LABEL)


def test_labels_are_classes_values_or_next_tokens():
    student, teacher = observation(0), observation(1)
    labels = torch.tensor([2, 0, 1])
    naive = -mean(log_softmax(student.logits[b].tolist())[labels[b]] for b in range(ROWS))
    assert term("labels", student, teacher, labels).item() == pytest.approx(naive, rel=1e-12)

    student = observation(0, outputs=(ROWS, 1))
    values = torch.tensor([2.5, 0.0, 5.0])
    naive = mean((student.logits[b, 0].item() - values[b].item()) ** 2 for b in range(ROWS))
    assert term("labels", student, teacher, values).item() == pytest.approx(naive, rel=1e-12)

    student, labels = observation(0, True, (ROWS, TOKENS, VOCABULARY)), next_tokens()
    predicted = [(b, i) for b, n in enumerate(LENGTHS) for i in range(n - 1)]
    naive = -mean(log_softmax(student.logits[b, i].tolist())[labels[b, i + 1]] for b, i in predicted)
    # float32, as for the logits.
    assert term("labels", student, teacher, labels, causal=True).item() == pytest.approx(naive, rel=1e-6)


def naive_scales(teacher, labels, b):
    """The softmax over the tokens of row b of the teacher's cross-entropy divided by 10."""
    entropies = [-log_softmax(teacher[b, i].tolist())[labels[b, i + 1]] for i in range(LENGTHS[b] - 1)]
    total = sum(math.exp(value / 10) for value in entropies)
    return [math.exp(value / 10) / total for value in entropies]


def test_token_scaling_weighs_next_tokens_by_how_unsure_the_teacher_is():
    shape, labels = (ROWS, TOKENS, VOCABULARY), next_tokens()
    student, teacher = observation(0, True, shape), observation(1, True, shape)
    scales = token_scales(teacher.logits, labels)
    naive = []
    for b in range(ROWS):
        expected = naive_scales(teacher.logits, labels, b)
        assert scales[b].tolist() == pytest.approx(expected + [0.0] * (TOKENS - 1 - len(expected)), abs=1e-6)
        entropies = [entropy(student.logits[b, i].tolist(), teacher.logits[b, i].tolist()) for i in range(TOKENS)]
        naive.append(sum(scale * value for scale, value in zip(expected, entropies, strict=False)))
    found = term("logits", student, teacher, labels, causal=True, logit_scaling=LogitScaling.TOKEN)
    assert found.item() == pytest.approx(mean(naive), rel=1e-6)
    unsure = teacher.logits.clone()
    unsure[0, 2] = 0.0  # a uniform distribution over the vocabulary
    assert token_scales(unsure, labels)[0, 2] > scales[0, 2]


class Operations(TorchDispatchMode):
    """The names of the operations that torch dispatches."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.add(operation.name())
        return operation(*args, **kwargs or {})


def test_cross_entropies_of_next_tokens_have_a_deterministic_kernel_on_gpus():
    """CUDA's nll_loss2d has none: under `deterministic`, torch raises where it is called."""
    shape, labels = (ROWS, TOKENS, VOCABULARY), next_tokens()
    student, teacher = observation(0, True, shape), observation(1, True, shape)
    with Operations() as found:
        term("labels", student, teacher, labels, causal=True).backward()
        token_scales(teacher.logits, labels)
        LanguageObjective.outcome(None, teacher.logits, labels)
    assert "aten::nll_loss_forward" in found.names
    assert not [name for name in found.names if "nll_loss2d" in name]


def test_token_scaling_is_refused_for_a_classifier_and_a_loss_without_terms_at_all():
    with pytest.raises(ConfigurationError, match="logit_scaling: expected 'uniform' for a model that classifies rows"):
        require_served(settings("logits", logit_scaling=LogitScaling.TOKEN), is_language_model=False)
    require_served(settings("logits", logit_scaling=LogitScaling.TOKEN), is_language_model=True)
    with pytest.raises(ConfigurationError, match=r"hidden_weight, .*labels_weight: expected one above 0, found none"):
        require_served(settings(), is_language_model=False)


def test_weights_multiply_and_a_weight_of_zero_costs_nothing():
    student, teacher = observation(0), observation(1)
    weights = {"hidden_weight": 0.5, "logits_weight": 3.0}
    inputs = {"attention_mask": mask()}
    # An observation that lacks what no term reads: it would fail if one did.
    bare = [Observation(one.logits, one.hidden, AttentionRecord()) for one in (student, teacher)]
    found = distillation_loss(settings(**weights), *bare, inputs, causal=False, share=Shares())
    assert list(found.terms) == ["hidden", "logits"]
    # float32 in one of the terms.
    expected = 0.5 * term("hidden", student, teacher) + 3.0 * term("logits", student, teacher)
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-6)


def test_images_count_every_position():
    student, teacher = observation(0), observation(1)
    for name in ("hidden", "attention_scores", "attention_map", "attention_output", "logits"):
        whole = distillation_loss(settings(name), student, teacher, {}, causal=False, share=Shares()).total
        ones = {"attention_mask": torch.ones(ROWS, TOKENS)}
        masked = distillation_loss(settings(name), student, teacher, ones, causal=False, share=Shares()).total
        assert whole.item() == pytest.approx(masked.item(), rel=1e-12)
    assert counts_of({"pixel_values": torch.zeros(4, 3, 8, 8), "labels": torch.zeros(4)}, False).pairs == 4


def leaves(observation):
    return {
        "hidden": list(observation.hidden),
        "attention_scores": observation.attention.scores,
        "attention_map": observation.attention.scores,
        "attention_output": observation.attention.sublayer,
        "logits": [observation.logits],
        "labels": [observation.logits],
    }


@pytest.mark.parametrize("name", [name for name in TERMS if name != "labels"])
@pytest.mark.parametrize("causal", [False, True])
def test_padding_gets_no_gradient(name, causal):
    outputs = (ROWS, TOKENS, VOCABULARY) if causal else (ROWS, CLASSES)
    student, teacher = observation(0, causal, outputs), observation(1, causal, outputs)
    term(name, student, teacher, causal=causal).backward()
    padding = mask() == 0
    for leaf in leaves(student)[name]:
        assert leaf.grad.abs().sum() > 0
        if leaf.shape[1:2] == (TOKENS,):
            assert not leaf.grad[padding].any()
        elif leaf.ndim == 4:
            tokens = mask()
            seen = (tokens[:, :, None] * tokens[:, None, :])[:, None].expand_as(leaf)
            assert not leaf.grad[(seen.tril() if causal else seen) == 0].any()


def test_gradients_of_the_squared_error_are_those_of_autograd():
    student, teacher = observation(0), observation(1)
    term("hidden", student, teacher).backward()
    found = [leaf.grad.clone() for leaf in student.hidden]
    for leaf in student.hidden:
        leaf.grad = None
    weights = mask()[..., None].double() / (mask().sum() * HIDDEN)
    sum(((s - t).square() * weights).sum() for s, t in zip(student.hidden, teacher.hidden, strict=True)).backward()
    for leaf, gradient in zip(student.hidden, found, strict=True):
        torch.testing.assert_close(gradient, leaf.grad, rtol=1e-12, atol=0)  # float64, in another order


def part(observation, rows, tokens):
    """The rows of an observation, cut to the longest of them, as a micro-batch is padded."""
    record = AttentionRecord(
        scores=[s[rows, :, :tokens, :tokens] for s in observation.attention.scores],
        probabilities=[p[rows, :, :tokens, :tokens] for p in observation.attention.probabilities],
        sublayer=[s[rows, :tokens] for s in observation.attention.sublayer],
    )
    logits = observation.logits[rows] if observation.logits.ndim == 2 else observation.logits[rows, :tokens]
    return Observation(logits, [h[rows, :tokens] for h in observation.hidden], record)


@pytest.mark.parametrize(
    ("name", "language_model", "scaling"),
    [
        *((name, language_model, LogitScaling.UNIFORM) for name in TERMS for language_model in (False, True)),
        ("logits", True, LogitScaling.TOKEN),
    ],
)
def test_parts_of_a_batch_add_up_to_the_whole(name, language_model, scaling):
    outputs = (ROWS, TOKENS, VOCABULARY) if language_model else (ROWS, CLASSES)
    labels = next_tokens() if language_model else torch.tensor([2, 0, 1])
    student, teacher = (observation(seed, language_model, outputs) for seed in (0, 1))
    whole_inputs = {"attention_mask": mask(), "labels": labels}
    chosen = settings(name, logit_scaling=scaling)
    whole = distillation_loss(chosen, student, teacher, whole_inputs, causal=language_model, share=Shares()).total
    all_counts, total = counts_of(whole_inputs, language_model), 0.0
    for rows, tokens in ((slice(0, 1), 7), (slice(1, 3), 4)):
        cut = labels[rows, :tokens] if language_model else labels[rows]
        inputs = {"attention_mask": mask()[rows, :tokens], "labels": cut}
        counts = counts_of(inputs, language_model)
        share = Shares(*(getattr(counts, f.name) / getattr(all_counts, f.name) for f in fields(counts)))
        pieces = (part(student, rows, tokens), part(teacher, rows, tokens))
        total += distillation_loss(chosen, *pieces, inputs, causal=language_model, share=share).total.item()
    # float32 in the terms of the logits; the others are exact to 1e-15.
    assert total == pytest.approx(whole.item(), rel=1e-6)


def test_without_masking_parts_count_by_positions():
    student, teacher = observation(0), observation(1)
    chosen = settings("hidden", "attention_scores", mask_padding=False)
    inputs = {"attention_mask": mask()}
    whole = distillation_loss(chosen, student, teacher, inputs, causal=False, share=Shares()).total
    all_counts, total = counts_of(inputs, False, mask_padding=False), 0.0
    for rows in (slice(0, 2), slice(2, 3)):
        inputs = {"attention_mask": mask()[rows]}
        counts = counts_of(inputs, False, mask_padding=False)
        share = Shares(*(getattr(counts, f.name) / getattr(all_counts, f.name) for f in fields(counts)))
        pieces = (part(student, rows, TOKENS), part(teacher, rows, TOKENS))
        total += distillation_loss(chosen, *pieces, inputs, causal=False, share=share).total.item()
    assert total == pytest.approx(whole.item(), rel=1e-12)
