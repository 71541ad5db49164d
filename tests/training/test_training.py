import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from transformers import BertForSequenceClassification

from tests.training.models import TASK, load_pretrained, write_data, write_pretrained
from tests.training.stops import KilledError, kill_at
from ti_qat import recipes
from ti_qat.artifact.errors import OutputError
from ti_qat.config import StudentConfig, TeacherConfig, WeightQuantizer
from ti_qat.errors import ConfigurationError, TaskError, TrainingError, UnsupportedModelError
from ti_qat.method.schedules import Method
from ti_qat.models import model_directory
from ti_qat.tasks.data import training_order
from ti_qat.training.checkpoints import is_complete, newest_complete
from ti_qat.training.trainer import ResumableTrainer, total_steps

SHARED = {
    "epochs": 2.0, "batch_size": 4, "log_every_steps": 2, "evaluate_every_steps": 6, "checkpoint_every_steps": 3,
}  # fmt: skip
TEACHER = TeacherConfig(**SHARED, max_length=9)
STUDENT = StudentConfig(**SHARED, intervention_fraction=0.75, calibration_batches=2)


# At steps 2, 4, ... 12 of 12, the teacher intervening at the first 9.
LOGGED_PHASES = {
    Method.TI_G: ["output", "attention_map", "attention_map", "attention_map", "none", "none"],
    Method.TI_INVERTED: ["attention_map", "context", "context", "output", "none", "none"],
    Method.TI_STOCHASTIC: ["stochastic"] * 4 + ["none"] * 2,
    Method.TI_M: ["attention_map"] * 4 + ["none"] * 2,
    Method.TI_C: ["context"] * 4 + ["none"] * 2,
    Method.TI_O: ["output"] * 4 + ["none"] * 2,
    Method.KD: ["none"] * 6,
    Method.GRADUAL_LAMBDA: ["none"] * 6,
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    write_pretrained(root / "model")
    write_data(root / "data")
    recipes.teach(str(root / "model"), TASK, root / "data", root / "teacher", TEACHER)
    recipes.train(root / "teacher", TASK, root / "data", Method.TI_G, root / "student", STUDENT)
    return root


def train(inputs, out, method=Method.TI_G, config=STUDENT):
    return recipes.train(inputs / "teacher", TASK, inputs / "data", method, out, config)


def weights(directory):
    return (directory / "model.safetensors").read_bytes()


def test_a_finished_run_leaves_only_the_model(inputs):
    names = {path.name for path in (inputs / "teacher").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "task.json", "training.jsonl"} <= names
    assert not (inputs / "teacher.partial").exists()
    assert json.loads((inputs / "teacher" / "task.json").read_text())["max_length"] == 9


@pytest.mark.parametrize("step", [2, 5, 10])
def test_a_killed_student_run_ends_in_the_same_bits(inputs, tmp_path, monkeypatch, step):
    with monkeypatch.context() as patch:
        kill_at(patch, step)
        with pytest.raises(KilledError):
            train(inputs, tmp_path / "resumed")
    assert not (tmp_path / "resumed").exists()
    train(inputs, tmp_path / "resumed")
    assert weights(tmp_path / "resumed") == weights(inputs / "student")
    curves = [(root / "training.jsonl").read_text().splitlines() for root in (tmp_path / "resumed", inputs / "student")]
    assert [json.loads(line)["step"] for line in curves[0]] == [json.loads(line)["step"] for line in curves[1]]


def test_a_killed_run_draws_the_same_interventions_again(inputs, tmp_path, monkeypatch):
    train(inputs, tmp_path / "whole", Method.TI_STOCHASTIC)
    with monkeypatch.context() as patch:
        kill_at(patch, 5)
        with pytest.raises(KilledError):
            train(inputs, tmp_path / "resumed", Method.TI_STOCHASTIC)
    train(inputs, tmp_path / "resumed", Method.TI_STOCHASTIC)
    assert weights(tmp_path / "resumed") == weights(tmp_path / "whole")
    other_seed = STUDENT.model_copy(update={"seed": 1})
    train(inputs, tmp_path / "other", Method.TI_STOCHASTIC, other_seed)
    assert weights(tmp_path / "other") != weights(tmp_path / "whole")


def test_more_steps_of_intervention_than_steps_are_refused_before_anything_is_written(inputs, tmp_path):
    with pytest.raises(ConfigurationError, match="intervention_steps: expected at most the run's 12 steps, found 13"):
        train(inputs, tmp_path / "student", config=STUDENT.model_copy(update={"intervention_steps": 13}))
    assert not list(tmp_path.iterdir())


def test_a_killed_teacher_run_with_dropout_ends_in_the_same_bits(inputs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, 7)
        with pytest.raises(KilledError):
            recipes.teach(str(inputs / "model"), TASK, inputs / "data", tmp_path / "teacher", TEACHER)
    recipes.teach(str(inputs / "model"), TASK, inputs / "data", tmp_path / "teacher", TEACHER)
    assert weights(tmp_path / "teacher") == weights(inputs / "teacher")


def test_a_torn_checkpoint_is_passed_over(inputs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, 8)
        with pytest.raises(KilledError):
            train(inputs, tmp_path / "student")
    work_dir = tmp_path / "student.partial"
    torn = work_dir / "checkpoint-6"
    assert newest_complete(work_dir) == torn
    with (torn / "optimizer.pt").open("r+b") as stream:
        stream.seek(100)
        stream.write(b"torn")
    assert not is_complete(torn)
    assert newest_complete(work_dir) == work_dir / "checkpoint-3"
    assert not torn.exists()
    train(inputs, tmp_path / "student")
    assert weights(tmp_path / "student") == weights(inputs / "student")


def test_unfinished_work_is_not_continued_under_other_settings(inputs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, 4)
        with pytest.raises(KilledError):
            train(inputs, tmp_path / "student")
    with pytest.raises(TrainingError, match="other settings \\(learning_rate\\)"):
        train(inputs, tmp_path / "student", config=STUDENT.model_copy(update={"learning_rate": 1.0}))


@pytest.mark.parametrize("method", list(Method))
def test_every_method_trains_and_logs_its_terms(inputs, tmp_path, method):
    result = train(inputs, tmp_path / "student", method)
    lines = [json.loads(line) for line in (tmp_path / "student" / "training.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [2, 4, 6, 8, 10, 12]
    assert result.score == next(line["score"] for line in reversed(lines) if "score" in line)
    if method.distils:
        terms = [line["loss_hidden"] + line["loss_attention_scores"] + line["loss_logits"] for line in steps]
        assert terms == pytest.approx([line["loss"] for line in steps], rel=1e-4)
        assert [line["intervention"] for line in steps] == LOGGED_PHASES[method]


def test_the_settings_of_quantizer_and_intervention_reach_the_student(inputs, tmp_path):
    changes = {"weight_quantizer": WeightQuantizer.MEAN_ABS, "intervention_steps": 3}
    train(inputs, tmp_path / "student", Method.TI_INVERTED, STUDENT.model_copy(update=changes))
    description = json.loads((tmp_path / "student" / "student.json").read_text())
    assert (description["method"], description["quantizers"]["weight_quantizer"]) == ("ti-inverted", "mean_abs")
    linear = model_directory.load(tmp_path / "student").model.bert.pooler.dense
    assert torch.equal(linear.ternary_weight().scale, linear.weight.detach().abs().mean(dim=-1))
    lines = [json.loads(line) for line in (tmp_path / "student" / "training.jsonl").read_text().splitlines()]
    assert [line["intervention"] for line in lines if "loss" in line] == ["context"] + ["none"] * 5


def test_the_student_learns_the_task_of_its_teacher(inputs, tmp_path):
    config = STUDENT.model_copy(update={"epochs": 12.0, "learning_rate": 2e-3, "evaluate_every_steps": 1000})
    train(inputs, tmp_path / "student", config=config)
    lines = [json.loads(line) for line in (tmp_path / "student" / "training.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.7 * losses[0]


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(inputs, tmp_path, monkeypatch):
    original = ResumableTrainer.loss_of

    def loss_of(self, *args, **kwargs):
        loss = original(self, *args, **kwargs)
        return loss * torch.nan if self.model.training and self.state.global_step == 5 else loss

    monkeypatch.setattr(ResumableTrainer, "loss_of", loss_of)
    with pytest.raises(TrainingError, match="step 5: expected a finite loss, found nan"):
        train(inputs, tmp_path / "student", Method.NONE)
    assert not (tmp_path / "student").exists()


def test_a_diverging_run_stops(inputs, tmp_path):
    with pytest.raises(TrainingError, match="finite"):
        train(inputs, tmp_path / "student", config=STUDENT.model_copy(update={"scale_learning_rate": 1e6}))


def test_training_order_visits_rows_once_a_pass_in_batches_of_similar_length():
    lengths = [(7 * row) % 23 for row in range(41)]
    order = training_order(lengths, 4, 20, seed=3)
    assert len(order) == 80
    assert len(set(order[:40])) == 40
    spreads = [max(batch) - min(batch) for i in range(0, 40, 4) if (batch := [lengths[r] for r in order[i : i + 4]])]
    assert max(spreads) <= 4
    assert order == training_order(lengths, 4, 20, seed=3)
    assert order != training_order(lengths, 4, 20, seed=4)
    with pytest.raises(TaskError, match="batch_size: expected at most the 3 training rows, found 4"):
        training_order([1, 2, 3], 4, 1, seed=0)


def test_a_student_is_no_teacher(inputs, tmp_path):
    with pytest.raises(TrainingError, match="expected a teacher, found a student"):
        recipes.train(inputs / "student", TASK, inputs / "data", Method.KD, tmp_path / "other", STUDENT)


def test_a_student_is_nothing_to_teach_from(inputs, tmp_path):
    with pytest.raises(UnsupportedModelError, match=r"student: expected a model in full precision, found .* 'ti_qat'"):
        recipes.teach(str(inputs / "student"), TASK, inputs / "data", tmp_path / "teacher", TEACHER)
    assert not list(tmp_path.iterdir())


def test_damaged_weights_are_named(inputs, tmp_path):
    shutil.copytree(inputs / "model", tmp_path / "damaged")
    weights = tmp_path / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UnsupportedModelError, match="damaged: expected the weights of a bert checkpoint"):
        recipes.teach(str(tmp_path / "damaged"), TASK, inputs / "data", tmp_path / "teacher", TEACHER)


def test_a_checkpoint_of_other_classes_gets_a_fresh_head_and_keeps_the_rest(inputs, tmp_path):
    shutil.copytree(inputs / "model", tmp_path / "model")
    trained = BertForSequenceClassification.from_pretrained(
        inputs / "model", num_labels=5, ignore_mismatched_sizes=True
    )
    trained.save_pretrained(tmp_path / "model")
    model, _ = load_pretrained(str(tmp_path / "model"), TASK)
    assert model.classifier.weight.shape[0] == 2
    for name, parameter in trained.bert.named_parameters():
        assert torch.equal(model.bert.get_parameter(name), parameter), name


def test_weights_of_other_shapes_than_the_configuration_has_are_named(inputs, tmp_path):
    shutil.copytree(inputs / "model", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 1}))
    with pytest.raises(UnsupportedModelError, match=r"not: bert\.embeddings\.word_embeddings\.weight$"):
        load_pretrained(str(tmp_path / "model"), TASK)


def test_an_output_folder_with_other_things_in_it_is_refused_before_training(inputs, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"mine: expected a free path"):
        recipes.teach(str(inputs / "model"), TASK, inputs / "data", tmp_path / "mine", TEACHER)


def test_an_unsupported_family_is_refused_before_its_weights_are_read(inputs, tmp_path):
    shutil.copytree(inputs / "model", tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "mpnet"}')
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(UnsupportedModelError, match="'mpnet' is not served; served: bert"):
        recipes.teach(str(tmp_path / "model"), TASK, inputs / "data", tmp_path / "teacher", TEACHER)
    assert not (tmp_path / "teacher.partial").exists()


def test_a_student_directory_holds_weights_and_learned_scales(inputs):
    tensors = safetensors.torch.load_file(inputs / "student" / "model.safetensors")
    scales = [name for name in tensors if name.endswith("log2_scale")]
    assert len(scales) == 2 * 7 + 1
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.slow
def test_sigkill_and_the_same_command_again_end_in_the_same_bits(inputs, tmp_path):
    (tmp_path / "task.toml").write_text(
        'name = "tiny"\ntext_columns = ["text"]\nlabel_column = "label"\n'
        'labels = ["negative", "positive"]\nmetric = "accuracy"\n'
    )
    settings = [f"--set={key}={value}" for key, value in STUDENT.model_dump(mode="json", exclude_none=True).items()]
    base = [sys.executable, "-m", "ti_qat", "train", "--teacher", str(inputs / "teacher"), "--task"]
    base += [str(tmp_path / "task.toml"), "--data", str(inputs / "data"), *settings, "--set=epochs=12.0", "--out"]
    killed = subprocess.Popen([*base, str(tmp_path / "killed")], stderr=subprocess.DEVNULL)
    try:
        wait_for(tmp_path / "killed.partial" / "checkpoint-12")
    finally:
        killed.kill()
        killed.wait()
    for name in ("killed", "whole"):
        subprocess.run([*base, str(tmp_path / name)], check=True, capture_output=True)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_finished_run_is_found_and_another_one_does_not_replace_it(inputs, tmp_path):
    def teach(**options):
        config = TEACHER.model_copy(update=options.pop("changes", {}))
        return recipes.teach(str(inputs / "model"), TASK, inputs / "data", tmp_path / "teacher", config, **options)

    first = teach()
    weights = (tmp_path / "teacher" / "model.safetensors").stat()
    again = teach()
    assert again == replace(first, done_before=True)
    assert (tmp_path / "teacher" / "model.safetensors").stat() == weights
    with pytest.raises(OutputError, match=r"teacher: holds the result of a run with other .* \(seed\); .*--replace"):
        teach(changes={"seed": 5})
    assert not teach(changes={"seed": 5}, replace=True).done_before
    assert teach(changes={"seed": 5}).done_before


def test_a_run_that_came_to_no_checkpoint_does_not_block_the_corrected_one(inputs, tmp_path):
    with pytest.raises(TaskError, match="batch_size: expected at most"):
        recipes.teach(
            str(inputs / "model"),
            TASK,
            inputs / "data",
            tmp_path / "teacher",
            TEACHER.model_copy(update={"batch_size": 999}),
        )
    result = recipes.teach(str(inputs / "model"), TASK, inputs / "data", tmp_path / "teacher", TEACHER)
    assert Path(result.path).is_dir()


@pytest.mark.parametrize(
    ("epochs", "rows", "steps"), [(1.1, 320, 11), (0.29, 3200, 29), (0.01, 32, 1), (1.01, 3200, 101)]
)
def test_fractions_of_epochs_are_not_rounded_by_their_binary_digits(epochs, rows, steps):
    assert total_steps(TeacherConfig(epochs=epochs, batch_size=32), rows) == steps
