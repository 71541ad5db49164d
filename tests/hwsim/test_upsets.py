"""The verb `upsets`: which bits flip, what they are read as, and a split that is scored under them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hwsim.config import Accelerator, read_accelerator
from hwsim.datapath.batches import graph_inputs
from hwsim.errors import SimulatorError
from hwsim.faults import campaign as campaigns
from hwsim.faults.campaign import Campaign, inject_upsets, target_of
from hwsim.faults.flips import WordUpsets, draw, stream
from hwsim.faults.page import upset_charts
from hwsim.faults.plan import CODES, UpsetPlan
from hwsim.faults.results import ASSUMPTIONS, Upsets
from hwsim.faults.run_log import RunLog
from hwsim.faults.targets import TargetName, upset_bytes
from hwsim.faults.word_codes import OnDetection, Protection
from hwsim.simulate import simulate
from tests.builders import tiny_artifact, tiny_quantization
from ti_qat.artifact import reference
from ti_qat.artifact.encoder import OpKind, execute
from ti_qat.artifact.io import Artifact
from ti_qat.artifact.packing import pack_ternary
from ti_qat.artifact.schema import ActivationScaling, Granularity
from ti_qat.cli import main

NONE, PARITY, SECDED = CODES[Protection.NONE](64), CODES[Protection.PARITY](64), CODES[Protection.SECDED](64)
PAGE = " ".join((Path(__file__).parents[2] / "docs" / "upsets.md").read_text(encoding="utf-8").split())


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_artifact(tmp_path_factory.mktemp("artifact") / "tiny")


@pytest.fixture(scope="module")
def wearable() -> Accelerator:
    return read_accelerator("wearable")


def campaign(artifact: Artifact, accelerator: Accelerator, plan: UpsetPlan, threads: int = 2) -> Campaign:
    target = target_of(artifact, accelerator, plan)
    return Campaign(artifact, accelerator, target, plan.on_detection, artifact.evaluation.rows, threads)


def logits_under(artifact: Artifact, accelerator: Accelerator, plan: UpsetPlan, code=NONE, rate=1e-2, threads=2):
    run = campaign(artifact, accelerator, plan, threads)
    clean = run.logits_without_faults(lambda rows: None)
    return clean, *run.logits_with_upsets(clean, code, rate, 0, lambda rows: None)


@pytest.mark.parametrize("target", list(TargetName))
@pytest.mark.parametrize("scaling", list(ActivationScaling))
def test_a_rate_of_zero_is_the_run_without_faults_bit_for_bit(
    tmp_path: Path, wearable: Accelerator, target: TargetName, scaling: ActivationScaling
) -> None:
    artifact = tiny_artifact(tmp_path / "a", quantization=tiny_quantization(activations=scaling))
    _, values = simulate(artifact, wearable)
    clean, logits, reached, counts = logits_under(artifact, wearable, UpsetPlan(target, (0.0,)), rate=0.0)
    assert clean.tobytes() == logits.tobytes() == values.logits.tobytes()
    assert (reached, counts.flipped_bits) == (0, 0)


@pytest.mark.parametrize("target", list(TargetName))
def test_flips_depend_on_neither_threads_nor_the_batch(
    artifact: Artifact, wearable: Accelerator, target: TargetName, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = UpsetPlan(target, (1e-2,))
    _, logits, *found = logits_under(artifact, wearable, plan, threads=2)
    monkeypatch.setattr(campaigns, "equal_length_batches", lambda lengths: [np.array([row]) for row in range(7)][::-1])
    clean, alone, *again = logits_under(artifact, wearable, plan, threads=1)
    assert logits.tobytes() == alone.tobytes() != clean.tobytes()
    assert found == again


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("scaling", list(ActivationScaling))
def test_upset_weights_give_what_the_oracle_gives_with_those_weights(
    tmp_path: Path, wearable: Accelerator, granularity: Granularity, scaling: ActivationScaling
) -> None:
    """Each row alone through the NumPy oracle, with its own changed matrices in place of the written ones."""
    scheme = tiny_quantization(linear_weights=granularity, activations=scaling)
    artifact = tiny_artifact(tmp_path / "a", quantization=scheme)
    run = campaign(artifact, wearable, UpsetPlan(TargetName.WEIGHTS, (1e-2,)))
    clean, logits, reached, _ = logits_under(artifact, wearable, UpsetPlan(TargetName.WEIGHTS, (1e-2,)))
    assert reached == artifact.evaluation.rows
    assert np.any(clean != logits)
    for row in range(artifact.evaluation.rows):
        parameters = dict(artifact.parameters)
        for number, changes in run._effects(NONE, 1e-2, 0, row)[0].items():
            name = artifact.encoder.operations[number].inputs["weight_codes"]
            parameters[name] = parameters[name].copy()
            parameters[name][changes.channels, changes.inputs] = changes.codes
        inputs = graph_inputs(artifact.evaluation, np.array([row]))
        oracle = execute(artifact.encoder, reference.KERNELS, parameters, inputs)
        assert logits[row].tobytes() == oracle[0].tobytes()


def test_every_weight_bit_flipped_is_read_as_the_decoder_has_it(artifact: Artifact, wearable: Accelerator) -> None:
    """At rate 1: 00 (-1) becomes 11, which is read as 0; 01 (0) becomes 10 (+1), and 10 (+1) becomes 01 (0)."""
    run = campaign(artifact, wearable, UpsetPlan(TargetName.WEIGHTS, (1.0,)))
    effects, counts = run._effects(NONE, 1.0, 0, 0)
    linears = artifact.encoder.of_kind(OpKind.TERNARY_LINEAR)
    assert len(effects) == len(linears)
    assert counts.flipped_bits == sum(64 * run.target.words(op, 1) for op in linears)
    for number, changes in effects.items():
        written = artifact.parameters[artifact.encoder.operations[number].inputs["weight_codes"]]
        read = written.copy()
        read[changes.channels, changes.inputs] = changes.codes
        assert np.array_equal(read, np.array([0, 1, 0])[written + 1])


def test_one_flip_of_a_zero_weight_may_be_masked(artifact: Artifact, wearable: Accelerator) -> None:
    target = campaign(artifact, wearable, UpsetPlan(TargetName.WEIGHTS, (0.0,))).target
    op = artifact.encoder.of_kind(OpKind.TERNARY_LINEAR)[0]
    codes = artifact.parameters[op.inputs["weight_codes"]]
    channel, column = map(int, np.argwhere(codes == 0)[0])
    place = channel * pack_ternary(codes).shape[1] + column // 4
    bits = 8 * (place % 8) + 2 * (column % 4)
    for bit, read in ((bits, -1), (bits + 1, None)):  # 01 becomes 00, or 11
        word = WordUpsets(np.array([place // 8]), np.array([1 << bit], np.uint64), np.array([False]))
        changes = target.effect(op, word)
        if read is None:
            assert changes is None
        else:
            assert (changes.channels, changes.inputs, changes.codes) == (channel, column, read)


def test_a_zeroed_word_of_weights_holds_codes_of_zero_and_not_bits_of_zero(
    artifact: Artifact, wearable: Accelerator
) -> None:
    target = campaign(artifact, wearable, UpsetPlan(TargetName.WEIGHTS, (0.0,))).target
    op = artifact.encoder.of_kind(OpKind.TERNARY_LINEAR)[0]
    codes = artifact.parameters[op.inputs["weight_codes"]].copy()
    changes = target.effect(op, WordUpsets(np.array([0]), np.array([5], np.uint64), np.array([True])))
    codes[changes.channels, changes.inputs] = changes.codes
    assert pack_ternary(codes).reshape(-1)[:8].tolist() == [0b01010101] * 8
    assert pack_ternary(codes).reshape(-1)[8:].tolist() == target._packed[op.name][8:].tolist()


def test_words_are_little_endian_and_the_last_is_filled_up() -> None:
    stored = np.arange(10, dtype=np.uint8)
    upsets = WordUpsets(np.array([0, 1]), np.array([0x0100, 0xFF00000000000001], np.uint64), np.array([False, False]))
    places, read = upset_bytes(stored, upsets, 8, 0)
    assert dict(zip(places.tolist(), read.tolist(), strict=True)) == dict(enumerate([0, 0, 2, 3, 4, 5, 6, 7, 9, 9]))


@pytest.mark.parametrize("bits", [12, 24, 32])
def test_an_upset_accumulator_is_twos_complement_of_its_own_width(
    artifact: Artifact, wearable: Accelerator, bits: int
) -> None:
    accelerator = wearable.model_copy(update={"accumulator_bits": bits})
    target = campaign(artifact, accelerator, UpsetPlan(TargetName.ACCUMULATORS, (0.0,))).target
    sums = np.array([0, 5, -1, -2], np.int32)
    flips = np.array([1 << (bits - 1), 4, 1 << (bits - 1), 1], np.uint64)
    read = target._read(sums, WordUpsets(np.arange(4), flips, np.zeros(4, bool)))
    assert read.tolist() == [-(2 ** (bits - 1)), 1, 2 ** (bits - 1) - 1, -1]
    assert target._read(sums, WordUpsets(np.arange(4), flips, np.ones(4, bool))).tolist() == [0, 0, 0, 0]


def test_upset_accumulators_and_activations_are_where_the_draw_says(artifact: Artifact, wearable: Accelerator) -> None:
    """The first operation with a flip differs in the drawn places only, in the drawn bits."""
    inputs = graph_inputs(artifact.evaluation, np.array([0]))
    for name, kinds in ((TargetName.ACCUMULATORS, OpKind.ATTENTION_SCORES), (TargetName.ACTIVATIONS, OpKind.QUANTIZE)):
        target = campaign(artifact, wearable, UpsetPlan(name, (0.0,))).target
        number, op = next((i, op) for i, op in enumerate(artifact.encoder.operations) if op.kind is kinds)
        flip = WordUpsets(np.array([1]), np.array([1 << 7], np.uint64), np.array([False]))
        seen: list[dict[str, np.ndarray]] = [{}, {}]
        for effects, values in (([{}], seen[0]), ([{number: flip}], seen[1])):
            kernels = {**campaigns.Datapath(wearable.accumulator_range).kernels, **target.kernels(effects)}
            encoder = campaigns.numbered(artifact.encoder, target.kinds)
            execute(encoder, kernels, artifact.parameters, inputs,
                    lambda o, _, results, values=values: values.setdefault(o.name, results[0].reshape(-1)))  # fmt: skip
        different = np.flatnonzero(seen[0][op.name] != seen[1][op.name])
        assert different.tolist() == ([1] if name is TargetName.ACCUMULATORS else [8])
        if name is TargetName.ACTIVATIONS:
            assert int(seen[0][op.name][8]) ^ int(seen[1][op.name][8]) in (-128, 128)


def test_the_number_of_flips_is_binomial_and_places_are_distinct() -> None:
    words, rate = 1000, 1e-3
    found = [draw(stream(seed, 3, 7), words, NONE, rate, OnDetection.ZERO)[1].flipped_bits for seed in range(400)]
    mean = 64 * words * rate
    assert np.mean(found) == pytest.approx(mean, abs=4 * np.sqrt(mean / 400))
    assert np.var(found) == pytest.approx(mean, rel=0.3)
    upsets, counts = draw(stream(0, 0, 0), 50, NONE, 0.5, OnDetection.ZERO)
    assert upsets is not None
    assert int(np.bitwise_count(upsets.flips).sum()) == counts.flipped_bits  # none fell on another
    assert draw(stream(0, 0, 0), 50, NONE, 1.0, OnDetection.ZERO)[1].flipped_bits == 50 * 64


def test_streams_differ_by_seed_operation_and_row() -> None:
    drawn = {stream(*key).bit_generator.random_raw() for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))}
    assert len(drawn) == 4
    assert stream(2, 3, 4).bit_generator.random_raw() == stream(2, 3, 4).bit_generator.random_raw()


def test_what_a_protection_does_is_counted_word_by_word() -> None:
    """Enough flips for one, two and three in a word."""
    for code, silent_share in ((NONE, 1.0), (PARITY, 0.2), (SECDED, 0.02)):
        upsets, counts = draw(stream(0, 0, 0), 10_000, code, 2e-3, OnDetection.ZERO)
        assert upsets is not None
        touched = counts.corrected_words + counts.detected_words + counts.silent_words
        assert counts.silent_words <= silent_share * touched
        assert len(upsets.words) == counts.silent_words + counts.detected_words
        assert int(upsets.zeroed.sum()) == counts.detected_words
        reloaded, _ = draw(stream(0, 0, 0), 10_000, code, 2e-3, OnDetection.RELOAD)
        assert (0 if reloaded is None else len(reloaded.words)) == counts.silent_words
    assert counts.corrected_words > 500
    assert counts.detected_words > 20
    assert counts.silent_words > 0


def test_secded_keeps_the_labels_that_an_unguarded_memory_loses(artifact: Artifact, wearable: Accelerator) -> None:
    plan = UpsetPlan(TargetName.WEIGHTS, (1e-4,), (Protection.NONE, Protection.SECDED), (0, 1))
    found = inject_upsets(artifact, wearable, plan)
    none, secded = found.curves
    assert sum(run.reached_rows for run in found.runs if run.protection is Protection.SECDED) == 0
    assert (secded.score_mean, secded.label_flips_mean) == ((found.fault_free_score,), (0.0,))
    assert sum(run.reached_rows for run in found.runs if run.protection is Protection.NONE) > 7
    runs = [run for run in found.runs if run.protection is Protection.NONE]
    assert none.score_mean == (np.mean([run.score for run in runs]),)
    assert none.score_std == (pytest.approx(np.std([run.score for run in runs], ddof=1)),)
    by_name = {overhead.protection: overhead for overhead in found.overheads}
    assert by_name[Protection.SECDED].stored_bits_factor == 72 / 64
    assert by_name[Protection.NONE].check_bits_per_inference == 0


def test_an_accumulator_is_a_word_of_its_own(artifact: Artifact, wearable: Accelerator) -> None:
    plan = UpsetPlan(TargetName.ACCUMULATORS, (1e-4,), (Protection.SECDED,))
    [overhead] = inject_upsets(artifact, wearable, plan, limit=2).overheads
    assert (overhead.word_data_bits, overhead.word_check_bits) == (24, 6)


def test_a_regression_has_no_labels_to_flip(tmp_path: Path, wearable: Accelerator) -> None:
    found = inject_upsets(tiny_artifact(tmp_path / "a", labels=1), wearable, UpsetPlan(TargetName.WEIGHTS, (1e-2,)))
    assert found.runs[0].label_flips is None
    assert found.curves[0].label_flips_mean is None


def test_a_plan_out_of_range_is_refused_by_option() -> None:
    for changes, option in (({"rates": (1.5,)}, "--rates"), ({"rates": (float("nan"),)}, "--rates"),
                            ({"word_bits": 12}, "--word-bits")):  # fmt: skip
        with pytest.raises(SimulatorError, match=option):
            UpsetPlan(**({"target": TargetName.WEIGHTS, "rates": (0.1,)} | changes))
    with pytest.raises(SimulatorError, match="second copy of weights only"):
        UpsetPlan(TargetName.ACTIVATIONS, (0.1,), on_detection=OnDetection.RELOAD)


def test_no_rows_are_refused(artifact: Artifact, wearable: Accelerator) -> None:
    with pytest.raises(SimulatorError, match="--limit: expected at least 1 row, found 0"):
        inject_upsets(artifact, wearable, UpsetPlan(TargetName.WEIGHTS, (0.1,)), limit=0)


def test_a_killed_campaign_goes_on_and_ends_in_the_same_file(
    artifact: Artifact, wearable: Accelerator, tmp_path: Path
) -> None:
    plan = UpsetPlan(TargetName.ACTIVATIONS, (1e-4, 1e-3), seeds=(0, 1))
    whole = inject_upsets(artifact, wearable, plan)
    log = RunLog(tmp_path / "out", artifact, wearable, plan, 7)
    log.add(whole.runs[0])
    marked = whole.runs[1].model_copy(update={"score": 0.25})  # a value that no computing gives
    log.add(marked)
    with (tmp_path / "out.partial.jsonl").open("a") as stream:
        stream.write('{"protection": "none", "ra')
    again = inject_upsets(artifact, wearable, plan, log=RunLog(tmp_path / "out", artifact, wearable, plan, 7))
    assert again.runs == (whole.runs[0], marked, *whole.runs[2:])
    other = RunLog(tmp_path / "out", artifact, wearable, plan, 6)
    assert other.find(whole.runs[0].key) is None


def test_the_command_writes_whole_outputs_and_tells_the_curves(artifact: Artifact, tmp_path: Path) -> None:
    out = tmp_path / "upsets"
    arguments = ["upsets", str(artifact.path), "--accelerator", "wearable", "--target", "activations",
                 "--rates", "0,1e-3", "--protection", "none,parity", "--seeds", "2", "--out", str(out)]  # fmt: skip
    told = CliRunner().invoke(main, arguments)
    assert told.exit_code == 0, told.output
    without, heading, at_zero, *_ = told.stdout.splitlines()
    assert without.startswith("activations: accuracy ")
    assert (heading, at_zero.partition(":")[0]) == ("none:", "  rate 0")
    assert at_zero.endswith("0.0 labels flipped (0.0)")
    found = Upsets.model_validate_json((out / "upsets.json").read_text())
    assert CliRunner().invoke(main, [*arguments, "--json"]).exit_code == 0  # replaces its own
    lines = list(csv.DictReader((out / "upsets.csv").read_text().splitlines()))
    assert [(line["protection"], float(line["rate"]), int(line["seed"])) for line in lines] == [
        run.key for run in found.runs
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["upsets"]
    assert json.loads((out / "upsets.json").read_text())["schema_version"] == 1
    assert {path.name for path in (out / "figures").iterdir()} == {"score_by_rate.png", "label_flips_by_rate.png"}
    assert 'id="figure-score_by_rate"' in (out / "upsets.html").read_text()


def test_figures_are_the_curves_without_what_a_logarithm_has_no_place_for(
    artifact: Artifact, wearable: Accelerator
) -> None:
    plan = UpsetPlan(TargetName.WEIGHTS, (0.0, 1e-3, 1e-2), (Protection.NONE, Protection.SECDED), seeds=(0, 1))
    found = inject_upsets(artifact, wearable, plan)
    score, labels = upset_charts(found)
    *drawn, fault_free = score.curves
    assert [curve.name for curve in drawn] == [curve.name for curve in labels.curves] == ["none", "secded"]
    assert [curve.x for curve in drawn] == [(1e-3, 1e-2)] * 2
    assert [curve.y for curve in drawn] == [curve.score_mean[1:] for curve in found.curves]
    assert fault_free.reference and set(fault_free.y) == {found.fault_free_score}
    assert upset_charts(inject_upsets(artifact, wearable, UpsetPlan(TargetName.WEIGHTS, (0.0,)))) == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rates", "a"], "--rates: expected numbers and commas, found 'a'"),
        (["--rates", "2"], "--rates: expected probabilities from 0 to 1, found 2.0"),
        (["--protection", "hamming"], "--protection: expected none, parity, secded"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(artifact: Artifact, tmp_path: Path, options: list[str], message: str) -> None:
    arguments = ["upsets", str(artifact.path), "--accelerator", "wearable", "--target", "weights"]
    found = CliRunner().invoke(main, [*arguments, *options, "--out", str(tmp_path / "out")])
    assert found.exit_code == 2
    [line] = found.stderr.strip().splitlines()
    assert message in line
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("assumption", ASSUMPTIONS)
def test_every_assumption_is_a_bullet(assumption: str) -> None:
    assert f"* {assumption}" in PAGE
