"""The fixed profile from end to end: near the exact profile, the same everywhere, refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hwsim.config import Accelerator, Profile, read_accelerator
from hwsim.datapath.batches import equal_length_batches, graph_inputs
from hwsim.datapath.calibration import largest_magnitudes
from hwsim.datapath.comparison import QuantizationNoise, Run, first_divergent_operation
from hwsim.datapath.exact import Datapath
from hwsim.datapath.fixed import FixedDatapath
from hwsim.datapath.fixed_program import LOWERINGS, lower
from hwsim.errors import SimulatorError
from hwsim.fixed_point import real_values
from hwsim.reporting.report import Agreement, StageFigures, Stages, Summary, render
from hwsim.schedule.execution import Inference
from hwsim.schedule.fixed_profile import FIXED_ACTIONS, REFUSED
from hwsim.schedule.workload import workload
from hwsim.simulate import simulate
from hwsim.units.accumulator import AccumulatorRange
from hwsim.units.actions import Action
from hwsim.widths import Approximation, FixedWidths, Rounding
from tests.builders import tiny_artifact, tiny_quantization
from ti_qat.artifact import reference
from ti_qat.artifact.encoder import OpKind, execute
from ti_qat.artifact.io import Artifact
from ti_qat.artifact.schema import ActivationScaling, Granularity
from ti_qat.cli import main

WIDEST = {
    "residual_bits": 20, "activation_bits": 20, "layer_norm_bits": 24, "softmax_bits": 24, "gelu_bits": 24,
    "multiplier_bits": 32, "exponential": Approximation.TABLE, "gelu": Approximation.TABLE,
}  # fmt: skip


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_artifact(tmp_path_factory.mktemp("artifact") / "tiny")


def wearable(**widths: object) -> Accelerator:
    return read_accelerator("wearable").model_copy(update={"fixed": FixedWidths.model_validate(widths)})


def test_every_consumer_covers_every_kind_of_operation() -> None:
    """Lowered, executed and counted; what is refused has none of the three."""
    for consumer in (LOWERINGS, FixedDatapath(wearable()).kernels, FIXED_ACTIONS):
        assert set(consumer) == set(OpKind) - REFUSED
    assert {OpKind.QUANTIZE_PER_TOKEN} == REFUSED


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("rounding", list(Rounding))
def test_each_operation_is_as_near_as_its_width_allows(
    tmp_path: Path, granularity: Granularity, rounding: Rounding
) -> None:
    """Every operation on the exact profile's own operands, so that no error is another's."""
    scheme = tiny_quantization(linear_weights=granularity, word_embedding=granularity)
    artifact = tiny_artifact(tmp_path / "a", quantization=scheme)
    accelerator = wearable(**WIDEST, rounding=rounding)
    largest = largest_magnitudes(artifact, 7)
    program = lower(artifact.path, artifact.encoder, artifact.parameters, largest, accelerator.fixed)
    inputs = graph_inputs(artifact.evaluation, next(equal_length_batches(artifact.evaluation.lengths)))
    exact: dict[str, np.ndarray] = {}
    execute(artifact.encoder, reference.KERNELS, artifact.parameters, inputs,
            lambda op, _, results: exact.update({op.outputs[0]: results[0]}))  # fmt: skip
    values = dict(inputs)
    kernels = FixedDatapath(accelerator).kernels
    for op in program.encoder.operations:
        operands = {role: program.parameters.get(name, values.get(name)) for role, name in op.inputs.items()}
        result, name = kernels[op.kind](**operands, **op.attributes), op.outputs[0]
        f = program.fraction_bits.get(name)
        if f is None and op.kind is OpKind.QUANTIZE:
            assert np.abs(result.astype(int) - exact[name]).max() <= 1, op.name
            assert np.mean(result != exact[name]) < 0.02, op.name  # ties only
            values[name] = exact[name]
            continue
        real = real_values(result, f) if f is not None else result
        # Of 20 bits with a spare one for margin; tables of 256 entries are the coarsest, 1.3e-4 for GELU's tail.
        tolerance = {OpKind.GELU: 2e-4, OpKind.TANH: 1e-4}.get(op.kind, 2e-5) * max(1.0, largest[name])
        assert np.abs(real - exact[name]).max() <= tolerance, op.name
        values[name] = np.rint(np.ldexp(exact[name].astype(np.float64), f or 0)).astype(np.int32)


def test_wide_integers_predict_what_the_exact_profile_predicts(artifact: Artifact) -> None:
    report, values = simulate(artifact, wearable(**WIDEST), profile=Profile.FIXED)
    exact, exact_values = simulate(artifact, wearable())
    found = report.fixed
    assert found is not None
    assert exact.fixed is None
    assert (report.profile, exact.profile) == (Profile.FIXED, Profile.EXACT)
    assert found.exact_score == exact.score
    assert found.score_loss_points == pytest.approx(100 * (exact.score - report.score))
    assert found.label_flips == np.sum(values.logits.argmax(-1) != exact_values.logits.argmax(-1)) == 0
    assert found.logits_max_abs_difference == np.abs(values.logits - exact_values.logits).max()
    assert found.saturated_values == report.overflow_events == 0
    decibels = found.signal_to_noise_db
    assert decibels["embedding"] is not None
    assert decibels["embedding"] > 90
    assert list(decibels) == [op.name for op in artifact.encoder.operations if op.kind is not OpKind.QUANTIZE]
    narrow, _ = simulate(artifact, wearable(residual_bits=8, activation_bits=8), profile=Profile.FIXED)
    assert narrow.fixed is not None
    assert narrow.fixed.signal_to_noise_db["embedding"] < decibels["embedding"] - 50  # 12 bits, 6 dB each


def test_needed_accumulators_overflow_nowhere_and_one_bit_less_somewhere(artifact: Artifact) -> None:
    report, _ = simulate(artifact, wearable(), profile=Profile.FIXED)
    assert report.fixed is not None
    needed = report.fixed.needed_accumulator_bits
    products = {OpKind.TERNARY_LINEAR, OpKind.ATTENTION_SCORES, OpKind.ATTENTION_CONTEXT}
    assert set(needed) == {op.name for op in artifact.encoder.operations if op.kind in products}
    widest = max(needed.values())
    for bits, overflows in ((widest, False), (widest - 1, True)):
        accelerator = wearable().model_copy(update={"accumulator_bits": bits})
        again, _ = simulate(artifact, accelerator, profile=Profile.FIXED)
        assert (again.overflow_events > 0) is overflows
        if overflows:
            assert set(again.overflow_events_by_operation) <= {name for name in needed if needed[name] == widest}


def test_a_format_without_margin_saturates_and_says_where(artifact: Artifact) -> None:
    report, _ = simulate(artifact, wearable(calibration_rows=1, calibration_margin_bits=0), profile=Profile.FIXED)
    assert report.fixed is not None
    assert report.fixed.calibration_rows == 1
    assert report.fixed.saturated_values == sum(report.fixed.saturated_values_by_operation.values()) > 0


def test_threads_and_the_number_of_rows_change_no_value(artifact: Artifact) -> None:
    _, alone = simulate(artifact, wearable(), profile=Profile.FIXED, threads=1)
    _, several = simulate(artifact, wearable(), profile=Profile.FIXED, threads=3, limit=4)
    assert several.logits.tobytes() == alone.logits[:4].tobytes()
    assert all(np.array_equal(several.digests[name], alone.digests[name][:4]) for name in alone.digests)


def test_scales_taken_at_run_time_are_refused_by_name(tmp_path: Path) -> None:
    dynamic = tiny_quantization(activations=ActivationScaling.DYNAMIC_PER_TOKEN)
    refused = tiny_artifact(tmp_path / "a", quantization=dynamic)
    with pytest.raises(SimulatorError, match=r"quantization\.activations.*dynamic_per_token"):
        simulate(refused, wearable(), profile=Profile.FIXED)


def test_the_command_prints_what_integers_cost(artifact: Artifact, tmp_path: Path) -> None:
    arguments = ["simulate", str(artifact.path), "--accelerator", "wearable", "--profile", "fixed"]
    told = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "out")])
    assert told.exit_code == 0, told.output
    assert "points lost to the exact profile" in told.stdout
    written = json.loads((tmp_path / "out" / "simulation.json").read_text())
    assert written["profile"] == "fixed"
    assert written["accelerator"]["fixed"]["residual_bits"] == 16
    wrong = CliRunner().invoke(main, [*arguments[:-1], "floating", "--out", str(tmp_path / "other")])
    assert wrong.exit_code == 2


def test_the_first_divergent_operation_is_named(artifact: Artifact) -> None:
    limits = AccumulatorRange.of_bits(24, wraps=False)
    inputs = graph_inputs(artifact.evaluation, np.array([0]))
    oracle = Run(reference.KERNELS, artifact.parameters)
    simulator = Run(Datapath(limits).kernels, artifact.parameters)
    assert first_divergent_operation(artifact.encoder, inputs, oracle, simulator) is None
    bias = artifact.parameters["layers.1.attention.key.bias"].copy()
    bias[5] += 1
    changed = Run(simulator.kernels, {**artifact.parameters, "layers.1.attention.key.bias": bias})
    found = first_divergent_operation(artifact.encoder, inputs, oracle, changed)
    assert found is not None
    assert (found.operation, found.output) == ("layers.1.attention.key", "layers.1.attention.key.output")
    assert found.index == (0, 0, 5)
    assert found.second == pytest.approx(found.first + 1)
    assert found.different_values == artifact.evaluation.lengths[0]
    assert "layers.1.attention.key: " in str(found)


def test_noise_is_in_decibels() -> None:
    noise = QuantizationNoise()
    noise.add("a", np.array([3.0, 4.0]), np.array([3.0, 4.5]))
    noise.add("a", np.array([0.0]), np.array([0.0]))
    noise.add("equal", np.array([1.0]), np.array([1.0]))
    assert noise.decibels == {"a": pytest.approx(20.0), "equal": None}  # 25 over 0.25


@pytest.mark.parametrize(("lowest", "highest", "bits"), [(0, 0, 2), (-2, 1, 2), (-3, 0, 3), (0, 127, 8), (-129, 5, 9)])
def test_the_width_for_a_range(lowest: int, highest: int, bits: int) -> None:
    assert AccumulatorRange.bits_for(lowest, highest) == bits
    limits = AccumulatorRange.of_bits(bits, wraps=False)
    assert limits.low <= lowest <= highest <= limits.high


@pytest.mark.parametrize(
    ("field", "value"),
    [("residual_bits", 21), ("table_entries", 100), ("layer_norm_bits", 16), ("gelu", "cubic"), ("speed", 1)],
)
def test_widths_are_refused_by_name(tmp_path: Path, field: str, value: object) -> None:
    preset = Path(sys.modules["hwsim.config"].__file__).parent / "configs" / "wearable.toml"
    file = tmp_path / "mine.toml"
    file.write_text(preset.read_text() + f"\n[fixed]\n{field} = {json.dumps(value)}\n")
    with pytest.raises(SimulatorError, match=rf"fixed.*{field}|{field}.*power of two|{field}.*centred"):
        read_accelerator(str(file))


def test_integer_units_are_counted_by_hand_for_one_sentence(artifact: Artifact) -> None:
    """A GELU from a table: 8 words, a product and a pair of entries of 24 bits; scores: a product and two words."""
    widths = FixedWidths(gelu=Approximation.TABLE)
    gelus, tokens, layers, hidden, heads = 37, 9, 2, 24, 3
    nonzero = {op.name: 0 for op in artifact.encoder.of_kind(OpKind.TERNARY_LINEAR)}
    counted: dict[OpKind, Counter[Action]] = {}
    for step in workload(artifact.encoder, tokens, nonzero, widths):
        counted.setdefault(step.operation.kind, Counter()).update(step.actions)
    elements = layers * tokens * gelus
    assert counted[OpKind.GELU] == {
        Action.WORD_OPERATION: 8 * elements, Action.INT32_MULTIPLY: elements, Action.TABLE_READ_BIT: 48 * elements,
    }  # fmt: skip
    assert counted[OpKind.RESIDUAL_ADD] == {Action.WORD_OPERATION: layers * 2 * tokens * hidden * 4}
    scores = layers * heads * tokens**2
    assert counted[OpKind.ATTENTION_SCORES] == {
        Action.INT8_MAC: layers * tokens**2 * hidden, Action.INT32_MULTIPLY: scores, Action.WORD_OPERATION: 2 * scores,
    }  # fmt: skip
    assert not counted[OpKind.FIRST_TOKEN]
    assert set(counted) == {op.kind for op in artifact.encoder.operations}


def test_the_estimate_is_that_of_the_profile(artifact: Artifact) -> None:
    accelerator = wearable()
    exact, fixed = (simulate(artifact, accelerator, profile=profile)[0].estimate for profile in Profile)
    assert (exact.profile, fixed.profile) == (Profile.EXACT, Profile.FIXED)
    floats = (Action.FLOAT32_ADD, Action.FLOAT32_MULTIPLY)
    assert all(
        exact.actions_per_inference[action] > 0 and action not in fixed.actions_per_inference for action in floats
    )
    assert fixed.actions_per_inference[Action.INT32_MULTIPLY] > 0
    assert Action.INT32_MULTIPLY not in exact.actions_per_inference
    for action in (Action.TERNARY_MAC_NONZERO, Action.TERNARY_MAC_ZERO, Action.INT8_MAC):
        assert fixed.actions_per_inference[action] == exact.actions_per_inference[action]
    assert fixed.energy_pj_per_inference < exact.energy_pj_per_inference
    assert fixed.area_mm2["vector_units"] < exact.area_mm2["vector_units"]


def test_wide_activations_take_two_bytes_up_to_16_bits_and_four_beyond(artifact: Artifact) -> None:
    def sizes(widths: FixedWidths | None) -> Mapping[str, int]:
        nonzero = {op.name: 0 for op in artifact.encoder.of_kind(OpKind.TERNARY_LINEAR)}
        return Inference.of(artifact.encoder, 9, nonzero, widths).activations.sizes

    exact, narrow, wide = sizes(None), sizes(FixedWidths()), sizes(FixedWidths(residual_bits=17))
    for name in exact:
        same = name == artifact.encoder.graph_output or artifact.encoder.activations[name].dtype != "float32"
        assert narrow[name] == exact[name] // (1 if same else 2), name
    stream = {OpKind.EMBEDDING, OpKind.RESIDUAL_ADD, OpKind.LAYER_NORM, OpKind.FIRST_TOKEN}
    residual = {op.outputs[0] for op in artifact.encoder.operations if op.kind in stream}
    assert {name for name in exact if wide[name] != narrow[name]} == residual


def test_the_page_tells_what_integers_cost(artifact: Artifact) -> None:
    figures = StageFigures()
    summary = Summary(
        schema_version=1,
        stages=Stages(teacher=figures, student=figures, simulated=figures, deployed=figures),
        agreement=Agreement(**dict.fromkeys(Agreement.model_fields)),
        energy_pj_per_inference=1.0,
        cycles_per_inference=1.0,
    )
    report, _ = simulate(artifact, wearable(), profile=Profile.FIXED)
    page = render(summary, report, ())
    assert report.fixed is not None
    assert f"{report.fixed.signal_to_noise_db['layers.1.attention.scores']:.1f} dB" in page
    assert f"{report.fixed.needed_accumulator_bits['layers.0.feed_forward.down']} bits</td>" in page
    exact, _ = simulate(artifact, wearable())
    assert "Integers alone" not in render(summary, exact, ())


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"])
def test_the_same_holds_interpreted_and_with_bounds_checked(setting: str, tmp_path: Path) -> None:
    """NumPy's scalars warn of an overflow where machine code would wrap; here a warning is an error."""
    here = Path(__file__).parent
    names = ("fixed_point", "fixed_units", "exact_product", "accumulator", "datapath", "compiled_numerics")
    files = [str(here / f"test_{name}.py") for name in names]
    chosen = "not layer_norm or (layer_norm and 24) or equal_values"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-W", "error::RuntimeWarning", "-k", chosen, *files]
    environment = {**os.environ, setting: "1", "NUMBA_CACHE_DIR": str(tmp_path)}  # no code compiled otherwise
    done = subprocess.run(command, cwd=here.parents[1], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
