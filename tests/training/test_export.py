import json

import datasets
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tokenizers import Tokenizer
from transformers.utils import logging as transformers_logging

from tests.training.models import TASK, tiny_batch, tiny_student, tiny_teacher, tiny_tokenizer, write_data
from tests.training.runs import TASK_TOML
from ti_qat import recipes
from ti_qat.artifact import io
from ti_qat.artifact.encoder import execute
from ti_qat.artifact.reference import KERNELS
from ti_qat.artifact.schema import ActivationScaling, Granularity
from ti_qat.cli import main
from ti_qat.config import QuantizerSettings, WeightQuantizer
from ti_qat.errors import TaskError, TrainingError
from ti_qat.evaluation import evaluate
from ti_qat.export import export
from ti_qat.method.schedules import Method
from ti_qat.models import model_directory
from ti_qat.models.exported_network import parameters_of
from ti_qat.models.model_directory import StudentDescription, TrainedModel, TrainedTask
from ti_qat.recipes import TrainingResult

TRAINED = TrainedTask(task=TASK, max_length=9, source="random", base_model="random", seed=0, training_rows=24)


def save_student(directory, teacher=None, **changes):
    settings = QuantizerSettings(**changes)
    student = tiny_student(teacher or tiny_teacher(), settings)
    directory.mkdir()
    description = StudentDescription(quantizers=settings, method=Method.TI_G)
    model_directory.save(directory, TrainedModel(student, tiny_tokenizer(), TRAINED, description))
    return student


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data")


# Share of codes, and steps. Under mean_abs one tie in 19186 codes falls on torch's other side at the input of
# layer 1, and this tiny network carries it on to the rest of its row: 143 codes, by up to two steps.
LARGEST_DISAGREEMENT = dict.fromkeys(WeightQuantizer, (0.002, 1)) | {WeightQuantizer.MEAN_ABS: (0.01, 2)}


@pytest.mark.parametrize("weight_quantizer", list(WeightQuantizer))
@pytest.mark.parametrize("weights", list(Granularity))
@pytest.mark.parametrize("activations", list(ActivationScaling))
def test_the_oracle_runs_the_exported_student(tmp_path, data, activations, weights, weight_quantizer):
    student = save_student(
        tmp_path / "student",
        activations=activations,
        linear_weights=weights,
        word_embedding=weights,
        weight_quantizer=weight_quantizer,
    )
    result = export(tmp_path / "student", None, data, tmp_path / "artifact")
    artifact = io.load(tmp_path / "artifact")
    assert artifact.digest == result.digest
    assert artifact.header.provenance.method == "ti-g"
    agreement = result.agreement
    assert agreement.codes_compared > 5000
    share, code_steps = LARGEST_DISAGREEMENT[weight_quantizer]
    assert agreement.codes_different <= share * agreement.codes_compared
    assert agreement.largest_code_difference <= code_steps
    assert agreement.label_agreement == 1
    rows, inputs = next(artifact.evaluation.batches(24))
    logits = execute(artifact.encoder, KERNELS, artifact.parameters, inputs)
    np.testing.assert_allclose(logits, artifact.evaluation.logits[rows], atol=0.05)
    with torch.no_grad():
        found = student(**tiny_batch()).logits.numpy()
    lengths = np.array([7, 4, 1], np.int32)
    batch = {name: tiny_batch()[name].numpy().astype(np.int32) for name in ("input_ids", "token_type_ids")}
    np.testing.assert_allclose(
        execute(artifact.encoder, KERNELS, artifact.parameters, batch | {"lengths": lengths}), found, atol=0.05
    )


def test_the_teachers_logits_travel_with_the_artifact(tmp_path, data):
    teacher = tiny_teacher()
    save_student(tmp_path / "student", teacher)
    (tmp_path / "teacher").mkdir()
    saved = TrainedModel(teacher, tiny_tokenizer(), TRAINED, None)
    model_directory.save(tmp_path / "teacher", saved)
    arguments = ["export", str(tmp_path / "student"), "--data", str(data), "--out", str(tmp_path / "artifact")]
    found = CliRunner().invoke(main, [*arguments, "--teacher", str(tmp_path / "teacher")])
    assert found.exit_code == 0, found.output
    split = io.load(tmp_path / "artifact").evaluation
    row = 3
    batch = {name: torch.from_numpy(getattr(split, name)[row : row + 1, : split.lengths[row]].astype(np.int64))
             for name in ("input_ids", "token_type_ids")}  # fmt: skip
    with torch.no_grad():
        alone = teacher(**batch).logits.numpy()
    # float32 sums of a padded batch and of the row alone differ in their last bits.
    np.testing.assert_allclose(split.teacher_logits[row : row + 1], alone, atol=1e-5)
    assert f", its teacher {evaluate(tmp_path / 'teacher', TASK, data).score:.4f}" in found.stdout
    refused = CliRunner().invoke(main, [*arguments, "--teacher", str(tmp_path / "student")])
    assert refused.exit_code == 2
    assert "expected a teacher, found a student" in refused.stderr


def test_exporting_twice_gives_the_same_artifact(tmp_path, data):
    save_student(tmp_path / "student")
    digests = {export(tmp_path / "student", TASK, data, tmp_path / name).digest for name in ("a", "b")}
    assert len(digests) == 1


def test_parameters_are_those_of_the_reloaded_student(tmp_path):
    student = save_student(tmp_path / "student")
    again = parameters_of(model_directory.load(tmp_path / "student").model)
    for name, array in parameters_of(student).items():
        np.testing.assert_array_equal(again[name], array)


def test_codes_are_those_of_the_quantizer_that_the_directory_names(tmp_path, data):
    student = save_student(tmp_path / "student", weight_quantizer=WeightQuantizer.MEAN_ABS)
    assert (
        json.loads((tmp_path / "student" / "student.json").read_text())["quantizers"]["weight_quantizer"] == "mean_abs"
    )
    export(tmp_path / "student", None, data, tmp_path / "artifact")
    parameters = io.load(tmp_path / "artifact").parameters
    latent = student.bert.encoder.layer[1].output.dense.weight.detach().numpy()
    means = np.abs(latent).mean(axis=1, dtype=np.float64)
    codes = np.clip(np.rint(latent / means[:, None]), -1, 1)
    np.testing.assert_array_equal(parameters["layers.1.feed_forward.down.weight_codes"], codes)
    np.testing.assert_allclose(parameters["layers.1.feed_forward.down.weight_scale"], means, rtol=1e-6)


def test_the_artifact_tokenizes_as_the_student_did(tmp_path, data):
    save_student(tmp_path / "student")
    export(tmp_path / "student", None, data, tmp_path / "artifact")
    artifact = io.load(tmp_path / "artifact")
    tokenizer = Tokenizer.from_str(artifact.tokenizer_json)
    assert tokenizer.truncation is None
    assert tokenizer.padding is None
    text = (data / "dev.tsv").read_text().split("\n")[1].split("\t")[0]
    length = artifact.evaluation.lengths[0]
    assert tokenizer.encode(text).ids == artifact.evaluation.input_ids[0, :length].tolist()


def test_a_teacher_is_not_exported(tmp_path, data):
    (tmp_path / "teacher").mkdir()
    model_directory.save(tmp_path / "teacher", TrainedModel(tiny_teacher(), tiny_tokenizer(), TRAINED, None))
    with pytest.raises(TrainingError, match="expected a student, found a teacher"):
        export(tmp_path / "teacher", None, data, tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()
    result = evaluate(tmp_path / "teacher", TASK, data)
    assert (result.kind, result.rows, result.metric) == ("teacher", 24, "accuracy")
    assert result.latency_ms > 0
    assert result.bytes > 1000


def test_a_task_with_other_labels_is_refused(tmp_path, data):
    save_student(tmp_path / "student")
    other = TASK.model_copy(update={"labels": ("yes", "no"), "label_values": ("negative", "positive")})
    with pytest.raises(TaskError, match="expected the model's labels"):
        evaluate(tmp_path / "student", other, data)


def test_a_damaged_directory_is_one_line(tmp_path):
    save_student(tmp_path / "student")
    (tmp_path / "student" / "model.safetensors").write_bytes(b"short")
    with pytest.raises(TrainingError, match=r"model\.safetensors: expected the weights"):
        model_directory.load(tmp_path / "student")
    (tmp_path / "student" / "task.json").unlink()
    wrote = r"student: expected a folder that teach, train or publish wrote; it has no task\.json$"
    with pytest.raises(TrainingError, match=wrote):
        model_directory.load(tmp_path / "student")


@pytest.mark.parametrize("verb", ["evaluate", "export", "publish"])
def test_libraries_draw_no_progress_bars_between_our_lines(tmp_path, data, verb):
    save_student(tmp_path / "student")
    (tmp_path / "task.toml").write_text(TASK_TOML)
    transformers_logging.enable_progress_bar()
    datasets.enable_progress_bars()
    options = {
        "evaluate": ["--task", str(tmp_path / "task.toml"), "--data", str(data)],
        "export": ["--data", str(data), "--out", str(tmp_path / "out")],
        "publish": ["--out", str(tmp_path / "out")],
    }
    found = CliRunner().invoke(main, [verb, str(tmp_path / "student"), *options[verb]])
    assert (found.exit_code, found.stderr) == (0, ""), found.output


def test_verbs_print_one_json_object(tmp_path, data):
    save_student(tmp_path / "student")
    (tmp_path / "task.toml").write_text(
        'name = "tiny"\ntext_columns = ["text"]\nlabel_column = "label"\n'
        'labels = ["negative", "positive"]\nmetric = "accuracy"\n'
    )
    options = ["--task", str(tmp_path / "task.toml"), "--data", str(data), "--json"]
    found = CliRunner().invoke(main, ["evaluate", str(tmp_path / "student"), *options])
    assert found.exit_code == 0, found.output
    assert {"score", "latency_ms", "bytes", "peak_rss_bytes"} <= set(json.loads(found.stdout))
    found = CliRunner().invoke(
        main, ["export", str(tmp_path / "student"), *options, "--out", str(tmp_path / "artifact")]
    )
    assert json.loads(found.stdout)["agreement"]["label_agreement"] == 1
    assert io.load(tmp_path / "artifact").header.task.text_columns == ("text",)


def test_export_says_what_its_codes_are_compared_with(tmp_path, data):
    save_student(tmp_path / "student")
    arguments = ["export", str(tmp_path / "student"), "--data", str(data), "--out", str(tmp_path / "artifact")]
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 0, found.output
    scored, compared = found.stdout.splitlines()
    assert scored.endswith("on 24 rows")
    assert compared.startswith(
        "torch's float32 sums against the oracle's fixed order (docs/numerics.md, section 8), 8 rows: "
    )


@pytest.mark.parametrize("verb", ["teach", "train", "evaluate", "export"])
def test_help_shows_an_example(verb):
    found = CliRunner().invoke(main, [verb, "--help"])
    assert f"ti-qat {verb} " in found.output.split("Example:")[1]


@pytest.mark.parametrize("method", list(Method))
def test_train_offers_every_method_and_passes_it_on(tmp_path, data, monkeypatch, method):
    asked = []

    def record(teacher_dir, task, data_dir, method, out, config, replace):
        asked.append((method, config.weight_quantizer))
        return TrainingResult(str(out), 0.5, "accuracy", 1, 1, 1)

    monkeypatch.setattr(recipes, "train", record)
    options = ["--teacher", str(data), "--task", "sst2", "--data", str(data), "--out", str(tmp_path / "out")]
    options += ["--method", method.value, "--set", "weight_quantizer=mean_abs"]
    found = CliRunner().invoke(main, ["train", *options])
    assert found.exit_code == 0, found.output
    assert asked == [(method, WeightQuantizer.MEAN_ABS)]
    assert method.value in CliRunner().invoke(main, ["train", "--help"]).output


def test_bad_input_is_one_line_and_exit_2(tmp_path, data):
    options = ["--data", str(data), "--out", str(tmp_path / "out"), "--model", "x", "--task"]
    found = CliRunner().invoke(main, ["teach", *options, "nosuch"])
    assert found.exit_code == 2
    [line] = found.stderr.strip().splitlines()
    assert line.startswith("ti-qat: task 'nosuch' is not known: expected cola, ") and line.endswith(" or a .toml file")
