"""Energy is counted actions times sourced prices; every split sums to its whole."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hwsim.config import Dataflow, preset_names, read_accelerator
from hwsim.energy import prices as energy
from hwsim.errors import SimulatorError
from hwsim.estimate import Estimate, estimate
from hwsim.schedule.workload import nonzero_weights, workload
from hwsim.units.actions import Action
from hwsim.units.leaf_actions import actions_of
from tests.builders import tiny_parameters, tiny_quantization, tiny_shape
from ti_qat.artifact import numerics
from ti_qat.artifact.encoder import build_encoder, gemms
from ti_qat.artifact.schema import ActivationScaling

LENGTHS = [3, 7, 7, 12]


def tiny_estimate(preset: str, lengths: list[int] = LENGTHS, **changes: object) -> Estimate:
    shape, scheme = tiny_shape(), tiny_quantization(activations=ActivationScaling.DYNAMIC_PER_TOKEN)
    encoder = build_encoder(shape, scheme)
    accelerator = read_accelerator(preset).model_copy(update=changes)
    return estimate(encoder, accelerator, lengths, nonzero_weights(encoder, tiny_parameters(shape, scheme)))


@pytest.mark.parametrize("preset", preset_names())
def test_every_action_has_one_price_with_unit_and_source(preset: str) -> None:
    prices = energy.prices(read_accelerator(preset))
    assert set(prices) == set(Action)
    for action, price in prices.items():
        assert price.pj > 0, action
        assert price.row.source
        assert price.row.unit == ("pJ/ns" if action.value.endswith("ns") else price.row.unit)


@pytest.mark.parametrize("preset", preset_names())
def test_energy_is_the_sum_of_counts_times_prices(preset: str) -> None:
    result = tiny_estimate(preset)
    prices = energy.prices(read_accelerator(preset))
    total = sum(count * prices[Action(action)].pj for action, count in result.actions_per_inference.items())
    # 1e-9: the same products in binary64, added in another order.
    assert result.energy_pj_per_inference == pytest.approx(total, rel=1e-9)
    for split, whole in (
        (result.energy_pj, result.energy_pj_per_inference),
        (result.cycles, result.cycles_per_inference),
    ):
        for way in (split.by_unit, split.by_layer, split.by_level):
            assert sum(way.values()) == pytest.approx(whole, rel=1e-9)


def test_the_average_is_that_of_the_sentences() -> None:
    alone = [tiny_estimate("wearable", [length]) for length in LENGTHS]
    together = tiny_estimate("wearable")
    for field in ("cycles_per_inference", "energy_pj_per_inference", "latency_ms"):
        assert getattr(together, field) == pytest.approx(np.mean([getattr(e, field) for e in alone]), rel=1e-9)
    assert together.memory.activation_peak_bytes == max(e.memory.activation_peak_bytes for e in alone)
    assert together.longest_latency_ms == max(e.latency_ms for e in alone)


def test_macs_are_those_of_the_encoder_and_zero_weights_are_told_apart() -> None:
    shape, scheme = tiny_shape(), tiny_quantization()
    encoder, parameters = build_encoder(shape, scheme), tiny_parameters(shape, scheme)
    counted: Counter[Action] = Counter()
    for step in workload(encoder, 9, nonzero_weights(encoder, parameters)):
        counted.update(step.actions)
    macs: Counter[str] = Counter()
    zeros = 0
    for gemm in gemms(encoder, 1, 9):
        macs[gemm.kind] += gemm.macs
        if gemm.kind == "ternary_linear":
            zeros += gemm.m * int(np.sum(parameters[f"{gemm.operation}.weight_codes"] == 0))
    assert counted[Action.TERNARY_MAC_ZERO] == zeros
    assert counted[Action.TERNARY_MAC_NONZERO] == macs["ternary_linear"] - zeros
    assert counted[Action.INT8_MAC] == macs["attention_scores"] + macs["attention_context"]


@pytest.mark.parametrize("dataflow", list(Dataflow))
def test_fewer_elements_never_take_fewer_cycles(dataflow: Dataflow) -> None:
    small, large = (
        tiny_estimate("wearable", dataflow=dataflow, array_rows=size, array_columns=size).compute_cycles_per_inference
        for size in (1, 8)
    )
    assert small > large


def test_leaf_functions_are_counted_by_running_them() -> None:
    tanh = actions_of(numerics.tanh)
    exponential = actions_of(numerics.exp_nonpositive)
    # exp: 3 multiplications and 2 subtractions to reduce, 5 + 5 for the polynomial, 3 and 2 to assemble it.
    assert (exponential[Action.FLOAT32_MULTIPLY], exponential[Action.FLOAT32_ADD]) == (11, 9)
    # tanh around it: one multiplication, an addition, a subtraction, and a divide (5 and 2).
    assert tanh[Action.FLOAT32_MULTIPLY] == exponential[Action.FLOAT32_MULTIPLY] + 6
    assert tanh[Action.FLOAT32_ADD] == exponential[Action.FLOAT32_ADD] + 4


def test_missing_and_doubled_prices_are_refused() -> None:
    for tables in (("logic_22nm",), ("logic_22nm", "logic_45nm", "sram_22nm_lop", "dram_lpddr4"), ("nowhere",)):
        with pytest.raises(SimulatorError, match="energy_tables"):
            tiny_estimate("wearable", energy_tables=tables)
