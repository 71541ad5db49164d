from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from deploy.bundle import MODEL_FILE, PAYLOAD_FILES, read_bundle
from deploy.bundle_files import BundleError, digest_and_stamp
from deploy.export import pack
from deploy.lowering import LOWERINGS
from deploy.operators import DOMAIN, DOMAIN_VERSION, IR_VERSION, OPSET, SCHEMAS
from deploy.runtime import Classifier
from tests.builders import tiny_artifact
from ti_qat.artifact.encoder import OpKind


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("packed")
    pack(tiny_artifact(directory / "artifact"), directory / "bundle")
    return directory / "bundle"


@pytest.fixture
def bundle(packed: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(packed, tmp_path / "bundle"))


def test_every_operation_kind_has_a_node() -> None:
    assert set(LOWERINGS) == set(OpKind)


def test_the_model_pins_its_versions_and_carries_every_function(packed: Path) -> None:
    model = onnx.load(str(packed / MODEL_FILE))
    assert model.ir_version == IR_VERSION
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", OPSET), (DOMAIN, DOMAIN_VERSION)}
    assert {function.name for function in model.functions} == set(SCHEMAS)


def test_linears_take_two_bits_a_weight(tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "artifact", hidden=96, feed_forward=192)
    figures = pack(artifact, tmp_path / "bundle").manifest.ternary_linears
    assert figures.bits_per_weight == 2.0
    scales = sum(v.size for n, v in artifact.parameters.items() if n.endswith("weight_scale"))
    assert figures.bits_per_weight_with_scales == pytest.approx(2 + 32 * scales / figures.weights)


def test_the_same_artifact_gives_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    pack(tiny_artifact(tmp_path / "artifact"), tmp_path / "bundle")
    for name in ("bundle.json", *PAYLOAD_FILES):
        assert (packed / name).read_bytes() == (tmp_path / "bundle" / name).read_bytes()


def test_a_failing_export_leaves_the_earlier_bundle(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (bundle / "bundle.json").read_bytes()
    monkeypatch.delitem(LOWERINGS, OpKind.TANH)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        pack(tiny_artifact(bundle.parent / "artifact", seed=5), bundle)
    assert (bundle / "bundle.json").read_bytes() == before
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["artifact", "bundle"]


def _edit(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    change(manifest)
    (bundle / "bundle.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["bundle.json", *PAYLOAD_FILES])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: file: expected a regular file, found nothing"):
        Classifier.load(bundle)


@pytest.mark.parametrize("name", PAYLOAD_FILES)
def test_a_changed_file_is_named(bundle: Path, name: str) -> None:
    with (bundle / name).open("r+b") as stream:
        stream.seek(100)
        byte = stream.read(1)
        stream.seek(100)
        stream.write(bytes([byte[0] ^ 1]))
    with pytest.raises(BundleError, match=f"{name}: SHA-256"):
        Classifier.load(bundle)


def test_a_symbolic_link_is_refused(bundle: Path) -> None:
    target = bundle.parent / "elsewhere.bin"
    (bundle / "model.bin").rename(target)
    (bundle / "model.bin").symlink_to(target)
    with pytest.raises(BundleError, match=r"model\.bin: file: expected a regular file, found a symbolic link"):
        Classifier.load(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format="zip"), "format: expected 'ti-qat-bundle', found 'zip'"),
        (lambda m: m.update(version=2), "version: expected 1, found 2"),
        (lambda m: m.update(version=True), "version: expected 1, found True"),
        (lambda m: m.pop("labels"), "labels: expected a list of strings, found nothing"),
        (lambda m: m.update(labels=[]), "labels: expected one or more strings"),
        (lambda m: m.update(labels=["one", 2]), "labels: expected one or more strings"),
        (lambda m: m.update(text_columns=[]), "text_columns: expected one or more strings"),
        (lambda m: m.update(text_columns="text"), "text_columns: expected a list of strings"),
        (lambda m: m.update(text_columns=["a", "b", "c"]), "text_columns: expected one or two strings"),
        (lambda m: m.update(max_length=0), "max_length: expected an integer >= 1, found 0"),
        (lambda m: m.update(max_length="9"), "max_length: expected an integer >= 1, found '9'"),
        (lambda m: m.update(pad_token_id=-1), "pad_token_id: expected an integer >= 0"),
        (lambda m: m.update(artifact="abc"), "artifact: expected a SHA-256"),
        (lambda m: m.update(extra=1), "extra: expected no such field"),
        (lambda m: m["files"].update({"../../etc/passwd": "0" * 64}), r"files\.\.\./\.\./etc/passwd: expected no such"),
        (lambda m: m["files"].update({"/etc/passwd": "0" * 64}), "files./etc/passwd: expected no such field"),
        (lambda m: m["files"].pop("model.bin"), r"files\.model\.bin: expected a string, found nothing"),
        (lambda m: m["ternary_linears"].update(weights=1.5), r"ternary_linears\.weights: expected an integer"),
        (lambda m: m.update(word_embedding=[]), "word_embedding: expected an object"),
    ],
)
def test_a_wrong_manifest_field_is_named(bundle: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    _edit(bundle, change)
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)


def test_a_bundle_from_before_text_columns_leaves_them_unknown(bundle: Path) -> None:
    _edit(bundle, lambda m: m.pop("text_columns"))
    assert read_bundle(bundle).manifest.text_columns is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected JSON"),
        (b"\xff", "expected JSON"),
        (b"[]", "expected an object"),
        (b"[" * 100_000, "expected JSON"),
        (b'{"format": "a", "format": "b"}', "format: expected each key once"),
        (b" " * (2 << 20), "size: expected at most"),
    ],
)
def test_a_broken_manifest_is_refused(bundle: Path, content: bytes, message: str) -> None:
    (bundle / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="expected a directory, found nothing"):
        read_bundle(tmp_path / "none")


@pytest.mark.parametrize("name", [MODEL_FILE, "tokenizer.json"])
def test_a_payload_with_the_right_checksum_but_no_sense_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(b"nonsense")
    _edit(bundle, lambda m: m["files"].update({name: digest_and_stamp(bundle / name)[0]}))
    with pytest.raises(BundleError, match=f"{name}: "):
        Classifier.load(bundle)


def test_weights_cut_short_are_refused(bundle: Path) -> None:
    weights = bundle / "model.bin"
    weights.write_bytes(weights.read_bytes()[:100])
    _edit(bundle, lambda m: m["files"].update({"model.bin": digest_and_stamp(weights)[0]}))
    with pytest.raises(BundleError, match=r"model\.onnx: .*external data: expected at most 100 bytes"):
        Classifier.load(bundle)


def test_a_weights_file_elsewhere_is_refused(bundle: Path) -> None:
    model = onnx.load(str(bundle / MODEL_FILE), load_external_data=False)
    (bundle.parent / "outside.bin").write_bytes((bundle / "model.bin").read_bytes())
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../outside.bin"
    (bundle / MODEL_FILE).write_bytes(model.SerializeToString())
    _edit(bundle, lambda m: m["files"].update({MODEL_FILE: digest_and_stamp(bundle / MODEL_FILE)[0]}))
    with pytest.raises(BundleError, match=r"model\.onnx: "):
        Classifier.load(bundle)
