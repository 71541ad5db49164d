"""A design point from a shape costs what the estimate of an artifact of that shape says, and little time."""

from __future__ import annotations

import time

import pytest

from hwsim.config import Dataflow, Profile, preset_names, read_accelerator
from hwsim.design import BERT_BASE, STATIC_SCALES, evaluate_design
from hwsim.errors import SimulatorError
from hwsim.estimate import estimate
from tests.builders import tiny_shape
from ti_qat.artifact.encoder import OpKind, build_encoder


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("dataflow", list(Dataflow))
@pytest.mark.parametrize("profile", list(Profile))
def test_it_is_the_estimate_without_the_report(preset: str, dataflow: Dataflow, profile: Profile) -> None:
    accelerator = read_accelerator(preset).model_copy(
        update={"dataflow": dataflow, "weight_buffer_bytes": 512, "activation_buffer_bytes": 1500}
    )
    encoder = build_encoder(tiny_shape(), STATIC_SCALES)
    sizes = {
        op.name: encoder.parameters[op.inputs["weight_codes"]].shape for op in encoder.of_kind(OpKind.TERNARY_LINEAR)
    }
    nonzero = {name: round(0.5 * int(n) * int(k)) for name, (n, k) in sizes.items()}
    whole = estimate(encoder, accelerator, [9], nonzero, profile)
    point = evaluate_design(tiny_shape(), accelerator, 9, 0.5, profile=profile)
    assert (point.cycles, point.compute_cycles) == (whole.cycles_per_inference, whole.compute_cycles_per_inference)
    assert point.latency_ms == whole.latency_ms
    # 1e-9: the same products in binary64, added in another order.
    assert point.energy_pj == pytest.approx(whole.energy_pj_per_inference, rel=1e-9)
    assert point.energy_pj_by_level == pytest.approx(whole.energy_pj.by_level, rel=1e-9)
    ends = (whole.energy_band.low_pj, whole.energy_band.high_pj)
    assert (point.energy_low_pj, point.energy_high_pj) == pytest.approx(ends, rel=1e-9)
    assert point.area_mm2 == sum(whole.area_mm2.values()) > 0
    moved = whole.memory.traffic_bytes_per_inference
    assert (point.dram_read_bytes, point.dram_write_bytes) == (moved["dram_read"], moved["dram_write"])
    assert point.activation_buffer_bytes == moved["activation_buffer_read"] + moved["activation_buffer_write"]
    assert (point.weights_resident, point.activations_fit) == (
        whole.memory.weights_resident,
        whole.memory.activations_fit,
    )


def test_more_zero_weights_cost_less_energy_and_the_same_time() -> None:
    dense, sparse = (evaluate_design(tiny_shape(), read_accelerator("wearable"), 9, share) for share in (1.0, 0.3))
    assert sparse.energy_pj < dense.energy_pj
    assert sparse.cycles == dense.cycles


def test_more_of_anything_is_never_slower() -> None:
    wearable = read_accelerator("wearable")
    slow = evaluate_design(BERT_BASE, wearable, 128, 0.6).cycles
    for more in ({"dram_bandwidth_bytes_per_s": 8e9}, {"dram_latency_ns": 0.0}, {"vector_lanes": 64}):
        assert evaluate_design(BERT_BASE, wearable.model_copy(update=more), 128, 0.6).cycles < slow


@pytest.mark.parametrize(
    ("tokens", "fraction", "where"), [(0, 0.5, "tokens"), (20, 0.5, "tokens"), (9, 1.1, "nonzero")]
)
def test_what_no_sentence_has_is_refused(tokens: int, fraction: float, where: str) -> None:
    with pytest.raises(SimulatorError, match=where):
        evaluate_design(tiny_shape(), read_accelerator("wearable"), tokens, fraction)


def test_bert_base_takes_milliseconds() -> None:
    """The bar is 20 ms a core; a fivefold guards against a regression of the order, not of the machine."""
    wearable = read_accelerator("wearable")
    evaluate_design(BERT_BASE, wearable, 128, 0.6)
    began = time.process_time()
    for columns in range(8, 18):
        evaluate_design(BERT_BASE, wearable.model_copy(update={"array_columns": columns}), 128, 0.6)
    assert (time.process_time() - began) / 10 < 0.1
