"""Optimiser and learning rate against formulas written out here."""

import math

import pytest
import torch
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments, get_linear_schedule_with_warmup

from tests.training.models import tiny_student, tiny_teacher
from ti_qat.config import StudentConfig, TeacherConfig
from ti_qat.training.optimizers import (
    BertAdam,
    OptimizerRestart,
    PerParameterClipping,
    learning_rate_factor,
    optimizer_for,
    staged_schedule,
)

GRADIENTS = (0.5, -2.0, 1e-4, 0.25, -0.125)


def scalar_adam(start, correct, lr=0.1, decay=0.01, epsilon=1e-6):
    """One weight through GRADIENTS, in Python's float64."""
    weight, m, v = start, 0.0, 0.0
    for step, gradient in enumerate(GRADIENTS, 1):
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        first, second = (1 - 0.9**step, 1 - 0.999**step) if correct else (1.0, 1.0)
        weight -= lr * ((m / first) / (math.sqrt(v / second) + epsilon) + decay * weight)
    return weight


@pytest.mark.parametrize("correct", [True, False])
def test_adam_with_and_without_bias_correction_is_the_scalar_formula(correct):
    linear = nn.Linear(1, 1, bias=False)
    nn.init.constant_(linear.weight, 1.5)
    config = TeacherConfig(learning_rate=0.1, adam_epsilon=1e-6, adam_bias_correction=correct)
    optimizer = optimizer_for(linear, config)
    for gradient in GRADIENTS:
        linear.weight.grad = torch.full_like(linear.weight, gradient)
        optimizer.step()
    # Five steps in float32 of a weight of order 1: a few units of 2**-24.
    assert linear.weight.item() == pytest.approx(scalar_adam(1.5, correct), abs=1e-6)
    assert scalar_adam(1.5, True) != pytest.approx(scalar_adam(1.5, False), abs=0.05)


def test_without_bias_correction_saved_and_loaded_goes_on_to_the_bit():
    def stepped(gradients, weight, state=None):
        optimizer = BertAdam([weight], lr=0.1, fused=True)
        if state is not None:
            optimizer.load_state_dict(state)
        for gradient in gradients:
            weight.grad = torch.full_like(weight, gradient)
            optimizer.step()
        return optimizer.state_dict()

    whole, halves = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    stepped(GRADIENTS, whole)
    stepped(GRADIENTS[2:], halves, stepped(GRADIENTS[:2], halves))
    assert torch.equal(whole, halves)


def test_a_weight_without_gradient_is_not_decayed():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = BertAdam([weight], lr=0.1, weight_decay=0.5)
    optimizer.step()
    assert torch.equal(weight, torch.ones(2, 2))


def test_matrices_decay_and_scales_have_their_own_rate():
    student = tiny_student(tiny_teacher())
    optimizer = optimizer_for(student, StudentConfig(learning_rate=1e-4, scale_learning_rate=1e-2, weight_decay=0.1))
    settings = {
        id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]
    }
    assert len(settings) == len(list(student.parameters()))
    for name, parameter in student.named_parameters():
        expected = (1e-2, 0.0) if name.endswith("log2_scale") else (1e-4, 0.1 if parameter.ndim > 1 else 0.0)
        assert settings[id(parameter)] == expected, name


@pytest.mark.parametrize(("stages", "warmup"), [((0, 40), 0.1), ((12, 28), 0.25), ((30, 0), 0.1), ((7, 13), 0.0)])
def test_every_stage_has_the_linear_schedule_of_transformers(stages, warmup):
    expected = []
    for steps in stages:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = get_linear_schedule_with_warmup(optimizer, int(warmup * steps), steps)
        for _ in range(steps):
            expected.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3.0)
    schedule = staged_schedule(optimizer, stages, warmup)
    for factor in expected:
        assert schedule.get_last_lr()[0] == 3.0 * factor
        optimizer.step()
        schedule.step()
    assert learning_rate_factor(sum(stages), stages, warmup) == 0.0


def test_the_restart_forgets_moments_and_count_of_steps_at_its_step_only(tmp_path):
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    restart, arguments = OptimizerRestart(3), TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    steps = []
    for step in range(1, 6):
        weight.grad = torch.full_like(weight, float(step))
        optimizer.step()
        steps.append(optimizer.state[weight]["step"].item())
        restart.on_step_end(arguments, TrainerState(global_step=step), TrainerControl(), optimizer=optimizer)
    assert steps == [1, 2, 3, 1, 2]
    # The first moment holds the gradients of steps 4 and 5 alone.
    assert optimizer.state[weight]["exp_avg"][0].item() == pytest.approx(0.9 * 0.1 * 4 + 0.1 * 5)


def test_clipping_per_parameter_bounds_each_norm_on_its_own(tmp_path):
    model = nn.Linear(2, 2)
    model.weight.grad, model.bias.grad = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([0.3, 0.4])
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    PerParameterClipping(1.0).on_pre_optimizer_step(arguments, TrainerState(), TrainerControl(), model=model)
    # torch adds 1e-6 to the norm that it divides by.
    torch.testing.assert_close(model.weight.grad, torch.tensor([[0.6, 0.0], [0.0, 0.8]]), atol=1e-6, rtol=0)
    assert torch.equal(model.bias.grad, torch.tensor([0.3, 0.4]))
