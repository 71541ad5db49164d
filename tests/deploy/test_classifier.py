from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer

from deploy.export import pack
from deploy.runtime import BundleError, Classifier, InferenceError, RuntimeConfigurationError
from deploy.runtime import session as session_module
from deploy.runtime.classifier import TextError
from deploy.runtime.predict_cli import predict
from deploy.runtime.session import supported_isas
from tests.builders import tiny_artifact, tiny_quantization
from tests.deploy.operands import same_bits
from ti_qat.artifact.encoder import execute
from ti_qat.artifact.io import Artifact
from ti_qat.artifact.reference import KERNELS
from ti_qat.artifact.schema import ActivationScaling, Granularity, Quantization

ROOT = Path(__file__).parents[2]
PER_TENSOR_DYNAMIC = tiny_quantization(
    activations=ActivationScaling.DYNAMIC_PER_TOKEN,
    linear_weights=Granularity.PER_TENSOR,
    word_embedding=Granularity.PER_TENSOR,
)


def _packed(directory: Path, quantization: Quantization, labels: int) -> tuple[Artifact, Path]:
    artifact = tiny_artifact(directory / "artifact", quantization=quantization, labels=labels)
    pack(artifact, directory / "bundle")
    return artifact, directory / "bundle"


@pytest.fixture(scope="module", params=[tiny_quantization(), PER_TENSOR_DYNAMIC], ids=["static", "dynamic"])
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Path]:
    return _packed(tmp_path_factory.mktemp("packed"), request.param, labels=3)


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Path]:
    return _packed(tmp_path_factory.mktemp("regression"), tiny_quantization(), labels=1)


@pytest.fixture(scope="module")
def bundle(packed: tuple[Artifact, Path]) -> Path:
    return packed[1]


def _equals_oracle(artifact: Artifact, classifier: Classifier) -> bool:
    return all(
        same_bits(classifier.logits(inputs), execute(artifact.encoder, KERNELS, artifact.parameters, inputs))
        for _, inputs in artifact.evaluation.batches(3)
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("isa", supported_isas())
def test_logits_are_the_oracles(packed: tuple[Artifact, Path], isa: str, threads: int) -> None:
    artifact, bundle = packed
    assert _equals_oracle(artifact, Classifier.load(bundle, threads=threads, isa=isa))


@pytest.mark.parametrize("isa", supported_isas())
def test_the_only_logit_of_a_regression_is_the_oracles(regression: tuple[Artifact, Path], isa: str) -> None:
    artifact, bundle = regression
    assert _equals_oracle(artifact, Classifier.load(bundle, isa=isa))


def test_without_the_library_the_same_logits_come_out(
    packed: tuple[Artifact, Path], regression: tuple[Artifact, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "library_path", lambda: None)
    for artifact, bundle in (packed, regression):
        with pytest.warns(UserWarning, match="compiled operators are not installed"):
            classifier = Classifier.load(bundle)
        assert _equals_oracle(artifact, classifier)
    with pytest.raises(RuntimeConfigurationError, match="compiled operators are not installed"):
        Classifier.load(packed[1], isa="scalar")


def test_predictions_do_not_depend_on_their_company(bundle: Path) -> None:
    classifier = Classifier.load(bundle)
    texts = ["a good film", "bad", "the very dull plot", "not a fine film not a fine film", ""]
    together = classifier(texts, batch_size=2)
    assert together == [classifier([text])[0] for text in texts]
    assert together == classifier(texts)
    assert classifier([]) == []


def test_scores_are_probabilities_of_every_label(bundle: Path) -> None:
    found = Classifier.load(bundle)(["a good film"])[0]
    assert list(found.scores) == ["negative", "positive", "label2"]
    assert math.isclose(sum(found.scores.values()), 1.0)
    assert found.score == max(found.scores.values()) == found.scores[found.label]


def test_the_most_probable_labels_come_best_first(bundle: Path) -> None:
    classifier = Classifier.load(bundle)
    (every,), (two,), (many,) = (classifier(["a good film"], top_k=k) for k in (None, 2, 9))
    ranked = sorted(every.scores, key=every.scores.__getitem__, reverse=True)
    assert list(two.scores) == ranked[:2]
    assert list(many.scores) == ranked
    assert two.scores[ranked[1]] == every.scores[ranked[1]]
    assert (two.label, two.score) == (every.label, every.score) == (ranked[0], every.scores[ranked[0]])
    for wrong in ({"top_k": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="expected 1 or more, found 0"):
            classifier(["a good film"], **wrong)


def test_a_closed_classifier_gives_back_its_threads_and_refuses(bundle: Path) -> None:
    with Classifier.load(bundle, threads=3) as classifier:
        inside = _thread_count()
        assert classifier(["a good film"])
    assert _thread_count() <= inside - 2
    with pytest.raises(RuntimeConfigurationError, match="expected an open classifier, found a closed one"):
        classifier(["a good film"])


def _thread_count() -> int:
    if not Path("/proc/self/task").exists():
        pytest.skip("threads are counted in /proc")
    return len(list(Path("/proc/self/task").iterdir()))


def test_a_manifest_with_other_labels_than_the_model_is_refused(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    manifest = tmp_path / "bundle" / "bundle.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"labels": ["one", "two"]}))
    with pytest.raises(BundleError, match=r"outputs: expected float32 \(B, 2\), found .*3"):
        Classifier.load(tmp_path / "bundle")


def test_a_regression_predicts_its_logit_as_it_is(regression: tuple[Artifact, Path]) -> None:
    bundle = regression[1]
    classifier = Classifier.load(bundle)
    found = classifier(["a good film"])[0]
    tokens = Tokenizer.from_file(str(bundle / "tokenizer.json")).encode("a good film").ids
    ids = np.array([tokens], np.int32)
    inputs = {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "lengths": np.array([len(tokens)], np.int32)}
    assert found.score == classifier.logits(inputs)[0, 0]
    assert (found.label, found.scores) == ("score", {"score": found.score})
    told = CliRunner().invoke(predict, [str(bundle), "a good film"])
    assert told.stdout == f"score\t{found.score:.4f}\ta good film\n"
    as_json = CliRunner().invoke(predict, [str(bundle), "a good film", "--json"])
    assert json.loads(as_json.stdout)["predictions"][0]["score"] == found.score


def test_long_texts_are_cut_to_the_maximum(bundle: Path) -> None:
    classifier = Classifier.load(bundle)
    long, longer = (" ".join(["film"] * count) for count in (14, 300))
    assert classifier([long])[0] == classifier([longer])[0]


def test_pairs_are_two_segments(bundle: Path) -> None:
    classifier = Classifier.load(bundle)
    pair, joined = classifier([("a good film", "dull"), "a good film dull"])
    assert pair.scores != joined.scores


@pytest.fixture(scope="module")
def bundles_of(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Bundles that know their texts, by how many a row has."""
    directory = tmp_path_factory.mktemp("bundles")
    for count, columns in ((1, ("review",)), (2, ("question", "reply"))):
        pack(tiny_artifact(directory / f"artifact{count}", text_columns=columns), directory / f"bundle{count}")
    return {count: directory / f"bundle{count}" for count in (1, 2)}


def test_a_model_of_pairs_refuses_one_text_and_the_reverse(bundles_of: dict[int, Path]) -> None:
    single, pairs = (Classifier.load(bundles_of[count]) for count in (1, 2))
    assert len(single(["dull", "bad"])) == len(pairs([("a good film", "dull"), ("bad", "")])) == 2
    with pytest.raises(TextError, match=r"^text 1: expected a pair of texts \(question, reply\), found one text$"):
        pairs([("a good film", "dull"), "a good film"])
    with pytest.raises(TextError, match=r"^text 0: expected one text \(review\), found 2 texts$"):
        single([("a good film", "dull")])


def test_a_single_string_is_no_sequence_of_texts(bundle: Path) -> None:
    with pytest.raises(TypeError, match="sequence of texts"):
        Classifier.load(bundle)("a good film")


def test_ids_outside_the_vocabulary_are_an_error(bundle: Path) -> None:
    ids = np.full((1, 4), 61, np.int32)
    inputs = {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "lengths": np.array([4], np.int32)}
    with pytest.raises(InferenceError, match="input_ids: expected values from 0 to 60, found 61"):
        Classifier.load(bundle).logits(inputs)


def test_a_device_needs_neither_training_nor_packing_packages(bundle: Path) -> None:
    """`ti-qat predict` in a process where importing any of them fails."""
    script = """
import sys
FORBIDDEN = ("torch", "transformers", "onnx", "numba", "pydantic", "safetensors", "ti_qat.artifact", "rich")
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in FORBIDDEN:
            raise AssertionError(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
from ti_qat.cli import main
main(["predict", sys.argv[1], "a good film"], standalone_mode=False)
assert not set(FORBIDDEN) & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(bundle)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "a good film" in done.stdout
