"""The trace is one that a viewer reads, and its durations are the estimate's cycles."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from hwsim.config import Dataflow, preset_names, read_accelerator
from hwsim.estimate import Estimate, estimate
from hwsim.schedule.workload import nonzero_weights
from hwsim.trace import trace
from tests.builders import tiny_parameters, tiny_quantization, tiny_shape
from ti_qat.artifact.encoder import build_encoder

ENCODER = build_encoder(tiny_shape(), tiny_quantization())
NONZERO = nonzero_weights(ENCODER, tiny_parameters(tiny_shape(), tiny_quantization()))
SMALL = {"weight_buffer_bytes": 256, "activation_buffer_bytes": 1000, "array_rows": 4, "array_columns": 4}


def traced(preset: str, **changes: object) -> tuple[dict[str, Any], Estimate]:
    accelerator = read_accelerator(preset).model_copy(update=changes)
    cost = estimate(ENCODER, accelerator, [9], NONZERO)
    written = json.dumps(trace(cost.timeline, accelerator.clock_hz, preset), allow_nan=False)
    return json.loads(written), cost


def tracks(found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    events = found["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    return {name: [e for e in events if e["ph"] == "X" and e["tid"] == track] for track, name in names.items()}


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("changes", [{}, SMALL, SMALL | {"dataflow": Dataflow.WEIGHT_STATIONARY}])
def test_durations_sum_to_the_cycles_of_every_unit(preset: str, changes: dict[str, Any]) -> None:
    found, cost = traced(preset, **changes)
    by_unit = tracks(found)
    dram = by_unit.pop("dram")
    assert {name: sum(e["args"]["cycles"] for e in events) for name, events in by_unit.items()} == cost.cycles.by_unit
    assert sum(e["args"]["cycles"] for events in by_unit.values() for e in events) == cost.cycles_per_inference
    moved = cost.memory.traffic_bytes_per_inference
    assert sum(e["args"]["read_bytes"] for e in dram) == moved["dram_read"]
    assert sum(e["args"]["written_bytes"] for e in dram) == moved["dram_write"]


@pytest.mark.parametrize("changes", [{}, SMALL])
def test_events_of_a_track_follow_each_other(changes: dict[str, Any]) -> None:
    found, cost = traced("wearable", **changes)
    clock = found["otherData"]["clock_hz"]
    for events in tracks(found).values():
        for event in events:
            # 1e-9: microseconds are cycles over the clock, once as a quotient and once as a product.
            assert event["ts"] == pytest.approx(event["args"]["start_cycle"] / clock * 1e6, rel=1e-9)
            assert event["dur"] == pytest.approx(event["args"]["cycles"] / clock * 1e6, rel=1e-9)
        cycles = [(e["args"]["start_cycle"], e["args"]["start_cycle"] + e["args"]["cycles"]) for e in events]
        assert all(start <= end for start, end in cycles)
        assert all(before[1] <= after[0] for before, after in pairwise(cycles))
    work = sorted(
        (e["args"]["start_cycle"], e["args"]["cycles"])
        for name, events in tracks(found).items()
        for e in events
        if name != "dram"
    )
    assert work[0][0] == 0
    assert all(start + cycles == after for (start, cycles), (after, _) in pairwise(work))  # one thing after the other
    assert sum(work[-1]) == cost.cycles_per_inference


@pytest.mark.parametrize("changes", [{}, SMALL])
def test_bandwidth_never_exceeds_the_channels(changes: dict[str, Any]) -> None:
    found, _ = traced("wearable", **changes)
    counters = [e for e in found["traceEvents"] if e["ph"] == "C"]
    assert [e["ts"] for e in counters] == sorted(e["ts"] for e in counters)
    rates = [e["args"]["bytes_per_s"] for e in counters]
    assert 0 < max(rates) <= read_accelerator("wearable").dram_bandwidth_bytes_per_s
    assert rates[-1] == 0
