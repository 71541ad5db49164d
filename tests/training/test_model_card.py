"""Model cards, packed students and pushing them to the hub."""

import json
import re
import shutil
import socket
import time

import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import RepositoryNotFoundError
from transformers import AutoModelForSequenceClassification

from tests.training.models import TASK, load_pretrained, tiny_batch
from tests.training.runs import prepare, teach, train
from ti_qat.artifact.errors import OutputError
from ti_qat.cli import main
from ti_qat.config import WeightQuantizer
from ti_qat.errors import ConfigurationError, TrainingError, UnsupportedModelError
from ti_qat.evaluation import evaluate
from ti_qat.export import export
from ti_qat.models import model_directory
from ti_qat.models.model_directory import load_teacher
from ti_qat.sharing.publishing import publish


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the card of the source, a teacher, a student of 6 steps, and the latter packed."""
    root = prepare(tmp_path_factory.mktemp("made"))
    card = "---\nlicense: apache-2.0\nlanguage: en\nbase_model: somebody/ancestor\ntags: [theirs]\n---\n# Source\n"
    (root / "model" / "README.md").write_text(card)
    shutil.rmtree(root / "teacher")  # its card was made from a model without one
    teach(root, root / "teacher")
    train(root, root / "student", epochs=1.0)
    publish(root / "student", root / "packed")
    return root


def card_of(directory):
    return ModelCard.load(directory / "README.md")


def facts(directory):
    """Return the rows of the card's table."""
    lines = [line for line in card_of(directory).text.splitlines() if line.startswith("| ")]
    return dict(line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines[1:])


@pytest.mark.parametrize("name", ["teacher", "student", "packed"])
def test_the_card_is_metadata_that_the_hub_reads(made, name):
    data = card_of(made / name).data
    trained = model_directory.load(made / name).trained
    written = data.to_dict()
    assert written["library_name"] == "transformers" and data.pipeline_tag == "text-classification"
    assert (data.license, data.language, data.base_model) == ("apache-2.0", "en", None)
    assert ("ternary" in data.tags) is (name != "teacher")
    (result,) = data.eval_results
    assert data.model_name == name
    assert (result.metric_type, result.metric_value) == ("accuracy", trained.result.score)


def test_the_table_holds_the_models_own_figures(made):
    found = facts(made / "student")
    size = (made / "student" / "model.safetensors").stat().st_size
    assert found["base model"] == "`model`" and found["teacher"] == "`teacher`" and found["method"] == "`ti-g`"
    assert found["training"] == "6 steps on 24 rows, seed 0"
    assert found["score"].startswith("accuracy 0.") and found["score"].endswith("on 24 evaluation rows")
    assert "weight_quantizer `twn`" in found["quantisers"]
    assert found["stored as"] == f"latent float32 weights, which go on learning: {size / 1e6:.1f} MB"
    assert facts(made / "packed")["stored as"].startswith("2-bit codes and scales: ")


def test_the_table_counts_every_weight_once(made):
    found = re.fullmatch(r"(\d+) of 2 bits, (\d+) in float32", facts(made / "packed")["parameters"])
    assert found[0] == facts(made / "student")["parameters"]
    student = model_directory.load(made / "student").model
    assert int(found[1]) + int(found[2]) == sum(parameter.numel() for parameter in student.parameters())


def test_the_cards_code_loads_the_model(made, monkeypatch):
    monkeypatch.chdir(made)
    code = card_of(made / "packed").text.split("```python\n")[1].split("```")[0]
    namespace = {}
    exec(code, namespace)
    expected = model_directory.load(made / "student").model(**tiny_batch()).logits
    assert torch.equal(namespace["model"](**tiny_batch()).logits, expected)


def test_a_student_of_a_hubs_model_names_it_as_its_base(made, tmp_path, monkeypatch):
    text = (made / "teacher" / "README.md").read_text()
    (made / "teacher" / "README.md").write_text(text.replace("license:", "base_model: somebody/encoder\nlicense:"))
    train(made, tmp_path / "student", epochs=0.5)
    (made / "teacher" / "README.md").write_text(text)
    assert card_of(tmp_path / "student").data.base_model == "somebody/encoder"


def test_without_a_card_at_the_source_the_licence_is_left_to_the_user(made, tmp_path):
    (made / "model" / "README.md").rename(tmp_path / "README.md")
    teach(made, tmp_path / "teacher", epochs=0.5)
    (tmp_path / "README.md").rename(made / "model" / "README.md")
    assert "license" not in card_of(tmp_path / "teacher").data.to_dict()


def test_a_packed_student_is_evaluated_and_exported_as_the_student_is(made, tmp_path):
    student, packed = (
        (
            evaluate(made / name, TASK, made / "data").score,
            export(made / name, None, made / "data", tmp_path / name).digest,
        )
        for name in ("student", "packed")
    )
    assert packed == student


def test_packing_refuses_a_teacher_other_widths_and_to_replace_latent_weights(made, tmp_path):
    with pytest.raises(TrainingError, match="expected a student, found a teacher"):
        publish(made / "teacher", tmp_path / "packed")
    train(
        made, tmp_path / "wide", epochs=0.5, weight_quantizer=WeightQuantizer.MIN_MAX, weight_bits=4, exportable=False
    )
    with pytest.raises(ConfigurationError, match=r"weight_bits: .*expected 2, found 4"):
        publish(tmp_path / "wide", tmp_path / "packed")
    for out in ("student", "teacher"):
        with pytest.raises(OutputError, match="not packed"):
            publish(made / "student", made / out)
    assert not (tmp_path / "packed").exists()
    publish(made / "packed", made / "packed")
    AutoModelForSequenceClassification.from_pretrained(made / "packed")


def test_a_packed_student_is_no_teacher(made):
    with pytest.raises(TrainingError, match="expected a teacher, found a student"):
        load_teacher(made / "packed")


def test_the_two_descriptions_of_a_student_may_not_differ(made, tmp_path):
    student = tmp_path / "student"
    student.mkdir()
    for file in (made / "student").iterdir():
        (student / file.name).write_bytes(file.read_bytes())
    config = json.loads((student / "config.json").read_text())
    config["quantization_config"]["quantizers"]["linear_weights"] = "per_tensor"
    (student / "config.json").write_text(json.dumps(config))
    with pytest.raises(TrainingError, match=r"config\.json: quantization_config: expected those of student\.json"):
        model_directory.load(student)


class Hub:
    """Stands in for the hub: keeps what is uploaded, or cannot be reached."""

    def __init__(self, monkeypatch, reachable=True):
        self.reachable, self.uploads = reachable, {}
        monkeypatch.setenv("HF_TOKEN", "hf_nobody")
        monkeypatch.setattr(HfApi, "create_repo", self.create_repo)
        monkeypatch.setattr(HfApi, "upload_folder", self.upload_folder)

    def create_repo(self, repo_id, exist_ok):
        if not self.reachable:
            raise ConnectionError("no route to the hub")
        assert exist_ok
        return f"https://hub.example/{repo_id}"

    def upload_folder(self, repo_id, folder_path):
        self.uploads[repo_id] = {file.name for file in folder_path.iterdir()}


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_packed_student_is_pushed_whole(made, tmp_path, monkeypatch):
    hub = Hub(monkeypatch)
    done = invoke("publish", made / "student", "--out", tmp_path / "packed", "--push-to-hub", "me/tiny", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["bytes"] < json.loads(done.stdout)["student_bytes"]
    assert "pushed to https://hub.example/me/tiny" in done.stderr
    assert hub.uploads == {"me/tiny": {file.name for file in (tmp_path / "packed").iterdir()}}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= hub.uploads["me/tiny"]
    assert 'from_pretrained("me/tiny")' in card_of(tmp_path / "packed").text


def test_teach_pushes_what_it_wrote(made, tmp_path, monkeypatch):
    hub = Hub(monkeypatch)
    done = invoke(
        "teach", "--model", made / "model", "--task", made / "task.toml", "--data", made / "data",
        "--out", tmp_path / "teacher", "--set", "batch_size=4", "--set", "max_length=9",
        "--push-to-hub", "me/teacher",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "model.safetensors" in hub.uploads["me/teacher"]


def test_a_push_that_fails_leaves_the_output_and_says_what_to_do(made, tmp_path, monkeypatch):
    Hub(monkeypatch, reachable=False)
    out = tmp_path / "packed"
    done = invoke("publish", made / "student", "--out", out, "--push-to-hub", "me/tiny")
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        f"ti-qat: {out} is complete, but was not pushed to me/tiny: no route to the hub;"
        f" push it with `hf upload me/tiny {out}`"
    ]
    AutoModelForSequenceClassification.from_pretrained(out)


@pytest.mark.parametrize(("repo_id", "token", "said"), [
    ("me/my/tiny", "hf_nobody", "expected NAME or OWNER/NAME, found 'me/my/tiny'"),
    ("me/tiny", None, "log in with `hf auth login`"),
])  # fmt: skip
def test_where_nothing_could_be_pushed_nothing_is_trained(made, tmp_path, monkeypatch, repo_id, token, said):
    monkeypatch.setattr("ti_qat.sharing.model_hub.get_token", lambda: token)
    done = invoke(
        "train", "--teacher", made / "teacher", "--task", made / "task.toml", "--data", made / "data",
        "--out", tmp_path / "student", "--push-to-hub", repo_id,
    )  # fmt: skip
    assert done.exit_code == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def unreachable(*arguments, **settings):
    raise socket.gaierror("Name or service not known")


def test_a_hub_that_cannot_be_asked_is_an_error_within_seconds(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    start = time.monotonic()
    with pytest.raises(UnsupportedModelError, match="nobody/nothing: no directory, and the hub cannot be asked"):
        load_pretrained("nobody/nothing", TASK)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("name", ["nobody/nothing", "no/such/folder"])
def test_a_mistyped_model_is_neither_a_directory_nor_the_hubs(name, monkeypatch):
    def not_found(*arguments, **settings):
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)  # its constructor wants a response

    monkeypatch.setattr(HfApi, "model_info", not_found)
    with pytest.raises(UnsupportedModelError, match=f"{name}: expected a directory or a model of the hub"):
        load_pretrained(name, TASK)
