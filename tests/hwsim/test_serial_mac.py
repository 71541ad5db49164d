"""The bit-serial array: values and overflows of the parallel one, eight cycles for each of its steps."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import numpy as np
import pytest

from hwsim.config import Accelerator, Dataflow, ZeroGating, read_accelerator
from hwsim.energy.area import area_mm2
from hwsim.errors import SimulatorError
from hwsim.estimate import estimate
from hwsim.schedule.timing import array_cycles
from hwsim.schedule.workload import nonzero_weights
from hwsim.simulate import Profile, simulate
from hwsim.units import int8_mac, serial_mac, ternary_mac
from hwsim.units.accumulator import AccumulatorRange
from hwsim.units.actions import Action
from tests.builders import tiny_artifact
from ti_qat.artifact.io import Artifact


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_artifact(tmp_path_factory.mktemp("artifact") / "tiny")


def serial(name: str = "wearable", **changes: object) -> Accelerator:
    return read_accelerator(name).model_copy(update={"activation_bits_per_cycle": 1, **changes})


def test_every_product_of_two_codes() -> None:
    codes = np.arange(-127, 128, dtype=np.int8)
    limits = AccumulatorRange.of_bits(24, wraps=False)
    every = codes.reshape(1, -1, 1)
    scores, _ = serial_mac.accumulate_scores(every, every, 1, limits)
    assert np.array_equal(scores[0, 0], np.multiply.outer(codes.astype(int), codes.astype(int)))


@pytest.mark.parametrize("wraps", [False, True])
@pytest.mark.parametrize("bits", [4, 8, 9, 12, 16, 32])
@pytest.mark.parametrize("k", [1, 63, 64, 65, 130])
def test_ternary_sums_and_events_are_those_of_the_parallel_array(k: int, bits: int, wraps: bool) -> None:
    rng = np.random.default_rng(k)
    x, w = rng.integers(-127, 128, (4, k)).astype(np.int8), rng.integers(-1, 2, (6, k)).astype(np.int8)
    x[0], x[1], w[0], w[1], w[2] = 127, -127, 1, -1, 0
    limits = AccumulatorRange.of_bits(bits, wraps=wraps)
    sums, events = serial_mac.accumulate(x, w, limits)
    expected, expected_events = ternary_mac.accumulate(x, w, limits)
    assert np.array_equal(sums, expected)
    assert events == expected_events


@pytest.mark.parametrize("wraps", [False, True])
@pytest.mark.parametrize("bits", [12, 16, 24])
def test_attention_products_are_those_of_the_parallel_array(bits: int, wraps: bool) -> None:
    rng = np.random.default_rng(bits)
    query, key = (rng.integers(-127, 128, (2, 5, 12)).astype(np.int8) for _ in range(2))
    probabilities = rng.integers(0, 128, (2, 3, 5, 5)).astype(np.int8)
    query[0, 0] = key[0, 0] = -127
    limits = AccumulatorRange.of_bits(bits, wraps=wraps)
    for of_serial, of_parallel in (
        (serial_mac.accumulate_scores(query, key, 3, limits), int8_mac.accumulate_scores(query, key, 3, limits)),
        (
            serial_mac.accumulate_context(probabilities, key, 3, limits),
            int8_mac.accumulate_context(probabilities, key, 3, limits),
        ),
    ):
        assert np.array_equal(of_serial[0], of_parallel[0])
        assert of_serial[1] == of_parallel[1]


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("bits", [9, 24])
def test_a_simulation_has_the_same_codes_and_events(artifact: Artifact, profile: Profile, bits: int) -> None:
    parallel = read_accelerator("wearable").model_copy(update={"accumulator_bits": bits})
    expected, expected_values = simulate(artifact, parallel, profile=profile, limit=3)
    found, values = simulate(artifact, serial(accumulator_bits=bits), profile=profile, limit=3)
    assert values.logits.tobytes() == expected_values.logits.tobytes()
    assert all(np.array_equal(values.digests[name], expected_values.digests[name]) for name in values.digests)
    assert found.overflow_events_by_operation == expected.overflow_events_by_operation
    assert (found.overflow_events > 0) == (bits == 9)
    assert found.cycles_per_inference > expected.cycles_per_inference


def test_cycles_stream_eight_times_as_long_between_the_same_fill_and_drain() -> None:
    m, k, n, rows, columns = 37, 70, 50, 16, 8
    for dataflow, streamed, folds in (
        (Dataflow.OUTPUT_STATIONARY, k, ceil(m / rows) * ceil(n / columns)),
        (Dataflow.WEIGHT_STATIONARY, m, ceil(k / rows) * ceil(n / columns)),
    ):
        shape = (dataflow, m, k, n, rows, columns)
        assert array_cycles(*shape, cycles_per_step=8) - array_cycles(*shape) == 7 * streamed * folds
    # One element: a bit a cycle, and nothing to fill.
    assert array_cycles(Dataflow.OUTPUT_STATIONARY, 1, 5, 1, 1, 1, cycles_per_step=8) == 40


def test_energy_has_eight_additions_for_every_product(artifact: Artifact) -> None:
    nonzero = nonzero_weights(artifact.encoder, artifact.parameters)
    parallel = estimate(artifact.encoder, read_accelerator("wearable"), [5], nonzero)
    found = estimate(artifact.encoder, serial(), [5], nonzero)
    macs = parallel.macs_per_inference
    register_bits = 64 * macs["ternary_array"] + 128 * macs["int8_array"]
    for action, more in ((Action.OPERAND_REGISTER_BIT, register_bits), (Action.WORD_OPERATION, register_bits / 32)):
        added = found.actions_per_inference[action] - parallel.actions_per_inference[action]
        assert added == more, action
    ternary = parallel.actions_per_inference["ternary_mac_nonzero"]
    assert found.actions_per_inference["ternary_mac_nonzero"] == ternary + macs["int8_array"]  # no multiplier
    assert found.actions_per_inference.get("int8_mac", 0) == 0


def test_a_gated_product_takes_no_addition(artifact: Artifact) -> None:
    nonzero = nonzero_weights(artifact.encoder, artifact.parameters)
    gated, parallel = (
        estimate(artifact.encoder, accelerator, [5], nonzero)
        for accelerator in (serial(zero_gating=ZeroGating.WEIGHTS), read_accelerator("wearable"))
    )
    register_bits = 64 * parallel.actions_per_inference["ternary_mac_nonzero"]
    register_bits += 128 * parallel.macs_per_inference["int8_array"]
    for action, more in ((Action.OPERAND_REGISTER_BIT, register_bits), (Action.WORD_OPERATION, register_bits / 32)):
        assert gated.actions_per_inference[action] - parallel.actions_per_inference[action] == more, action
    assert gated.actions_per_inference["ternary_mac_zero"] == 0


def test_a_serial_element_has_an_adder_in_place_of_the_multiplier() -> None:
    tables = ("logic_45nm", "sram_45nm_lop", "dram_lpddr4")
    found = area_mm2(serial(energy_tables=tables, array_rows=3, array_columns=5))["array"]
    assert found == pytest.approx(15 * (290.7 + 278.0 / 2 + 25 * 5.98) * 1e-6)


def test_activations_that_stay_cannot_be_serial(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "hwsim" / "configs" / "wearable.toml").read_text(encoding="utf-8")
    file = tmp_path / "serial.toml"
    file.write_text(text.replace('"output_stationary"', '"input_stationary"') + "\nactivation_bits_per_cycle = 1\n")
    with pytest.raises(SimulatorError, match="activation_bits_per_cycle"):
        read_accelerator(str(file))
