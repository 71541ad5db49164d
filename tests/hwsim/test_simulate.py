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
from hwsim.config import Profile, read_accelerator
from hwsim.datapath.batches import graph_inputs
from hwsim.errors import SimulatorError
from hwsim.simulate import Simulation, simulate, write_simulation
from hwsim.units import gelu
from hwsim.units.accumulator import AccumulatorRange
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


def test_golden_hidden_states_have_their_noise_and_their_farthest_value(artifact: Artifact) -> None:
    report, values = simulate(artifact, read_accelerator("wearable"))
    split = artifact.evaluation
    assert report.golden is not None
    assert list(report.golden.signal_to_noise_db) == list(split.golden)
    name = "layers.1.feed_forward.norm.output"
    rows = [(row, slice(0, length)) for row, length in enumerate(split.lengths[:2])]
    signal = sum(np.sum(np.float64(split.golden[name][of]) ** 2) for of in rows)
    noise = sum(np.sum((np.float64(values.hidden[name][of]) - split.golden[name][of]) ** 2) for of in rows)
    assert report.golden.signal_to_noise_db[name] == pytest.approx(10 * np.log10(signal / noise), abs=1e-6)
    farthest = report.golden.farthest
    assert farthest is not None
    assert abs(farthest.first - farthest.second) == max(report.golden.hidden_state_max_abs_difference.values())
    assert farthest.first == split.golden[farthest.output][farthest.index]
    assert farthest.second == values.hidden[farthest.output][farthest.index]


def test_the_teacher_is_scored_and_agreed_with_where_it_is_known(artifact: Artifact, tmp_path: Path) -> None:
    logits = np.random.default_rng(4).normal(size=(7, 2)).astype(np.float32)
    taught = tiny_artifact(tmp_path / "taught", teacher_logits=logits)
    report, values = simulate(taught, read_accelerator("wearable"), limit=5)
    assert report.teacher_score == np.mean(logits[:5].argmax(-1) == taught.evaluation.labels[:5])
    assert report.teacher_agreement == np.mean(logits[:5].argmax(-1) == values.logits.argmax(-1))
    assert report.label_flips == np.sum(taught.evaluation.logits[:5].argmax(-1) != values.logits.argmax(-1))
    alone, _ = simulate(artifact, read_accelerator("wearable"), limit=5)
    assert (alone.teacher_score, alone.teacher_agreement) == (None, None)
    command = ["simulate", str(taught.path), "--accelerator", "wearable", "--limit", "5", "--out", str(tmp_path / "o")]
    told = CliRunner().invoke(main, command)
    words = f"; the teacher's accuracy {report.teacher_score:.4f}, its labels on {report.teacher_agreement:.2%}"
    assert words in told.stdout


def test_a_planted_fault_is_named_by_operation_tensor_index_and_both_values(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["simulate", str(artifact.path), "--accelerator", "wearable", "--check-oracle", "3", "--out"]
    equal = CliRunner().invoke(main, [*command, str(tmp_path / "equal")])
    assert equal.exit_code == 0, equal.output
    assert "every value of every operation has the oracle's bits on 3 rows" in equal.stdout
    kernel = gelu.gelu

    def faulty(x: np.ndarray) -> np.ndarray:
        out = kernel(x)
        # The longest row only: the last bit of one value, and that of another beside it.
        if x.shape[1] == artifact.evaluation.lengths[1]:
            out[0, -1, 30:32] = np.nextafter(out[0, -1, 30:32], np.float32(9))
        return out

    monkeypatch.setattr(gelu, "gelu", faulty)
    assert artifact.evaluation.lengths[0] != artifact.evaluation.lengths[1]
    found = CliRunner().invoke(main, [*command, str(tmp_path / "faulty")])
    assert found.exit_code == 1
    told = json.loads((tmp_path / "faulty" / "simulation.json").read_text())["oracle"]
    divergence = told["divergence"]
    assert (told["rows"], told["row"], divergence["operation"]) == (2, 1, "layers.0.feed_forward.gelu")
    assert divergence["index"] == [0, int(artifact.evaluation.lengths[1]) - 1, 30]
    assert divergence["different_values"] == 2
    assert np.nextafter(np.float32(divergence["first"]), np.float32(9)) == np.float32(divergence["second"])
    [line] = found.stderr.strip().splitlines()[-1:]
    assert line.startswith("ti-qat: row 1 is not the oracle's: layers.0.feed_forward.gelu: ")
    assert "is " in line and " in the oracle and " in line


def test_the_accumulator_study_says_at_which_k_each_width_fails_first(artifact: Artifact) -> None:
    """Held to plain sums of the operands that the oracle computes, in the order of k."""
    accelerator = read_accelerator("wearable")
    report, _ = simulate(artifact, accelerator, accumulator_study=True)
    study = report.accumulators
    assert study is not None
    prefixes: dict[str, list[np.ndarray]] = {}

    def observe(op, operands, _) -> None:
        if op.kind is OpKind.TERNARY_LINEAR:
            x, w = operands["codes"].astype(np.int64), operands["weight_codes"].astype(np.int64)
            sums = np.cumsum(x[..., None, :] * w, axis=-1)
            prefixes.setdefault(op.name, []).append(sums.reshape(-1, sums.shape[-1]))
        elif op.kind is OpKind.ATTENTION_SCORES:
            q, k = (reference.split_heads(operands[role].astype(np.int64), 3) for role in ("query", "key"))
            sums = np.cumsum(q[:, :, :, None] * k[:, :, None], axis=-1)
            prefixes.setdefault(op.name, []).append(sums.reshape(-1, sums.shape[-1]))

    for row in range(artifact.evaluation.rows):
        inputs = graph_inputs(artifact.evaluation, np.array([row]))
        execute(artifact.encoder, reference.KERNELS, artifact.parameters, inputs, observe)
    for name, found in prefixes.items():
        sums = np.concatenate(found)
        for bits in range(8, 25):
            outside = np.flatnonzero(((sums < -(2 ** (bits - 1))) | (sums >= 2 ** (bits - 1))).any(axis=0))
            assert study.first_failing_k[name].get(bits) == (int(outside[0]) + 1 if len(outside) else None), (
                name,
                bits,
            )
        assert AccumulatorRange.bits_for(int(sums.min()), int(sums.max())) == study.needed_bits[name]
    context = study.needed_bits["layers.0.attention.context"]
    assert context - 1 in study.first_failing_k["layers.0.attention.context"]
    assert context not in study.first_failing_k["layers.0.attention.context"]
    worst = study.worst_case_k
    assert (worst[OpKind.TERNARY_LINEAR][16], worst[OpKind.ATTENTION_SCORES][16]) == (32767 // 127, 2)
    assert worst[OpKind.TERNARY_LINEAR][8] == 1


def test_the_study_is_asked_for_in_the_exact_profile_and_there_in_the_fixed(artifact: Artifact, tmp_path: Path) -> None:
    exact, _ = simulate(artifact, read_accelerator("wearable"))
    fixed, _ = simulate(artifact, read_accelerator("wearable"), profile=Profile.FIXED)
    assert exact.accumulators is None
    assert fixed.accumulators is not None
    assert fixed.fixed is not None
    assert fixed.accumulators.needed_bits == fixed.fixed.needed_accumulator_bits
    command = ["simulate", str(artifact.path), "--accelerator", "wearable", "--accumulator-study", "--out"]
    told = CliRunner().invoke(main, [*command, str(tmp_path / "out")])
    assert "bits overflow nowhere (most at " in told.stdout
    written = (tmp_path / "out" / "simulation.json").read_text()
    assert Simulation.model_validate_json(written).accumulators is not None


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
