"""A bundle is untrusted: links, foreign weights, hostile models and swapped files are refused before they do harm."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import StringStringEntryProto, TensorProto, helper

from deploy import bundle as bundle_module
from deploy.bundle import MODEL_FILE, WEIGHTS_FILE, read_bundle
from deploy.bundle_files import BundleError, digest_and_stamp
from deploy.export import pack
from deploy.model_check import FIELDS, Message, ModelRefusedError, Weights, check_model
from deploy.operators import DOMAIN, OPSET
from deploy.runtime import Classifier
from deploy.runtime import session as session_module
from tests.builders import tiny_artifact


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack(tiny_artifact(folder / "artifact"), folder / "bundle")
    return folder / "bundle"


@pytest.fixture
def bundle(packed: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copytree(packed, tmp_path / "bundle"))


def _seal(bundle: Path) -> None:
    """Put the digests of the files as they are into the manifest."""
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["files"] = {name: digest_and_stamp(bundle / name)[0] for name in manifest["files"]}
    (bundle / "bundle.json").write_text(json.dumps(manifest))


def _edit_model(bundle: Path, change: Callable[[onnx.ModelProto], Any]) -> None:
    model = onnx.load(str(bundle / MODEL_FILE), load_external_data=False)
    change(model)
    (bundle / MODEL_FILE).write_bytes(model.SerializeToString())
    _seal(bundle)


def _external(model: onnx.ModelProto, key: str, value: str) -> None:
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == key:
                entry.value = value


@pytest.mark.parametrize("name", ["bundle.json", "model.onnx", "model.bin", "tokenizer.json"])
def test_links_of_either_kind_pipes_and_folders_are_refused(packed: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    for found, place in (
        ("a symbolic link", lambda file: (file.rename(outside), file.symlink_to(outside))),
        (r"a file with 2 names \(hard links\)", lambda file: os.link(file, tmp_path / "second name")),
        ("a directory", lambda file: (file.unlink(), file.mkdir())),
        ("something else", lambda file: (file.unlink(), os.mkfifo(file))),
    ):
        bundle = Path(shutil.copytree(packed, tmp_path / "bundle"))
        place(bundle / name)
        with pytest.raises(BundleError, match=f"{name}: file: expected a regular file, found {found}"):
            Classifier.load(bundle)
        shutil.rmtree(bundle)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("location", "../outside.bin", r"expected the file model\.bin, found '\.\./outside\.bin'"),
        ("location", "/etc/passwd", r"expected the file model\.bin, found '/etc/passwd'"),
        ("location", "other.bin", r"expected the file model\.bin, found 'other\.bin'"),
        ("location", "./model.bin", r"expected the file model\.bin, found '\./model\.bin'"),
        ("location", "", r"expected the file model\.bin, found ''"),
        # ONNX Runtime 1.19 to 1.22 would read at the address `offset`.
        ("location", "*/_ORT_MEM_ADDR_/*", r"expected the file model\.bin, found '\*/_ORT_MEM_ADDR_/\*'"),
        ("offset", "-64", "expected a number of bytes, found '-64'"),
        ("offset", "0x40", "expected a number of bytes, found '0x40'"),
        ("offset", str(2**63 - 1), "expected at most .* from 9223372036854775807 on"),
        ("length", str(2**64 + 8), "expected a number of bytes, found '18446744073709551624'"),
        ("length", "99999999", "expected at most .* bytes, found 99999999 from"),
    ],
)
def test_weights_that_are_not_the_bundles_are_refused_before_onnx_runtime_opens_them(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: str, message: str
) -> None:
    monkeypatch.setattr(session_module.ort, "InferenceSession", lambda *_, **__: pytest.fail("opened"))
    _edit_model(bundle, lambda model: _external(model, key, value))
    with pytest.raises(BundleError, match=rf"model\.onnx: model: expected one that is safe to open, .*{message}"):
        Classifier.load(bundle)


def _tensor_elsewhere() -> TensorProto:
    tensor = TensorProto(name="t", dims=[2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.append(StringStringEntryProto(key="location", value="/etc/passwd"))
    return tensor


def _graph(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "inner", [], [])


def _function(name: str, *called: str) -> onnx.FunctionProto:
    nodes = [helper.make_node(inner, ["x"], [f"y{i}"], domain=DOMAIN) for i, inner in enumerate(called)]
    return helper.make_function(DOMAIN, name, ["x"], ["y0"], nodes, [helper.make_opsetid("", OPSET)])


HOSTILE_MODELS: dict[str, tuple[Callable[[onnx.ModelProto], Any], str]] = {
    "a tensor of a node": (
        lambda m: m.graph.node.append(helper.make_node("Constant", [], ["c"], value=_tensor_elsewhere())),
        "expected the file model.bin, found '/etc/passwd'",
    ),
    "a tensor of a function": (
        lambda m: m.functions[0].node.append(helper.make_node("Constant", [], ["c"], value=_tensor_elsewhere())),
        "expected the file model.bin, found '/etc/passwd'",
    ),
    "a default of a function": (
        lambda m: m.functions[0].attribute_proto.append(helper.make_attribute("a", _tensor_elsewhere())),
        "expected the file model.bin, found '/etc/passwd'",
    ),
    "tensors of a node": (
        lambda m: m.graph.node.append(helper.make_node("X", [], ["c"], values=[_tensor_elsewhere()])),
        "AttributeProto: expected no field 10, found one",
    ),
    "a sparse tensor": (
        lambda m: m.graph.sparse_initializer.add().values.CopyFrom(_tensor_elsewhere()),
        "GraphProto: expected no field 15, found one",
    ),
    "an input left out": (
        lambda m: m.graph.node.append(helper.make_node("Min", ["lengths", ""], ["c"])),
        "nodes: expected inputs with names, found one without",
    ),
    "a loop": (
        lambda m: m.graph.node.append(helper.make_node("Loop", ["m", "c"], ["c"], body=_graph())),
        "AttributeProto: expected no field 6, found one",
    ),
    "training": (
        lambda m: m.training_info.add().initialization.CopyFrom(_graph()),
        "ModelProto: expected no field 20, found one",
    ),
    "prepacked weights": (
        lambda m: m.graph.initializer[0].external_data.append(StringStringEntryProto(key="prepacked_0", value="x")),
        "external data: expected location, offset, length once, found 'prepacked_0'",
    ),
    "two locations": (
        lambda m: next(t for t in m.graph.initializer if t.external_data).external_data.append(
            StringStringEntryProto(key="location", value="model.bin")
        ),
        "external data: expected location, offset, length once, found 'location'",
    ),
    "a foreign domain": (
        lambda m: m.graph.node.append(helper.make_node("Tokenizer", [], ["c"], domain="com.microsoft")),
        "nodes: expected the operators of a bundle, found 'com.microsoft:Tokenizer'",
    ),
    "a function that calls itself": (
        lambda m: m.functions.append(_function("Again", "Again")),
        "functions: expected none that calls itself, found ti_qat:Again",
    ),
    "two functions that call each other": (
        lambda m: m.functions.extend([_function("One", "Other"), _function("Other", "One")]),
        "functions: expected none that calls itself",
    ),
    "functions that unfold without end in sight": (
        lambda m: m.functions.extend(_function(f"F{i}", *[f"F{i + 1}"] * 9) for i in range(15)),
        "functions: expected at most 1000000 nodes when unfolded",
    ),
    "a function twice": (
        lambda m: m.functions.extend([_function("Twice", "X"), _function("Twice", "X")]),
        "functions: expected each once, found ti_qat:Twice twice",
    ),
}


@pytest.mark.parametrize("what", HOSTILE_MODELS)
def test_a_model_that_could_do_harm_is_refused(packed: Path, what: str) -> None:
    model = onnx.load(str(packed / MODEL_FILE), load_external_data=False)
    weights = Weights(WEIGHTS_FILE, (packed / WEIGHTS_FILE).stat().st_size)
    check_model(model.SerializeToString(), weights)
    change, message = HOSTILE_MODELS[what]
    change(model)
    with pytest.raises(ModelRefusedError) as refused:
        check_model(model.SerializeToString(), weights)
    assert message in str(refused.value)


def test_every_field_that_may_hold_a_tensor_or_a_graph_is_walked_or_refused() -> None:
    """Against ONNX's own description of its messages."""
    walked = {message.value: message for message in Message}
    for name, message in walked.items():
        for field in getattr(onnx, name).DESCRIPTOR.fields:
            inner = field.message_type.name if field.message_type is not None else ""
            if inner in walked and field.number in FIELDS[message] and field.name not in ("metadata_props",):
                assert FIELDS[message][field.number] is walked[inner], f"{name}.{field.name}"
            if inner in ("SparseTensorProto", "TrainingInfoProto") or field.name in ("g", "graphs"):
                assert field.number not in FIELDS[message], f"{name}.{field.name}"


@pytest.mark.parametrize(
    "content", [b"\x3a", b"\x3a\x05ab", b"\x3b", b"\x00\x01", b"\x38\xff" + b"\xff" * 12, b"\x38\x01"]
)
def test_bytes_that_are_no_model_are_refused(content: bytes) -> None:
    with pytest.raises(ModelRefusedError, match="expected an ONNX model, found"):
        check_model(content, Weights(WEIGHTS_FILE, 0))


def test_codes_that_are_none_are_refused(bundle: Path) -> None:
    model = onnx.load(str(bundle / MODEL_FILE), load_external_data=False)
    packed_codes = next(t for t in model.graph.initializer if t.name.endswith("query.weight_codes"))
    offset = next(int(entry.value) for entry in packed_codes.external_data if entry.key == "offset")
    with (bundle / WEIGHTS_FILE).open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xff")
    _seal(bundle)
    with pytest.raises(BundleError, match="byte 0 holds the field 0b11, which is no ternary code"):
        Classifier.load(bundle)


@pytest.mark.parametrize("name", [MODEL_FILE, WEIGHTS_FILE])
def test_a_file_that_is_swapped_while_the_bundle_opens_is_noticed(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Even by one of the same content, and even if it is put back."""
    real = session_module.ort.InferenceSession

    def swap_and_open(*arguments: Any, **named: Any) -> Any:
        (bundle / name).rename(bundle / "aside")
        shutil.copy(bundle / "aside", bundle / name)
        session = real(*arguments, **named)
        (bundle / "aside").replace(bundle / name)
        return session

    monkeypatch.setattr(session_module.ort, "InferenceSession", swap_and_open)
    with pytest.raises(BundleError, match=f"{name}: file: expected the one whose checksum was taken, found another"):
        Classifier.load(bundle)


def test_what_onnx_runtime_gets_is_what_was_checked(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that changes after the checksums were taken is not opened."""
    opened = read_bundle(bundle)
    _edit_model(bundle, lambda model: _external(model, "location", "/etc/passwd"))
    with pytest.raises(BundleError, match=r"model\.onnx: SHA-256"):
        session_module.open_session(opened)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("labels", ["good", "bad\x1b[2J"], "labels: expected strings without control characters"),
        ("task", "two\nlines", "task: expected a string without control characters"),
        ("labels", ["good", "\ud800"], "labels: expected strings without control characters"),
        ("pad_token_id", 1 << 31, "pad_token_id: expected an integer <= 2147483647"),
        ("max_length", 1 << 40, "max_length: expected an integer <= 1048576"),
    ],
)
def test_texts_that_steer_terminals_and_numbers_without_measure_are_refused(
    bundle: Path, field: str, value: object, message: str
) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text()) | {field: value}
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)


def test_a_manifest_of_many_keys_or_digits_is_refused_at_once(bundle: Path) -> None:
    for content in ('{"a": ' + "9" * 5000 + "}", json.dumps({f"k{i}": i for i in range(60_000)})):
        (bundle / "bundle.json").write_text(content)
        with pytest.raises(BundleError):
            read_bundle(bundle)


def test_files_that_are_read_whole_have_a_limit(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bundle_module.MAX_READ_BYTES, MODEL_FILE, 1000)
    with pytest.raises(BundleError, match=r"model\.onnx: size: expected at most 1000 bytes, found"):
        Classifier.load(bundle)


def test_a_runtime_that_knows_no_folder_of_weights_opens_the_file(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ONNX Runtime 1.19 does; `make test-onnxruntime` runs the real one."""
    expected = Classifier.load(bundle)(["a good film"])
    monkeypatch.setattr(session_module, "_version", lambda: (1, 19))
    assert Classifier.load(bundle)(["a good film"]) == expected
