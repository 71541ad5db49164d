"""An artifact reads back as it was written, or names what is wrong with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.builders import tiny_artifact
from ti_qat.artifact import io
from ti_qat.artifact.atomic import sha256_of
from ti_qat.artifact.errors import ArtifactError


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> io.Artifact:
    return tiny_artifact(tmp_path_factory.mktemp("artifact") / "tiny")


@pytest.fixture
def broken(written: io.Artifact, tmp_path: Path) -> Path:
    shutil.copytree(written.path, tmp_path / "broken")
    return tmp_path / "broken"


def edit_header(path: Path, edit) -> None:
    header = json.loads((path / io.HEADER_FILE).read_text())
    edit(header)
    (path / io.HEADER_FILE).write_text(json.dumps(header))


def edit_tensors(path: Path, edit, file: str = io.TENSORS_FILE, digest: str = "tensors") -> None:
    """Change tensors and mend the checksum, so that only the change itself can be what is refused."""
    tensors = load_file(path / file)
    edit(tensors)
    save_file(tensors, path / file)
    edit_header(path, lambda header: header["digests"].update({digest: sha256_of(path / file)}))


def edit_evaluation(path: Path, edit) -> None:
    edit_tensors(path, edit, io.EVALUATION_FILE, "evaluation")


def test_round_trip_keeps_every_value_and_protects_it(written: io.Artifact) -> None:
    again = io.load(written.path)
    assert again.header == written.header
    assert again.digest == written.digest
    for name, tensor in written.parameters.items():
        assert np.array_equal(tensor, again.parameters[name])
        with pytest.raises(ValueError, match="read-only"):
            again.parameters[name][...] = 0


def test_the_numbers_of_a_regression_read_back_as_float32_of_any_size(tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "regression", labels=1)
    assert artifact.evaluation.labels.dtype == np.float32
    edit_evaluation(artifact.path, lambda t: t["labels"].__setitem__(0, -7.5))
    again = io.load(artifact.path)
    assert (again.header.task.labels, again.evaluation.labels[0]) == (("score",), -7.5)
    assert again.evaluation.logits.shape == (7, 1)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.update(labels=t["labels"].astype(np.int32)), r"labels: expected float32 \['R'\], found int32"),
        (lambda t: t["labels"].__setitem__(0, np.inf), "labels: expected finite numbers"),
    ],
)
def test_labels_that_are_no_numbers_are_refused_in_a_regression(tmp_path: Path, edit, message: str) -> None:
    artifact = tiny_artifact(tmp_path / "regression", labels=1)
    edit_evaluation(artifact.path, edit)
    with pytest.raises(ArtifactError, match=message):
        io.load(artifact.path)


def test_same_values_give_the_same_bytes(written: io.Artifact, tmp_path: Path) -> None:
    assert tiny_artifact(tmp_path / "again").digest == written.digest


def test_writing_replaces_the_earlier_artifact_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    first = tiny_artifact(tmp_path / "artifact", seed=0)
    second = tiny_artifact(tmp_path / "artifact", seed=1)
    assert first.digest != second.digest == io.load(tmp_path / "artifact").digest
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


def test_a_refused_write_leaves_the_earlier_artifact(tmp_path: Path) -> None:
    first = tiny_artifact(tmp_path / "artifact")
    parameters = dict(first.parameters) | {"classifier.bias": np.float32([np.nan, 0])}
    header = first.header
    with pytest.raises(ArtifactError, match=r"classifier\.bias: expected finite numbers"):
        io.save(
            tmp_path / "artifact", task=header.task, encoder=header.encoder, quantization=header.quantization,
            tokenization=header.tokenization, provenance=header.provenance, parameters=parameters,
            tokenizer_json=first.tokenizer_json, evaluation=first.evaluation,
        )  # fmt: skip
    assert io.load(tmp_path / "artifact").digest == first.digest


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere: artifact: expected a directory, found nothing"):
        io.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [io.HEADER_FILE, io.TENSORS_FILE, io.TOKENIZER_FILE, io.EVALUATION_FILE])
def test_missing_and_linked_files_are_refused(broken: Path, name: str, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    (broken / name).rename(moved)
    with pytest.raises(ArtifactError, match="expected a regular file, found nothing"):
        io.load(broken)
    (broken / name).symlink_to(moved)
    with pytest.raises(ArtifactError, match="expected a regular file, found a symbolic link"):
        io.load(broken)


@pytest.mark.parametrize("name", [io.TENSORS_FILE, io.TOKENIZER_FILE, io.EVALUATION_FILE])
def test_one_flipped_bit_breaks_the_checksum(broken: Path, name: str) -> None:
    content = bytearray((broken / name).read_bytes())
    content[len(content) // 2] ^= 1
    (broken / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name}: SHA-256: expected"):
        io.load(broken)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda h: h.update(version=2), "version: expected 1, found 2"),
        (lambda h: h.update(extra=1), "extra: expected Extra inputs are not permitted, found 1"),
        (lambda h: h["encoder"].update(layers=0), r"encoder\.layers: expected .*greater than or equal to 1, found 0"),
        (lambda h: h["encoder"].update(heads=5), "is not a multiple of heads"),
        (lambda h: h["encoder"].update(family="mpnet"), r"encoder\.family: expected"),
        (lambda h: h["tokenization"].update(max_length=1000), "the encoder has 19 positions"),
        (lambda h: h["task"].update(labels=["one", "two", "three"]), "task.labels names 3"),
        (
            lambda h: h["task"].update(labels=["one"]),
            "metric accuracy expects the names of two or more classes, labels",
        ),
        (
            lambda h: h["task"].update(metric="spearman_correlation"),
            "expects one label, the number's name, labels has 2",
        ),
        (lambda h: h["encoder"].update(hidden=27), r"expected float32 \[27\]|expected int8"),
    ],
)
def test_a_header_out_of_contract_is_refused_by_field(broken: Path, edit, message: str) -> None:
    edit_header(broken, edit)
    with pytest.raises(ArtifactError, match=message):
        io.load(broken)


def test_a_header_that_is_no_json_or_names_a_key_twice_is_refused(broken: Path) -> None:
    (broken / io.HEADER_FILE).write_text('{"version": 1, "version": 1}')
    with pytest.raises(ArtifactError, match="version: expected each key once"):
        io.load(broken)
    (broken / io.HEADER_FILE).write_bytes(b"\xff{")
    with pytest.raises(ArtifactError, match="content: expected JSON"):
        io.load(broken)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("pooler.bias"), "pooler.bias: expected the tensor, found nothing"),
        (lambda t: t.update(more=np.zeros(1, np.float32)), "more: expected no such tensor, found one"),
        (lambda t: t.update({"pooler.bias": np.zeros(24, np.float64)}), r"expected float32 \[24\], found F64 \[24\]"),
        (lambda t: t.update({"pooler.bias": np.zeros(25, np.float32)}), r"\[24\], found float32 \[25\]"),
        (lambda t: t["pooler.weight_codes"].__setitem__((0, 0), 2), r"expected codes in \{-1, 0, 1\}, found 2"),
        (lambda t: t["pooler.weight_scale"].__setitem__(0, -1), "expected scales >= 0"),
        (lambda t: t["pooler.input.scale"].__setitem__(0, 0), "expected a normal number"),
        (lambda t: t["pooler.input.scale"].__setitem__(0, 1e-45), "expected a normal number"),
        (lambda t: t["embedding.position"].__setitem__((0, 0), np.inf), "expected finite numbers"),
    ],
)  # fmt: skip
def test_tensors_out_of_contract_are_refused_by_name(broken: Path, edit, message: str) -> None:
    edit_tensors(broken, edit)
    with pytest.raises(ArtifactError, match=message):
        io.load(broken)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t["input_ids"].__setitem__((0, 0), 61), "input_ids: expected values from 0 to 60"),
        (lambda t: t["token_type_ids"].__setitem__((0, 0), -1), "token_type_ids: expected values from 0 to 1"),
        (lambda t: t["lengths"].__setitem__(0, 14), "lengths: expected values from 1 to 13"),
        (lambda t: t["labels"].__setitem__(0, 2), "labels: expected values from 0 to 1"),
        (lambda t: t.update(labels=t["labels"][:-1]), "labels: expected R = 7, found 6"),
        (lambda t: t["logits"].__setitem__((0, 0), np.nan), "logits: expected finite numbers"),
    ],
)
def test_an_evaluation_split_out_of_contract_is_refused(broken: Path, edit, message: str) -> None:
    edit_tensors(broken, edit, io.EVALUATION_FILE, "evaluation")
    with pytest.raises(ArtifactError, match=message):
        io.load(broken)


def test_teacher_logits_travel_where_the_producer_knows_them(written: io.Artifact, tmp_path: Path) -> None:
    logits = np.random.default_rng(3).normal(size=(7, 2)).astype(np.float32)
    with_teacher = tiny_artifact(tmp_path / "artifact", teacher_logits=logits)
    again = io.load(with_teacher.path).evaluation
    assert again.teacher_logits is not None
    assert np.array_equal(again.teacher_logits, logits)
    assert again.teacher_score(with_teacher.header.task.metric, 7) == np.mean(logits.argmax(-1) == again.labels)
    assert written.evaluation.teacher_logits is None
    assert written.evaluation.teacher_score(written.header.task.metric, 7) is None


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros((7, 3), np.float32), r"teacher_logits: expected float32 \['R', 2\], found float32 \[7, 3\]"),
        (np.zeros((7, 2), np.float64), "teacher_logits: expected float32"),
        (np.zeros((6, 2), np.float32), "teacher_logits: expected R = 7, found 6"),
        (np.full((7, 2), np.nan, np.float32), "teacher_logits: expected finite numbers"),
    ],
)
def test_teacher_logits_out_of_contract_are_refused(broken: Path, logits: np.ndarray, message: str) -> None:
    edit_evaluation(broken, lambda tensors: tensors.update(teacher_logits=logits))
    with pytest.raises(ArtifactError, match=message):
        io.load(broken)


def test_a_truncated_tensor_file_with_a_matching_checksum_is_refused(broken: Path) -> None:
    file = broken / io.TENSORS_FILE
    file.write_bytes(file.read_bytes()[:-8])
    edit_header(broken, lambda header: header["digests"].update(tensors=sha256_of(file)))
    with pytest.raises(ArtifactError, match="expected a safetensors file"):
        io.load(broken)
