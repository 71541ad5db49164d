"""The verb `simulate`: right values, the same on any number of threads, whole outputs."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file
from scipy import stats

from hwsim.cli import simulate as simulate_command
from hwsim.config import read_accelerator
from hwsim.errors import SimulatorError
from hwsim.simulate import simulate, write_simulation
from tests.builders import tiny_artifact
from ti_qat.artifact import reference
from ti_qat.artifact.encoder import OpKind, execute
from ti_qat.artifact.evaluation import codes_digest, valid_codes
from ti_qat.artifact.io import Artifact
from ti_qat.cli import main


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_artifact(tmp_path_factory.mktemp("artifact") / "tiny")


def test_logits_and_code_digests_are_those_of_the_padded_oracle(artifact: Artifact) -> None:
    split = artifact.evaluation
    report, values = simulate(artifact, read_accelerator("wearable"))
    expected: dict[str, dict[int, int]] = {}
    for chosen, inputs in split.batches(4):

        def observe(op, _, results, chosen=chosen) -> None:
            if op.kind in {OpKind.QUANTIZE, OpKind.QUANTIZE_PER_TOKEN}:
                for position, row in enumerate(chosen):
                    block = valid_codes(results[0], position, int(split.lengths[row]))
                    expected.setdefault(op.outputs[0], {})[int(row)] = codes_digest(block)

        logits = execute(artifact.encoder, reference.KERNELS, artifact.parameters, inputs, observe)
        assert values.logits[chosen].tobytes() == logits.tobytes()
    assert {name: dict(enumerate(digests.tolist())) for name, digests in values.digests.items()} == expected
    assert report.score == np.mean(np.argmax(values.logits, -1) == split.labels)
    assert report.label_agreement == np.mean(np.argmax(values.logits, -1) == np.argmax(split.logits, -1))
    assert report.overflow_events == 0


def test_a_regression_is_scored_by_its_numbers_and_has_no_labels_to_agree_on(tmp_path: Path) -> None:
    regression = tiny_artifact(tmp_path / "artifact", labels=1)
    split = regression.evaluation
    report, values = simulate(regression, read_accelerator("wearable"))
    rows, inputs = next(split.batches(split.rows))
    assert (
        values.logits[rows].tobytes()
        == execute(regression.encoder, reference.KERNELS, regression.parameters, inputs).tobytes()
    )
    pearson, spearman = (f(split.labels, values.logits[:, 0]).statistic for f in (stats.pearsonr, stats.spearmanr))
    # 1e-6: SciPy correlates float32 in float32.
    assert report.score == pytest.approx((pearson + spearman) / 2, abs=1e-6)
    assert report.label_agreement is None
    assert report.golden is not None
    assert report.golden.label_agreement is None
    assert report.logits_max_abs_difference == np.max(np.abs(values.logits - split.logits))
    told = CliRunner().invoke(
        main, ["simulate", str(regression.path), "--accelerator", "wearable", "--out", str(tmp_path / "out")]
    )
    assert f"predictions within {report.logits_max_abs_difference:.2g} of the torch student's" in told.stdout


def test_golden_distance_is_over_valid_tokens_only(artifact: Artifact) -> None:
    report, values = simulate(artifact, read_accelerator("wearable"))
    split = artifact.evaluation
    assert report.golden is not None
    name = "embedding.norm.output"
    worst = max(
        np.abs(values.hidden[name][row, :length] - split.golden[name][row, :length]).max()
        for row, length in enumerate(split.lengths[:2])
    )
    assert report.golden.hidden_state_max_abs_difference[name] == float(worst)


def test_results_depend_on_neither_threads_nor_company(artifact: Artifact) -> None:
    accelerator = read_accelerator("phone")
    _, alone = simulate(artifact, accelerator, threads=1)
    with ThreadPoolExecutor(2) as pool:  # two simulations at once in one process
        both = [future.result() for future in [pool.submit(simulate, artifact, accelerator, threads=2)] * 2]
    for _, values in both:
        assert values.logits.tobytes() == alone.logits.tobytes()
        assert all(np.array_equal(values.digests[name], alone.digests[name]) for name in alone.digests)


def test_a_narrow_accumulator_is_reported_by_operation(artifact: Artifact) -> None:
    narrow = read_accelerator("wearable").model_copy(update={"accumulator_bits": 9})
    report, values = simulate(artifact, narrow, limit=3)
    assert report.overflow_events == sum(report.overflow_events_by_operation.values()) > 0
    assert set(report.overflow_events_by_operation) <= {op.name for op in artifact.encoder.operations}
    assert len(values.logits) == report.rows == 3


def test_the_same_input_writes_the_same_files(artifact: Artifact, tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_simulation(tmp_path / name, *simulate(artifact, read_accelerator("wearable")))
    for file in ("codes.safetensors", "logits.safetensors"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    first, second = (json.loads((tmp_path / name / "simulation.json").read_text()) for name in ("first", "second"))
    assert first.pop("peak_rss_bytes") > 0
    second.pop("peak_rss_bytes")
    assert first == second


def test_command_writes_whole_outputs_and_prints_them(artifact: Artifact, tmp_path: Path) -> None:
    out = tmp_path / "simulation"
    arguments = [str(artifact.path), "--accelerator", "wearable", "--limit", "2", "--out", str(out), "--json"]
    result = CliRunner().invoke(simulate_command, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((out / "simulation.json").read_text())
    assert {file.name for file in tmp_path.iterdir()} == {"simulation"}
    assert load_file(out / "logits.safetensors")["logits"].shape == (2, 2)
    assert {codes.dtype for codes in load_file(out / "codes.safetensors").values()} == {np.dtype(np.uint64)}


def test_bad_input_is_one_line_and_exit_2(artifact: Artifact, tmp_path: Path) -> None:
    for arguments in ([str(artifact.path), "--accelerator", "toaster"], [str(tmp_path), "--accelerator", "wearable"]):
        result = CliRunner().invoke(main, ["simulate", *arguments, "--out", str(tmp_path / "out")])
        assert result.exit_code == 2
        assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(SimulatorError, match="--limit"):
        simulate(artifact, read_accelerator("wearable"), limit=0)
