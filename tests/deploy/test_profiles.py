"""Bundles at 1.6 bits and of the profile `standard`, and what the verbs say of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from deploy.bundle import MODEL_FILE, BundleError, read_bundle
from deploy.export import PackingChoiceError, pack
from deploy.inspection import describe
from deploy.operators import PACKING
from deploy.runtime import Classifier, RuntimeConfigurationError
from deploy.runtime import session as session_module
from deploy.runtime.session import supported_isas
from deploy.standard import BLOCK_CODES, INPUTS_PER_BLOCK, LARGEST_CODE, blocks_of, pack_blocks
from deploy.taps import TappedModel
from deploy.verification import verify
from tests.builders import tiny_artifact, tiny_quantization
from tests.deploy.operands import same_bits
from ti_qat.artifact.encoder import execute
from ti_qat.artifact.io import Artifact
from ti_qat.artifact.reference import KERNELS
from ti_qat.artifact.schema import ActivationScaling, Granularity
from ti_qat.cli import main

QUANTIZATIONS = {
    "static": tiny_quantization(),
    "dynamic": tiny_quantization(
        activations=ActivationScaling.DYNAMIC_PER_TOKEN,
        linear_weights=Granularity.PER_TENSOR,
        word_embedding=Granularity.PER_TENSOR,
    ),
}
# More inputs than a block of MatMulNBits holds, and channels that fill no panel.
WIDER = {"hidden": 72, "feed_forward": 130}


@pytest.fixture(scope="module", params=QUANTIZATIONS.values(), ids=QUANTIZATIONS.keys())
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Path]:
    """An artifact and a directory with its bundles `two`, `less` (1.6 bits) and `standard`."""
    directory = tmp_path_factory.mktemp("packed")
    artifact = tiny_artifact(directory / "artifact", quantization=request.param, **WIDER)
    pack(artifact, directory / "two")
    pack(artifact, directory / "less", weight_bits=1.6)
    pack(artifact, directory / "standard", profile="standard")
    return artifact, directory


def _largest_difference(artifact: Artifact, bundle: Path, **options: int) -> float:
    """How far a bundle's logits are from the oracle's, on the evaluation split."""
    classifier = Classifier.load(bundle, **options)
    return max(
        float(np.abs(classifier.logits(inputs) - execute(artifact.encoder, KERNELS, artifact.parameters, inputs)).max())
        for _, inputs in artifact.evaluation.batches(3)
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("isa", supported_isas())
def test_logits_at_1_6_bits_are_the_oracles(packed: tuple[Artifact, Path], isa: str, threads: int) -> None:
    artifact, directory = packed
    classifier = Classifier.load(directory / "less", threads=threads, isa=isa)
    for _, inputs in artifact.evaluation.batches(3):
        expected = execute(artifact.encoder, KERNELS, artifact.parameters, inputs)
        assert same_bits(classifier.logits(inputs), expected)


def test_logits_at_1_6_bits_need_no_library(packed: tuple[Artifact, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "library_path", lambda: None)
    with pytest.warns(UserWarning, match="compiled operators are not installed"):
        assert _largest_difference(packed[0], packed[1] / "less") == 0


def test_weights_at_1_6_bits_take_1_6_bits(tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "artifact", hidden=320, heads=4, feed_forward=640)
    bundle = pack(artifact, tmp_path / "bundle", weight_bits=1.6)
    assert bundle.manifest.ternary_linears.bits_per_weight == pytest.approx(1.6, abs=1e-3)
    assert bundle.manifest.word_embedding.bits_per_weight == 1.6
    nodes = onnx.load(str(tmp_path / "bundle" / MODEL_FILE)).graph.node
    told = {node.op_type: [a.i for a in node.attribute if a.name == PACKING] for node in nodes}
    assert all(values == ([5] if kind.startswith("Ternary") else []) for kind, values in told.items())


def test_a_standard_bundle_holds_no_operator_of_ours(packed: tuple[Artifact, Path]) -> None:
    model = onnx.load(str(packed[1] / "standard" / MODEL_FILE))
    assert {entry.domain for entry in model.opset_import} == {"", "com.microsoft"}
    assert {node.domain for node in model.graph.node} <= {"", "com.microsoft"}
    assert not model.functions
    linears = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    assert len(linears) == 13  # six in each of two layers, and the pooler
    assert all({a.name: a.i for a in node.attribute}["bits"] == 2 for node in linears)


def test_a_standard_bundle_loads_without_the_library_and_without_a_warning(
    packed: tuple[Artifact, Path], monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(session_module, "library_path", lambda: None)
    assert _largest_difference(packed[0], packed[1] / "standard") < 1e-4
    assert not recwarn.list


def test_a_standard_bundle_on_an_early_runtime_is_refused_in_plain_words(
    packed: tuple[Artifact, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "__version__", "1.22.1")
    with pytest.raises(RuntimeConfigurationError, match=r"needs ONNX Runtime 1\.24 or newer, found 1\.22\.1"):
        Classifier.load(packed[1] / "standard")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_standard_bundle_has_the_oracles_logits_but_for_last_bits(
    packed: tuple[Artifact, Path], threads: int
) -> None:
    assert _largest_difference(packed[0], packed[1] / "standard", threads=threads) < 1e-4


def test_the_first_codes_of_a_standard_bundle_are_the_oracles(packed: tuple[Artifact, Path]) -> None:
    """Embedding, quantisers and linears have our bits; only what follows LayerNorm's last bits may differ."""
    artifact, directory = packed
    tapped = {name: TappedModel(read_bundle(directory / name), artifact.encoder) for name in ("two", "standard")}
    _, inputs = next(iter(artifact.evaluation.batches(7)))
    (_, ours), (_, stock) = (tapped[name].run(inputs) for name in ("two", "standard"))
    valid = np.arange(inputs["input_ids"].shape[1]) < inputs["lengths"][:, None]
    name = "layers.0.attention.input.codes"
    assert np.mean(ours[name][valid] != stock[name][valid]) < 1e-3


@pytest.mark.parametrize("inputs", [1, 5, 62, 63, 64, 126, 127, 768, 3072])
def test_sums_of_matmul_nbits_are_exact_whatever_the_codes(inputs: int) -> None:
    """Also where the codes of a block are small: its largest input is always 127."""
    rng = np.random.default_rng(inputs)
    weights = rng.integers(-1, 2, (37, inputs)).astype(np.int8)
    session = _linear_session(weights)
    for largest in (0, 1, 3, 20, 127):
        for rows in (1, 3, 17):
            codes = rng.integers(-largest, largest + 1, (rows, inputs))
            padded = np.zeros((rows, blocks_of(inputs) * INPUTS_PER_BLOCK), np.float32)
            padded[:, :inputs] = codes
            x = np.full((rows, blocks_of(inputs), BLOCK_CODES), LARGEST_CODE, np.float32)
            x[..., :-1] = padded.reshape(rows, -1, INPUTS_PER_BLOCK)
            found = session.run(None, {"x": x.reshape(rows, -1)})[0]
            np.testing.assert_array_equal(found, codes @ weights.T.astype(np.int64))


def _linear_session(weights: np.ndarray) -> ort.InferenceSession:
    """MatMulNBits as a standard bundle has it."""
    channels, blocks = len(weights), blocks_of(weights.shape[1])
    constants = {
        "b": pack_blocks(weights),
        "scales": np.ones((channels, blocks), np.float32),
        "points": np.full((channels, -(-blocks // 4)), 0b01_01_01_01, np.uint8),
    }
    sizes = {"K": blocks * BLOCK_CODES, "N": channels, "bits": 2, "block_size": BLOCK_CODES, "accuracy_level": 4}
    node = helper.make_node("MatMulNBits", ["x", *constants], ["y"], domain="com.microsoft", **sizes)
    graph = helper.make_graph(
        [node],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["M", blocks * BLOCK_CODES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M", channels])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_inspect_tells_profile_and_bits(packed: tuple[Artifact, Path]) -> None:
    told = {name: describe(packed[1] / name) for name in ("two", "less", "standard")}
    assert [(d["profile"], d["weight_bits"]) for d in told.values()] == [("ops", 2.0), ("ops", 1.6), ("standard", 2.0)]
    assert told["standard"]["operators"] == 0
    shown = CliRunner().invoke(main, ["inspect", str(packed[1] / "less")]).stdout
    assert "profile: ops\nweight_bits: 1.6\n" in shown


def test_verify_holds_bundles_at_1_6_bits_to_every_bit(packed: tuple[Artifact, Path]) -> None:
    found = verify(packed[0], packed[1] / "less", threads=(1,))
    assert found.exact
    assert (found.profile, found.weight_bits, found.oracle_max_abs_difference) == ("ops", 1.6, 0.0)


def test_verify_says_how_far_a_standard_bundle_is_from_the_oracle(packed: tuple[Artifact, Path]) -> None:
    artifact, directory = packed
    found = verify(artifact, directory / "standard", threads=(1, 2))
    assert found.isas == ()
    assert found.as_promised
    assert found.oracle_max_abs_difference is not None
    assert found.oracle_max_abs_difference < 1e-4
    done = CliRunner().invoke(main, ["verify", str(artifact.path), str(directory / "standard")])
    assert done.exit_code == 0, done.stderr
    assert "logits over standard operators" in done.stdout


def test_verify_alarms_where_a_bundle_of_our_operators_differs(packed: tuple[Artifact, Path], tmp_path: Path) -> None:
    """The same bytes that pass as `standard` do not as `ops`."""
    artifact, directory = packed
    bundle = Path(shutil.copytree(directory / "standard", tmp_path / "bundle"))
    manifest = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(manifest | {"profile": "ops", "operators": 2}))
    found = verify(artifact, bundle, threads=(1,), isas=("scalar",))
    assert not found.oracle_bit_identical
    assert not found.as_promised


def test_predict_and_bench_run_a_standard_bundle(packed: tuple[Artifact, Path]) -> None:
    bundle = str(packed[1] / "standard")
    done = CliRunner().invoke(main, ["predict", bundle, "a good film", "dull"])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("\n") == 2
    timed = CliRunner().invoke(main, ["bench", bundle, "--calls", "2", "--threads", "1", "--json"])
    assert json.loads(timed.stdout)["isa"] == "standard operators"


def test_an_instruction_set_for_a_standard_bundle_is_refused(packed: tuple[Artifact, Path]) -> None:
    with pytest.raises(RuntimeConfigurationError, match="isa: scalar was asked for, but a standard bundle has no"):
        Classifier.load(packed[1] / "standard", isa="scalar")


@pytest.mark.parametrize(
    ("profile", "weight_bits", "message"),
    [
        ("standard", 1.6, "weight_bits: expected 2 with the profile standard, found 1.6"),
        ("ops", 3.0, "weight_bits: expected 2 or 1.6, found 3.0"),
        ("int8", 2.0, "profile: expected ops or standard, found int8"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(
    packed: tuple[Artifact, Path], tmp_path: Path, profile: str, weight_bits: float, message: str
) -> None:
    with pytest.raises(PackingChoiceError, match=message):
        pack(packed[0], tmp_path / "bundle", profile=profile, weight_bits=weight_bits)
    assert not (tmp_path / "bundle").exists()


def test_pack_tells_wrong_choices_in_a_line(packed: tuple[Artifact, Path], tmp_path: Path) -> None:
    arguments = ["pack", str(packed[0].path), "--out", str(tmp_path / "bundle"), "--weight-bits", "1.6"]
    done = CliRunner().invoke(main, [*arguments, "--profile", "standard"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "ti-qat: weight_bits: expected 2 with the profile standard, found 1.6\n"
    done = CliRunner().invoke(main, [*arguments, "--json"])
    assert json.loads(done.stdout)["weight_bits"] == 1.6


def test_a_bundle_from_before_profiles_is_one_of_our_operators_at_two_bits(
    packed: tuple[Artifact, Path], tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(packed[1] / "two", tmp_path / "bundle"))
    manifest = json.loads((bundle / "bundle.json").read_text())
    earlier = {key: value for key, value in manifest.items() if key not in ("profile", "weight_bits")}
    (bundle / "bundle.json").write_text(json.dumps(earlier))
    assert read_bundle(bundle).manifest == read_bundle(packed[1] / "two").manifest
    assert _largest_difference(packed[0], bundle) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profile": "int8"}, "profile: expected one of ops, standard, found 'int8'"),
        ({"profile": 1}, "profile: expected one of ops, standard, found 1"),
        ({"weight_bits": 3.0}, "weight_bits: expected one of 2.0, 1.6, found 3.0"),
        ({"weight_bits": 2}, "weight_bits: expected one of 2.0, 1.6, found 2"),
    ],
)
def test_a_wrong_profile_or_packing_is_named(
    packed: tuple[Artifact, Path], tmp_path: Path, change: dict[str, object], message: str
) -> None:
    bundle = Path(shutil.copytree(packed[1] / "two", tmp_path / "bundle"))
    manifest = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(manifest | change))
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)
