from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from deploy.cli import pack as pack_verb
from deploy.cli import verify as verify_verb
from deploy.code_comparison import SimulationError
from deploy.export import pack
from deploy.inspection import InspectionError, describe
from deploy.taps import quantizer_outputs
from deploy.verification import VerificationError, passes, verify
from tests.builders import tiny_artifact
from ti_qat.artifact.encoder import Operation, execute
from ti_qat.artifact.evaluation import codes_digest, valid_codes
from ti_qat.artifact.io import Artifact
from ti_qat.artifact.reference import KERNELS
from ti_qat.cli import main


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Path]:
    directory = tmp_path_factory.mktemp("packed")
    artifact = tiny_artifact(directory / "artifact")
    pack(artifact, directory / "bundle")
    return artifact, directory / "bundle"


def _simulate(artifact: Artifact, out: Path, rows: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What a simulation of the first `rows` rows leaves, computed by the oracle; written to `out` too."""
    logits = np.empty((rows, artifact.encoder.shape.labels), np.float32)
    digests = {name: np.zeros(rows, np.uint64) for name in quantizer_outputs(artifact.encoder)}
    for chosen, inputs in artifact.evaluation.batches(2, limit=rows):

        def observe(op: Operation, _operands: object, results: tuple[np.ndarray, ...]) -> None:
            if op.outputs[0] in digests:
                for position, row in enumerate(chosen):  # noqa: B023 - called within this iteration
                    block = valid_codes(results[0], position, int(inputs["lengths"][position]))  # noqa: B023
                    digests[op.outputs[0]][row] = codes_digest(block)

        logits[chosen] = execute(artifact.encoder, KERNELS, artifact.parameters, inputs, observe)
    _write(out, digests, logits)
    _tell(out, artifact.digest)
    return digests, logits


def _tell(out: Path, digest: str, profile: str = "exact") -> None:
    (out / "simulation.json").write_text(json.dumps({"artifact_digest": digest, "profile": profile}))


def _write(out: Path, digests: dict[str, np.ndarray], logits: np.ndarray) -> None:
    out.mkdir(exist_ok=True)
    save_file(digests, out / "codes.safetensors")
    save_file({"logits": logits}, out / "logits.safetensors")


def test_a_bundle_of_the_artifact_is_exact(packed: tuple[Artifact, Path], tmp_path: Path) -> None:
    artifact, bundle = packed
    _simulate(artifact, tmp_path, artifact.evaluation.rows)
    done: list[int] = []
    found = verify(artifact, bundle, simulation_dir=tmp_path, on_progress=done.append)
    assert found.exact
    assert found.isa_bit_identical in (True, None)
    assert found.threads_bit_identical
    assert found.oracle_bit_identical
    assert found.oracle_rows == 2
    assert sum(done) == artifact.evaluation.rows * passes(found.isas, found.threads, tmp_path)
    assert found.peak_rss_bytes > 0
    assert found.latency_ms > 0
    codes = found.simulation
    assert codes is not None
    assert (codes.code_mismatches, codes.first_divergence, codes.logits_bit_identical) == (0, None, True)
    tokens = int(artifact.evaluation.lengths.sum())
    squares = int((artifact.evaluation.lengths.astype(np.int64) ** 2).sum())
    # two layers: six quantisers of 24 and one of 37 codes a token, one of 3 heads; the pooler once a row
    assert codes.codes_compared == 2 * (6 * 24 * tokens + 37 * tokens + 3 * squares) + 24 * 7


def test_one_wrong_digest_is_located(packed: tuple[Artifact, Path], tmp_path: Path) -> None:
    artifact, bundle = packed
    digests, logits = _simulate(artifact, tmp_path, 4)
    name = "layers.1.attention.probabilities_quantizer.codes"
    digests[name][2] ^= np.uint64(1)
    logits[3, 0] = np.nextafter(logits[3, 0], np.float32(9))
    _write(tmp_path, digests, logits)
    codes = verify(artifact, bundle, simulation_dir=tmp_path, threads=(1,), isas=("scalar",)).simulation
    assert codes is not None
    assert codes.rows == 4
    assert codes.first_divergence is not None
    assert (codes.first_divergence.row, codes.first_divergence.activation) == (2, name)
    assert codes.code_mismatches == 3 * int(artifact.evaluation.lengths[2]) ** 2
    assert not codes.logits_bit_identical


def test_a_bundle_of_another_artifact_is_refused(packed: tuple[Artifact, Path], tmp_path: Path) -> None:
    other = tiny_artifact(tmp_path / "other", seed=9)
    with pytest.raises(VerificationError, match="expected a bundle of"):
        verify(other, packed[1])


def test_a_regression_is_verified_without_labels(tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "artifact", labels=1)
    pack(artifact, tmp_path / "bundle")
    found = verify(artifact, tmp_path / "bundle")
    assert found.exact
    assert (found.metric, found.label_agreement) == ("pearson_spearman", None)
    told = CliRunner().invoke(verify_verb, [str(tmp_path / "artifact"), str(tmp_path / "bundle"), "--threads", "1"])
    assert f"predictions within {found.logits_max_abs_difference:.2g} of the torch student's" in told.stdout
    assert describe(tmp_path / "bundle")["labels"] == ("score",)


def test_a_bundle_with_edited_labels_is_refused(packed: tuple[Artifact, Path], tmp_path: Path) -> None:
    shutil.copytree(packed[1], tmp_path / "bundle")
    manifest = tmp_path / "bundle" / "bundle.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"labels": content["labels"][::-1]}))
    with pytest.raises(VerificationError, match=r"labels: expected \['negative', 'positive'\] as in the artifact"):
        verify(packed[0], tmp_path / "bundle")


def test_a_simulation_of_something_else_is_refused(packed: tuple[Artifact, Path], tmp_path: Path) -> None:
    artifact, bundle = packed
    with pytest.raises(SimulationError, match=r"simulation\.json: expected what `ti-qat simulate` writes"):
        verify(artifact, bundle, simulation_dir=tmp_path, threads=(1,), isas=("scalar",))
    _tell(tmp_path, artifact.digest)
    with pytest.raises(SimulationError, match=r"codes\.safetensors: expected a safetensors file"):
        verify(artifact, bundle, simulation_dir=tmp_path, threads=(1,), isas=("scalar",))
    digests, logits = _simulate(artifact, tmp_path, 4)
    del digests["pooler.input.codes"]
    _write(tmp_path, digests, logits)
    with pytest.raises(SimulationError, match=r"pooler\.input\.codes: expected uint64 \(4,\)"):
        verify(artifact, bundle, simulation_dir=tmp_path, threads=(1,), isas=("scalar",))


def test_a_simulation_of_another_artifact_is_refused_before_anything_runs(
    packed: tuple[Artifact, Path], tmp_path: Path
) -> None:
    artifact, bundle = packed
    other = tiny_artifact(tmp_path / "other", seed=9)
    _simulate(other, tmp_path / "simulation", other.evaluation.rows)
    arguments = ["verify", str(artifact.path), str(bundle), "--simulation", str(tmp_path / "simulation")]
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    expected = f"artifact_digest: expected a simulation of {artifact.digest}, found one of {other.digest}\n"
    assert done.stderr.endswith(expected)
    _tell(tmp_path / "simulation", artifact.digest, profile="fixed")
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "profile: expected exact" in done.stderr


def test_the_verbs_print_one_json_object(packed: tuple[Artifact, Path], tmp_path: Path) -> None:
    artifact, _ = packed
    bundle = tmp_path / "bundle"
    done = CliRunner().invoke(pack_verb, [str(artifact.path), "--out", str(bundle), "--json"])
    assert json.loads(done.stdout)["artifact"] == artifact.digest
    arguments = [str(artifact.path), str(bundle), "--threads", "1", "--isa", "scalar", "--json"]
    done = CliRunner().invoke(verify_verb, arguments)
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["isa_bit_identical"] is None
    assert found["codes_compared"] is None
    assert found["exact"]


def test_verify_exits_with_one_where_bits_differ(packed: tuple[Artifact, Path], tmp_path: Path) -> None:
    artifact, bundle = packed
    digests, logits = _simulate(artifact, tmp_path, 2)
    digests["pooler.input.codes"][0] ^= np.uint64(1)
    _write(tmp_path, digests, logits)
    arguments = [str(artifact.path), str(bundle), "--simulation", str(tmp_path), "--threads", "1", "--isa", "scalar"]
    done = CliRunner().invoke(verify_verb, arguments)
    assert done.exit_code == 1
    assert "first at row 0, pooler.input.codes" in done.stdout


def test_inspect_describes_both_kinds(packed: tuple[Artifact, Path], tmp_path: Path) -> None:
    artifact, bundle = packed
    assert describe(artifact.path)["digest"] == artifact.digest == describe(bundle)["artifact"]
    assert describe(artifact.path)["kind"] == "artifact"
    assert describe(bundle)["kind"] == "bundle"
    with pytest.raises(InspectionError, match="found neither"):
        describe(tmp_path)


def test_inspect_and_verify_know_the_texts_of_a_row(packed: tuple[Artifact, Path], tmp_path: Path) -> None:
    for path in (packed[0].path, packed[1]):
        assert "text_columns: unknown\n" in CliRunner().invoke(main, ["inspect", str(path)]).stdout
    artifact = tiny_artifact(tmp_path / "artifact", text_columns=("question", "reply"))
    pack(artifact, tmp_path / "bundle")
    for name in ("artifact", "bundle"):
        assert "text_columns: question, reply\n" in CliRunner().invoke(main, ["inspect", str(tmp_path / name)]).stdout
    manifest = tmp_path / "bundle" / "bundle.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"text_columns": ["question"]}))
    with pytest.raises(VerificationError, match=r"text_columns: expected .*'question', 'reply'.* as in the artifact"):
        verify(artifact, tmp_path / "bundle")
