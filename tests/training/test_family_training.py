"""Every served family through the Trainer and through its directory."""

import json

import pytest
import torch
from click.testing import CliRunner
from datasets import Dataset
from transformers import default_data_collator

from tests.training.models import TASK, tiny_tokenizer, write_data
from tests.training.tiny_families import tiny_inputs, tiny_model, tiny_student_of
from ti_qat.cli import main
from ti_qat.config import StudentConfig
from ti_qat.method.schedules import ConstantSchedule, InterventionPoint, Method
from ti_qat.models import model_directory
from ti_qat.models.families import FAMILIES, Modality, layers_of
from ti_qat.models.model_directory import StudentDescription, TrainedModel, TrainedTask
from ti_qat.tasks import image_objective
from ti_qat.tasks.image_objective import ImageObjective
from ti_qat.tasks.image_task import ImageTask
from ti_qat.tasks.language_task import LanguageTask
from ti_qat.tasks.lookup import objective_of
from ti_qat.training.intervention_trainer import InterventionTrainer

IMAGE_TASK = ImageTask(modality="images", name="tiny", labels=("cat", "dog", "eel"), metric="accuracy")
LANGUAGE_TASK = LanguageTask(objective="language_modelling", name="tiny", format="txt")
TEXT_TASK = TASK.model_copy(update={"labels": ("a", "b", "c")})

every_family = pytest.mark.parametrize("name", list(FAMILIES))


class Pixels(ImageObjective):
    """Images that are pixel_values already."""

    def collator(self, processor, length=None):
        return default_data_collator


class NoProcessor:
    """Stands in for an image processor, which needs Pillow."""

    def save_pretrained(self, directory):
        """Nothing is kept."""


def task_of(name):
    if FAMILIES[name].modality is Modality.IMAGES:
        return IMAGE_TASK
    return LANGUAGE_TASK if FAMILIES[name].causal else TEXT_TASK


def rows_of(name):
    """Eight rows, for two steps."""
    inputs = tiny_inputs(name)
    columns = {"labels": [0, 1, 2, 0, 1, 2, 0, 1]}
    if "pixel_values" in inputs:
        columns["pixel_values"] = inputs["pixel_values"].repeat(3, 1, 1, 1)[:8].tolist()
    else:
        lengths = inputs["attention_mask"].sum(-1).tolist()
        rows = [row[:length] for row, length in zip(inputs["input_ids"].tolist(), lengths, strict=True)]
        columns["input_ids"] = (rows * 3)[:8]
    if FAMILIES[name].causal:
        del columns["labels"]
    return Dataset.from_dict(columns)


def trainer_of(name, student, work_dir, point, teacher=None, **settings):
    objective = Pixels(IMAGE_TASK) if task_of(name) is IMAGE_TASK else objective_of(task_of(name))
    config = StudentConfig(**{"batch_size": 4, "epochs": 1, "warmup_fraction": 0.0} | settings)
    rows = rows_of(name)
    return InterventionTrainer(
        teacher=teacher or tiny_model(name),
        schedule=ConstantSchedule(point, 2),
        model=student,
        config=config,
        processor=tiny_tokenizer(),
        train=rows,
        dev=rows,
        objective=objective,
        work_dir=work_dir,
        title="test",
    )


EVERY_TERM = {
    "attention_map_weight": 1.0,
    "attention_output_weight": 1.0,
    "labels_weight": 1.0,
}


@every_family
@pytest.mark.parametrize("point", [None, *InterventionPoint])
def test_a_student_is_trained_at_every_point(tmp_path, name, point):
    student = tiny_student_of(tiny_model(name), tiny_inputs(name))
    before = {path: p.detach().clone() for path, p in student.named_parameters()}
    trainer = trainer_of(name, student, tmp_path, point, **EVERY_TERM)
    trainer.run()
    family = FAMILIES[name]
    moved = {path for path, p in student.named_parameters() if not torch.equal(p, before[path])}
    for i, layer in enumerate(layers_of(student)):
        paths = {path: id(p) for path, p in student.named_parameters()}
        for part, gets_none in (
            ("query", ()),
            ("key", ()),
            ("value", (InterventionPoint.CONTEXT, InterventionPoint.OUTPUT)),
            ("output", (InterventionPoint.OUTPUT,)),
        ):
            weight = layer.get_submodule(getattr(family, part)).weight
            [path] = [path for path, identity in paths.items() if identity == id(weight)]
            assert (path in moved) == (point not in gets_none), (i, part)
    assert trainer.state.global_step == 2
    assert trainer.final_score() >= 0


@every_family
def test_a_student_is_read_back_as_it_was_saved(tmp_path, name, monkeypatch):
    monkeypatch.setattr(image_objective.ImageObjective, "load_processor", lambda *_: NoProcessor())
    teacher, inputs = tiny_model(name), tiny_inputs(name)
    student = tiny_student_of(teacher, inputs)
    processor = NoProcessor() if task_of(name) is IMAGE_TASK else tiny_tokenizer()
    trained = TrainedTask(
        task=task_of(name), max_length=9, source="random", base_model="random", seed=0, training_rows=8
    )
    description = StudentDescription(quantizers=StudentConfig().quantizers(), method=Method.TI_G)
    for directory, model, is_student in (("teacher", teacher, None), ("student", student, description)):
        (tmp_path / directory).mkdir()
        model_directory.save(tmp_path / directory, TrainedModel(model, processor, trained, is_student))
        found = model_directory.load(tmp_path / directory)
        assert found.trained == trained
        with torch.no_grad():
            assert torch.equal(found.model(**inputs).logits, model(**inputs).logits)
        state, again = model.state_dict(), found.model.state_dict()
        assert set(state) == set(again)
        for key, tensor in state.items():
            assert torch.equal(again[key], tensor), key


@pytest.mark.parametrize("name", ["albert", "vit", "gpt2"])
def test_a_checkpoint_is_taken_up_under_its_own_names(tmp_path, name):
    """Checkpoints in the names of older versions, or without tied weights, would be resumed without a word."""

    def run(work_dir, stop_after):
        student = tiny_student_of(tiny_model(name), tiny_inputs(name))
        trainer = trainer_of(name, student, work_dir, None, checkpoint_every_steps=1, epochs=2)
        if stop_after:
            trainer.args.max_steps = stop_after
        trainer.run()
        return student.state_dict()

    expected = run(tmp_path / "whole", None)
    run(tmp_path / "stopped", 2)
    found = run(tmp_path / "stopped", None)
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key


@pytest.mark.parametrize("name", ["electra", "distilbert", "albert"])
def test_an_encoder_that_cannot_be_exported_is_trained_only_when_told(tmp_path, name):
    data = write_data(tmp_path / "data")
    (tmp_path / "task.toml").write_text(
        'name = "tiny"\ntext_columns = ["text"]\nlabel_column = "label"\n'
        'labels = ["negative", "positive", "neither"]\nmetric = "accuracy"\n'
    )
    tiny_model(name).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")

    def invoke(verb, *arguments):
        return CliRunner().invoke(main, [verb, *map(str, arguments), "--data", str(data)])

    task = ("--task", tmp_path / "task.toml")
    settings = ("--set", "batch_size=4", "--set", "epochs=0.5")
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    teach = ("teach", "--model", tmp_path / "model", *task, "--out", teacher, *settings, "--set", "max_length=9")
    found = invoke(*teach)
    assert found.exit_code == 2
    assert f"model family '{name}' cannot be exported yet" in found.stderr
    assert not teacher.with_name("teacher.partial").exists()
    found = invoke(*teach, "--set", "exportable=false")
    assert found.exit_code == 0, found.output
    train = ("train", "--teacher", teacher, *task, "--out", student, *settings)
    found = invoke(*train)
    assert found.exit_code == 2
    [line] = found.stderr.strip().splitlines()
    assert f"model family '{name}' cannot be exported yet" in line
    assert "exported: bert, roberta; set exportable=false" in line
    assert not student.exists()
    found = invoke(*train, "--set", "exportable=false", "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["steps"] == 3
    found = invoke("evaluate", student, *task)
    assert found.exit_code == 0, found.output
    found = invoke("export", student, "--out", tmp_path / "artifact")
    assert found.exit_code == 2
    assert f"model family '{name}' cannot be exported yet" in found.stderr
