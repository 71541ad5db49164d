"""A step's batch in several parts trains what it trains in one."""

import pytest
import torch
from torch.nn import functional
from transformers import TrainerCallback

from tests.training import runs
from tests.training.models import TASK, tiny_tokenizer
from ti_qat.config import GradientClipping
from ti_qat.errors import ConfigurationError
from ti_qat.method.schedules import Method
from ti_qat.models import model_directory
from ti_qat.tasks.data import RightPadding, lengths_of, read_rows, tokenized, training_order
from ti_qat.training.trainer import ResumableTrainer

# Gradients are summed in another order, in float32: a few units of 2**-24 of the largest summand.
ROUNDING = {"rtol": 1e-4, "atol": 1e-6}
# Adam divides a gradient by its own size: with the usual epsilon one that is 0 but for rounding, as that of
# a key's bias, would move its weight by the whole learning rate.
SETTINGS = {"adam_epsilon": 1e-3}


class Gradients(TrainerCallback):
    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.steps.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return runs.prepare(tmp_path_factory.mktemp("accumulation"))


@pytest.fixture
def gradients(monkeypatch):
    """The gradients of every step of the runs that the test makes, a list each."""
    found, original = [], ResumableTrainer.run

    def run(self):
        found.append(Gradients())
        self.add_callback(found[-1])
        original(self)

    monkeypatch.setattr(ResumableTrainer, "run", run)
    return found


def assert_same(gradients):
    whole, *others = [log.steps for log in gradients]
    for other in others:
        assert len(other) == len(whole) == runs.STEPS
        for mine, its in zip(other, whole, strict=True):
            assert mine.keys() == its.keys()
        for name, gradient in whole[0].items():
            torch.testing.assert_close(other[0][name], gradient, **ROUNDING)


def assert_same_ends(directories):
    models = [model_directory.load(directory).model.state_dict() for directory in directories]
    curves = [[line["loss"] for line in runs.curve(directory)] for directory in directories]
    for model, losses in zip(models[1:], curves[1:], strict=True):
        assert losses == pytest.approx(curves[0], rel=1e-4)
        for name, weight in models[0].items():
            # Twelve steps whose gradients differ by rounding.
            torch.testing.assert_close(model[name], weight, rtol=0, atol=2e-5)


@pytest.mark.parametrize("method", [Method.TI_G, Method.KD, Method.NONE])
def test_a_students_step_is_the_same_in_one_two_or_four_parts(root, tmp_path, gradients, method):
    outs = [tmp_path / str(parts) for parts in (1, 2, 4)]
    for out in outs:
        runs.train(root, out, method, accumulation_steps=int(out.name), **SETTINGS)
    assert_same(gradients)
    assert_same_ends(outs)


def test_a_teachers_step_is_the_same_in_one_two_or_four_parts(root, tmp_path, gradients, monkeypatch):
    outs = [tmp_path / str(parts) for parts in (1, 2, 4)]
    without_dropout(root / "model", monkeypatch)
    for out in outs:
        runs.teach(root, out, accumulation_steps=int(out.name), **SETTINGS)
    assert_same(gradients)
    assert_same_ends(outs)


def without_dropout(source, monkeypatch):
    original = model_directory.load_pretrained

    def load_pretrained(*args):
        model, tokenizer = original(*args)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return model, tokenizer

    monkeypatch.setattr(model_directory, "load_pretrained", load_pretrained)


@pytest.mark.parametrize("method", [Method.KD, Method.NONE])
def test_the_trainer_left_to_itself_would_divide_once_more(root, tmp_path, gradients, monkeypatch, method):
    inner = ResumableTrainer.run

    def run(self):
        self.loss_is_scaled_for_ga = None
        inner(self)

    settings = {"gradient_clipping": GradientClipping.PER_PARAMETER, "max_gradient_norm": 1e9}
    runs.train(root, tmp_path / "whole", method, accumulation_steps=4, **settings)
    monkeypatch.setattr(ResumableTrainer, "run", run)
    runs.train(root, tmp_path / "trap", method, accumulation_steps=4, **settings)
    whole, trap = (log.steps[0] for log in gradients)
    for name, gradient in whole.items():
        torch.testing.assert_close(4 * trap[name], gradient)


def test_the_logged_loss_is_the_mean_over_the_rows_of_the_step(root, tmp_path):
    still = {"learning_rate": 1e-12, "scale_learning_rate": 1e-12}
    runs.train(root, tmp_path / "student", Method.NONE, accumulation_steps=2, **still)
    student = model_directory.load(tmp_path / "student").model
    rows = tokenized(read_rows(TASK, root / "data" / "train.tsv"), tiny_tokenizer(), runs.TEACHER.max_length)
    order = training_order(lengths_of(rows), 4, runs.STEPS, seed=0)
    collate = RightPadding(tiny_tokenizer())
    for step, line in enumerate(runs.curve(tmp_path / "student")):
        batch = collate([rows[row] for row in order[4 * step : 4 * step + 4]])
        labels = batch.pop("labels")
        with torch.no_grad():
            expected = functional.cross_entropy(student(**batch).logits, labels)
        assert line["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_a_batch_that_does_not_divide_is_refused_before_anything_is_written(root, tmp_path):
    expected = "batch_size: expected a multiple of accumulation_steps times processes, 3 x 1, found 4"
    with pytest.raises(ConfigurationError, match=expected):
        runs.train(root, tmp_path / "student", accumulation_steps=3)
    assert not list(tmp_path.iterdir())
