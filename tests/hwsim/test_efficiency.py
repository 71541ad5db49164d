"""Energy where users of such models found errors, and what it means in joules, watts and charges."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hwsim.config import Battery, Dataflow, Profile, read_accelerator
from hwsim.energy.bands import EnergyBand
from hwsim.energy.efficiency import efficiency
from hwsim.energy.prices import counted_actions, prices
from hwsim.errors import SimulatorError
from hwsim.estimate import Estimate, estimate
from hwsim.schedule.memory import Traffic
from hwsim.schedule.workload import Unit, Work
from hwsim.units.actions import Action, total
from tests.builders import tiny_artifact, tiny_quantization, tiny_shape
from ti_qat.artifact.encoder import Encoder, Gemm, Operation, OpKind, build_encoder, gemms
from ti_qat.artifact.schema import ActivationScaling
from ti_qat.cli import main

ENCODER = build_encoder(tiny_shape(), tiny_quantization())
BAND = EnergyBand(low_pj=1e6, nominal_pj=2e6, high_pj=8e6, causes=())


def none_nonzero(encoder: Encoder = ENCODER) -> dict[str, int]:
    return {op.name: 0 for op in encoder.of_kind(OpKind.TERNARY_LINEAR)}


def cost(profile: Profile = Profile.EXACT, lengths: Sequence[int] = (3, 9, 9), **changes: Any) -> Estimate:
    """Return the estimate of a tiny model whose weights are all zero."""
    accelerator = read_accelerator("wearable").model_copy(update=changes)
    return estimate(ENCODER, accelerator, lengths, none_nonzero(), profile)


def test_joules_watts_and_operations_of_a_band_by_hand() -> None:
    """2 uJ in 4 ms are 0.5 mW; 3 million MACs are 6 million operations: 3 TOPS/W and 1.5 GOPS."""
    found = efficiency(BAND, {"ternary_array": 2e6, "int8_array": 1e6}, 4.0, None)
    assert found.joules_per_inference.model_dump() == pytest.approx({"low": 1e-6, "nominal": 2e-6, "high": 8e-6})
    assert found.average_power_w.model_dump() == pytest.approx({"low": 2.5e-4, "nominal": 5e-4, "high": 2e-3})
    # The least energy is the most operations a joule: the ends of a range are its own lowest and highest.
    assert found.tops_per_w.model_dump() == pytest.approx({"low": 0.75, "nominal": 3.0, "high": 6.0})
    assert found.effective_tops == pytest.approx(1.5e-3)
    assert found.inferences_per_charge is None


def test_a_charge_lasts_for_its_usable_joules() -> None:
    """100 mAh at 3.7 V are 1332 J, of which 80 % are used."""
    battery = Battery(capacity_mah=100.0, voltage_v=3.7, usable_fraction=0.8)
    charge = efficiency(BAND, {"ternary_array": 1.0}, 4.0, battery).inferences_per_charge
    assert charge is not None
    assert charge.nominal == pytest.approx(1332 * 0.8 / 2e-6)
    assert (charge.low, charge.high) == pytest.approx((1332 * 0.8 / 8e-6, 1332 * 0.8 / 1e-6))


def test_tables_of_zeros_are_refused() -> None:
    nothing = EnergyBand(low_pj=0, nominal_pj=0, high_pj=0, causes=())
    with pytest.raises(SimulatorError, match="energy_tables: expected figures above 0"):
        efficiency(nothing, {"ternary_array": 1.0}, 1.0, None)


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("dataflow", list(Dataflow))
@pytest.mark.parametrize("buffer_bytes", [512, 1 << 20])
def test_energy_is_conserved(profile: Profile, dataflow: Dataflow, buffer_bytes: int) -> None:
    """Split by level, unit or layer, or summed over the counts of all actions: the same picojoules."""
    found = cost(profile, dataflow=dataflow, weight_buffer_bytes=buffer_bytes, activation_buffer_bytes=buffer_bytes)
    # 1e-9: the same products in binary64, added in another order.
    for way in (found.energy_pj.by_level, found.energy_pj.by_unit, found.energy_pj.by_layer):
        assert sum(way.values()) == pytest.approx(found.energy_band.nominal_pj, rel=1e-9)
    assert found.energy_pj_per_inference == pytest.approx(found.energy_band.nominal_pj, rel=1e-9)
    assert found.energy_band.low_pj <= found.energy_band.nominal_pj <= found.energy_band.high_pj


def test_partial_sums_are_written_and_read_back_and_both_are_paid_for() -> None:
    """Weight stationary on 4 rows: all folds of K but the last write 3 bytes a sum, all but the first read them."""
    wide = {"array_columns": 64, "dataflow": Dataflow.WEIGHT_STATIONARY}
    folded, whole = (cost(lengths=[9], array_rows=rows, **wide) for rows in (4, 64))
    sums = sum(gemm.m * gemm.n * gemm.count * (ceil(gemm.k / 4) - 1) for gemm in gemms(ENCODER, 1, 9))
    price = prices(read_accelerator("wearable"))
    actions = (Action.ACTIVATION_BUFFER_READ_BIT, Action.ACTIVATION_BUFFER_WRITE_BIT)
    for action in actions:
        assert folded.actions_per_inference[action] - whole.actions_per_inference[action] == 3 * 8 * sums
    paid = folded.energy_pj.by_level["activation_buffer"] - whole.energy_pj.by_level["activation_buffer"]
    assert paid == pytest.approx(3 * 8 * sums * sum(price[action].pj for action in actions))


def test_activations_between_layers_cost_dram_only_where_they_do_not_fit() -> None:
    kept, spilled = (cost(activation_buffer_bytes=size) for size in (1 << 20, 1024))
    assert kept.memory.activations_fit
    assert not spilled.memory.activations_fit
    assert kept.actions_per_inference.get("dram_write_bit", 0) == 0
    assert spilled.actions_per_inference["dram_write_bit"] > 0
    # What stays is still read and written, at the buffer's price.
    assert kept.energy_pj.by_level["activation_buffer"] > 0
    assert spilled.energy_pj.by_level["dram"] > kept.energy_pj.by_level["dram"]


@pytest.mark.parametrize(
    ("dataflow", "ternary", "int8"),
    [
        # K = 5 on 4 rows: a fold of 4, whose operands pass 1 + 2 + 3 + 4 registers a column, and one of 1.
        ("output_stationary", (8 + 2) * 3 * 5 * 7, (8 + 8) * 2 * 3 * 5 * 7),
        ("weight_stationary", 8 * 3 * 5 * 7 + 2 * 7 * 11, 8 * 2 * 3 * 5 * 7 + 8 * 2 * 7 * 11),
        ("input_stationary", 2 * 3 * 5 * 7 + 8 * 3 * 11, 8 * 2 * 3 * 5 * 7 + 8 * 2 * 3 * 11),
    ],
)
def test_operands_pay_for_every_register_on_their_way(dataflow: str, ternary: int, int8: int) -> None:
    accelerator = read_accelerator("wearable").model_copy(update={"dataflow": Dataflow(dataflow), "array_rows": 4})
    for unit, count, expected in ((Unit.TERNARY_ARRAY, 1, ternary), (Unit.INT8_ARRAY, 2, int8)):
        kind = OpKind.TERNARY_LINEAR if unit is Unit.TERNARY_ARRAY else OpKind.ATTENTION_SCORES
        gemm = Gemm("product", kind, m=3, k=5, n=7, count=count)
        work = Work(Operation("product", kind, {}, ()), unit, "layers.0", 1, 21, gemm, total())
        counted = counted_actions(work, Traffic(), 1, accelerator)
        assert counted[Action.OPERAND_REGISTER_BIT] == expected


def test_zero_weights_pay_for_their_clock() -> None:
    found = cost()
    array_bits = found.actions_per_inference["operand_register_bit"]
    price = prices(read_accelerator("wearable"))
    macs = found.macs_per_inference
    expected = (
        macs["ternary_array"] * price[Action.TERNARY_MAC_ZERO].pj
        + macs["int8_array"] * price[Action.INT8_MAC].pj
        + array_bits * price[Action.OPERAND_REGISTER_BIT].pj
    )
    assert found.energy_pj.by_level["array"] == pytest.approx(expected)
    assert 0 < price[Action.TERNARY_MAC_ZERO].pj < price[Action.TERNARY_MAC_NONZERO].pj


def test_scales_a_token_have_no_fixed_estimate() -> None:
    encoder = build_encoder(tiny_shape(), tiny_quantization(activations=ActivationScaling.DYNAMIC_PER_TOKEN))
    with pytest.raises(SimulatorError, match="expected static scales for the fixed profile"):
        estimate(encoder, read_accelerator("wearable"), [3], none_nonzero(encoder), Profile.FIXED)


def test_simulate_tells_energy_power_efficiency_charge_and_area_in_a_line(tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "artifact")
    preset = (Path(__file__).parents[2] / "hwsim" / "configs" / "wearable.toml").read_text()
    (tmp_path / "coin.toml").write_text(
        preset + "\n[battery]\ncapacity_mah = 225\nvoltage_v = 3.0\nusable_fraction = 0.9\n"
    )
    arguments = ["simulate", str(artifact.path), "--accelerator", str(tmp_path / "coin.toml"), "--limit", "2"]
    told = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "out")]).stdout
    line = next(line for line in told.splitlines() if "uJ an inference (" in line)
    for part in (" mW, ", " TOPS/W (", " inferences a charge, ", " mm2"):
        assert part in line
