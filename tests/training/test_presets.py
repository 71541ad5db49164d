import json

import pytest
import torch
from click.testing import CliRunner

from tests.training.models import TASK, write_data, write_pretrained
from ti_qat import recipes
from ti_qat.cli import main
from ti_qat.config import StudentConfig, TeacherConfig, configure
from ti_qat.errors import ConfigurationError
from ti_qat.method.schedules import Method
from ti_qat.pipeline.config import read_configuration
from ti_qat.training import intervention_trainer

# What the paper's public code does; docs/training.md names it.
REPRO = {
    "weight_quantizer": "twn", "weight_bits": 2, "weight_clip": 2.5,
    "linear_weights": "per_tensor", "word_embedding": "per_row", "activations": "dynamic_per_tensor",
    "mask_padding": False, "pad_to_max_length": True,
    "hidden_weight": 1.0, "attention_scores_weight": 1.0, "attention_output_weight": 1.0, "logits_weight": 1.0,
    "attention_map_weight": 0.0, "labels_weight": 0.0,
    "adam_bias_correction": False, "adam_epsilon": 1e-6, "weight_decay": 0.01,
    "gradient_clipping": "per_parameter", "max_gradient_norm": 1.0,
    "learning_rate": 2e-5, "epochs": 3.0, "warmup_fraction": 0.1,
    "restart_after_intervention": True, "dropout": 0.1, "exportable": False,
}  # fmt: skip
# Batch, length of texts, T.
TASKS = {
    "cola": (16, 64, 120),
    **dict.fromkeys(("mrpc", "stsb", "qqp", "mnli", "mnli-mm", "qnli", "rte", "wnli"), (32, 128, 60)),
    "sst2": (32, 64, 60),
    "reviews of my own": (32, 128, 60),
}
TASK_TOML = (
    'name = "tiny"\ntext_columns = ["text"]\nlabel_column = "label"\n'
    'labels = ["negative", "positive"]\nmetric = "accuracy"\n'
)
SHORT = ("epochs=2", "batch_size=4", "log_every_steps=2", "evaluate_every_steps=100")


@pytest.mark.parametrize("task", TASKS)
def test_repro_is_the_papers_code(task):
    student = configure(StudentConfig, ["preset=repro"], task)
    assert {name: getattr(student, name) for name in REPRO} == REPRO
    teacher = configure(TeacherConfig, ["preset=repro"], task)
    assert (student.batch_size, teacher.max_length, student.intervention_steps) == TASKS[task]
    assert student.preset == teacher.preset == "repro"


def test_repro_teaches_as_the_example_that_the_paper_sends_to():
    teacher = configure(TeacherConfig, ["preset=repro"], "qnli")
    assert (teacher.epochs, teacher.batch_size, teacher.learning_rate) == (3.0, 32, 2e-5)
    assert (teacher.warmup_fraction, teacher.weight_decay) == (0.0, 0.0)
    assert [configure(TeacherConfig, ["preset=repro"], task).epochs for task in ("mrpc", "wnli")] == [5.0, 5.0]


@pytest.mark.parametrize("model", [TeacherConfig, StudentConfig])
def test_clean_is_the_defaults(model):
    assert configure(model, ["preset=clean"], "cola") == configure(model, [], "cola") == model()


def test_explicit_settings_win_in_any_order():
    for overrides in (["preset=repro", "batch_size=8"], ["batch_size=8", "preset=repro"]):
        config = configure(StudentConfig, overrides, "cola")
        assert (config.batch_size, config.intervention_steps) == (8, 120)
    same_as_default = configure(StudentConfig, ["preset=repro", "dropout=0.0"], "cola")
    assert same_as_default.dropout == 0.0


def test_what_a_preset_sets_can_be_taken_back():
    fraction = configure(StudentConfig, ["preset=repro", "intervention_fraction=0.5"], "cola")
    assert (fraction.intervention_fraction, fraction.intervention_steps) == (0.5, None)
    unclipped = configure(StudentConfig, ["preset=repro", "weight_clip=none", "activation_clip=none"], "cola")
    assert (unclipped.weight_clip, unclipped.activation_clip) == (None, None)
    with pytest.raises(ConfigurationError, match=r"epochs: .*, found 'none'"):
        configure(StudentConfig, ["epochs=none"], "cola")


def test_a_run_refuses_a_student_that_it_could_not_export(tmp_path):
    (tmp_path / "run.toml").write_text('[task]\nname = "cola"\n[student]\nsettings = { preset = "repro" }\n')
    with pytest.raises(ConfigurationError, match=r"student\.settings: activations: expected static or dynamic_"):
        read_configuration(tmp_path / "run.toml")
    per_token = "student.settings.activations=dynamic_per_token"
    with pytest.raises(ConfigurationError, match=r"student\.settings: exportable: expected true in a run, .*false"):
        read_configuration(tmp_path / "run.toml", [per_token])
    read_configuration(tmp_path / "run.toml", [per_token, "student.settings.exportable=true"])


def test_an_unknown_preset_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="preset: Input should be 'clean' or 'repro', found 'papr'"):
        configure(StudentConfig, ["preset=papr"], "cola")
    (tmp_path / "run.toml").write_text('[task]\nname = "cola"\n[student]\nsettings = { preset = "papr" }\n')
    with pytest.raises(ConfigurationError, match=r"student\.settings: preset: Input should be 'clean' or 'repro'"):
        read_configuration(tmp_path / "run.toml")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    write_pretrained(root / "model")
    write_data(root / "data")
    (root / "task.toml").write_text(TASK_TOML)
    settings = ("preset=repro", "max_length=9", *SHORT)
    result = invoke(root, "teach", "--model", str(root / "model"), "--out", str(root / "teacher"), settings=settings)
    assert result.exit_code == 0, result.output
    return root


def invoke(root, verb, *options, settings):
    on_task = ("--task", str(root / "task.toml"), "--data", str(root / "data"))
    overrides = [option for setting in settings for option in ("--set", setting)]
    return CliRunner().invoke(main, [verb, *options, *on_task, *overrides])


def train(root, out, *settings, method="ti-g"):
    options = ("--teacher", str(root / "teacher"), "--method", method, "--out", str(out))
    return invoke(root, "train", *options, settings=settings)


def test_repro_trains(inputs, tmp_path, monkeypatch):
    seen = []
    original = intervention_trainer.distillation_loss

    def distillation_loss(settings, student, teacher, batch, **rest):
        seen.append(batch["attention_mask"].shape[1])
        return original(settings, student, teacher, batch, **rest)

    monkeypatch.setattr(intervention_trainer, "distillation_loss", distillation_loss)
    result = train(inputs, tmp_path / "student", "preset=repro", "intervention_steps=6", *SHORT)
    assert result.exit_code == 0, result.output
    assert set(seen) == {9}  # every batch as long as the longest text may be
    lines = [json.loads(line) for line in (tmp_path / "student" / "training.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["intervention"] for line in steps] == ["context"] + ["attention_map"] * 2 + ["none"] * 3
    terms = ("hidden", "attention_scores", "attention_output", "logits")
    assert {name for name in steps[0] if name.startswith("loss_")} == {f"loss_{name}" for name in terms}
    for line in steps:
        # Both are sums of float32 numbers, in different orders.
        assert sum(line[f"loss_{name}"] for name in terms) == pytest.approx(line["loss"], rel=1e-4)
    # Two stages, each with a warm-up of its own: the rate is back at 0 where the second begins.
    rates = [line["learning_rate"] for line in steps]
    assert rates[2] < rates[1] < rates[0]
    assert rates[3] > rates[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("preset=papr",), "preset: Input should be 'clean' or 'repro', found 'papr'"),
        (("preset=repro", *SHORT), "intervention_steps: expected at most the run's 12 steps, found 60"),
        (("logit_scaling=token", *SHORT), "logit_scaling: expected 'uniform' for a model that classifies rows"),
        (
            ("hidden_weight=0", "attention_scores_weight=0", "logits_weight=0", *SHORT),
            "labels_weight: expected one above 0, found none",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_one_line_and_exit_2(inputs, tmp_path, settings, message):
    result = train(inputs, tmp_path / "student", *settings)
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["kd", "none", "gradual-lambda"])
def test_steps_of_intervention_mean_nothing_to_a_method_without(inputs, tmp_path, method):
    result = train(inputs, tmp_path / "student", "intervention_steps=1000", "epochs=0.2", *SHORT[1:], method=method)
    assert result.exit_code == 0, result.output


def test_gradual_lambda_blends_by_the_global_step(inputs, tmp_path, monkeypatch):
    blends = []
    original = intervention_trainer.set_blend

    def set_blend(model, blend):
        blends.append(blend)
        original(model, blend)

    monkeypatch.setattr(intervention_trainer, "set_blend", set_blend)
    result = train(inputs, tmp_path / "student", "gradual_lambda_steps=8", *SHORT, method="gradual-lambda")
    assert result.exit_code == 0, result.output
    assert blends == [min(step / 8, 1.0) for step in range(12)]
    lines = [json.loads(line) for line in (tmp_path / "student" / "training.jsonl").read_text().splitlines()]
    assert [line["lambda"] for line in lines if "loss" in line] == [1 / 8, 3 / 8, 5 / 8, 7 / 8, 1.0, 1.0]


def test_a_resumed_run_blends_as_the_uninterrupted_one(inputs, tmp_path, monkeypatch):
    settings = ("gradual_lambda_steps=8", "checkpoint_every_steps=3", *SHORT)
    assert train(inputs, tmp_path / "whole", *settings, method="gradual-lambda").exit_code == 0
    config = configure(StudentConfig, settings, TASK.name)
    original = intervention_trainer.InterventionTrainer.loss_of

    def killed(self, model, *args, **kwargs):
        if model.training and self.state.global_step == 5:
            raise KeyboardInterrupt
        return original(self, model, *args, **kwargs)

    run = (inputs / "teacher", TASK, inputs / "data", Method.GRADUAL_LAMBDA, tmp_path / "resumed", config)
    with monkeypatch.context() as patch:
        patch.setattr(intervention_trainer.InterventionTrainer, "loss_of", killed)
        with pytest.raises(KeyboardInterrupt):
            recipes.train(*run)
    recipes.train(*run)
    whole, resumed = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "resumed"))
    assert whole == resumed


def test_a_student_of_weight_zero_terms_learns_from_labels_alone(inputs, tmp_path):
    settings = ("hidden_weight=0", "attention_scores_weight=0", "logits_weight=0", "labels_weight=2", *SHORT)
    assert train(inputs, tmp_path / "student", *settings, method="kd").exit_code == 0
    assert train(inputs, tmp_path / "plain", *SHORT, method="none").exit_code == 0
    lines = [json.loads(line) for line in (tmp_path / "student" / "training.jsonl").read_text().splitlines()]
    first = next(line for line in lines if "loss" in line)
    assert first["loss"] == pytest.approx(2 * first["loss_labels"], rel=1e-5)
    plain = json.loads((tmp_path / "plain" / "training.jsonl").read_text().splitlines()[0])
    # The same first step, of rate 0 in the warm-up; float32 by two routes.
    assert torch.tensor(first["loss_labels"]).item() == pytest.approx(plain["loss"], rel=1e-2)
