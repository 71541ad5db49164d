"""What benchmarks.inference makes of the turns that engines took, and how a worker's calls become a turn."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.inference.engines import OURS, Case
from benchmarks.inference.figures import Turns, bars, by_engine, processor
from benchmarks.inference.inference import difference, gemm_figures
from benchmarks.inference.turns import Turn, turn_of
from benchmarks.inference.worker import turn_ms
from benchmarks.simulation.summary import merge_summary

SHORT, LONG = Case(1, 1, 8), Case(1, 1, 128)
BATCH, TWO = Case(1, 8, 128), Case(2, 1, 128)


def turns(**walls_ms: dict[Case, list[float]]) -> Turns:
    """Turns whose processor time is double the wall's."""
    return {
        engine: {case: [Turn(ms, 2 * ms) for ms in taken] for case, taken in cases.items()}
        for engine, cases in walls_ms.items()
    }


DRIFTING = turns(
    ti_qat={SHORT: [4, 8, 40], LONG: [50, 50, 50], BATCH: [400, 400, 400], TWO: [30, 25, 20]},
    openvino_int8={SHORT: [10, 20, 100], LONG: [100, 100, 100], BATCH: [900, 900, 900], TWO: [50, 50, 50]},
    onnxruntime_int8={SHORT: [8, 16, 80], LONG: [200, 200, 200], BATCH: [800, 800, 800], TWO: [99, 99, 99]},
    openvino_int4={SHORT: [5, 10, 50], LONG: [90, 90, 90], BATCH: [950, 950, 950], TWO: [60, 60, 60]},
)


def test_each_length_is_held_to_its_own_fastest_int8_engine() -> None:
    found = bars(DRIFTING, ["openvino_int8", "onnxruntime_int8"])
    assert found["best_int8_engine"] == {"8": "onnxruntime_int8", "128": "openvino_int8"}
    assert found["bert_base_over_best_int8"] == {"8": 0.5, "128": 0.5}
    assert found["best_int8_engine_batches"] == {"8x128": "onnxruntime_int8"}
    assert found["best_int8_engine_two_threads"] == {"128": "openvino_int8"}
    assert found["best_peer"] == {"8": "openvino_int4", "128": "openvino_int4"}
    assert found["bert_base_over_best_peer"]["8"] == pytest.approx(0.8)  # type: ignore[index]


def test_a_machine_that_slows_down_between_rounds_does_not_move_a_ratio() -> None:
    over: Any = by_engine(DRIFTING)
    assert set(over["onnxruntime_int8"]["1"]["8"]["ours_over_it"].values()) == {0.5}
    assert over["onnxruntime_int8"]["1"]["8"]["wall_ms"] == {"lower_quartile": 12, "median": 16, "upper_quartile": 48}


def test_two_threads_are_compared_with_one_of_the_same_round() -> None:
    assert bars(DRIFTING, ["openvino_int8"])["two_threads_over_one"] == {"128": 2.0}


def test_figures_of_a_missing_core_or_of_peers_left_out_are_none() -> None:
    alone = turns(ti_qat={SHORT: [4.0]}, onnxruntime_fp32={SHORT: [9.0]})
    found = bars(alone, ["openvino_int8"])
    assert found["bert_base_over_best_peer"] == {"8": pytest.approx(4 / 9)}
    for name in ("bert_base_over_best_int8", "best_int8_engine", "bert_base_over_best_peer_two_threads",
                 "two_threads_over_one", "bert_base_over_best_int8_processor_time"):  # fmt: skip
        assert found[name] is None


def test_the_first_call_of_a_turn_is_left_out_unless_it_is_the_only_one() -> None:
    calls: list[object] = []
    assert len(turn_ms(calls.append, {}, 0)) == len(calls) == 1
    calls.clear()
    assert len(turn_ms(calls.append, {}, 0.01)) == len(calls) - 1 > 0


def test_a_turn_is_the_median_of_its_calls_by_either_clock() -> None:
    turn = turn_of({"calls_ms": [[1, 7], [2, 6], [90, 5]]})
    assert (turn.wall_ms, processor(turn)) == (2, 6)


def test_peers_are_held_to_the_float32_model_and_ours_is_not() -> None:
    exact, close = [[[1.0, 2.0]], [[3.0, 4.0]]], [[[1.0, 2.5]], [[3.0, 4.125]]]
    assert difference({"onnxruntime_fp32": exact, "openvino_int8": close, OURS: [[[0.0, 0.0]]] * 2}) == {
        "onnxruntime_fp32": 0,
        "openvino_int8": 0.5,
    }


def test_the_products_figures_stay_and_missing_ones_carry_a_reason(tmp_path: Any) -> None:
    file = tmp_path / "summary.json"
    merge_summary(file, gemm_over_int8_peak_avx2=1.6)
    found: Any = gemm_figures(file)
    assert (found["gemm_over_int8_peak_avx2"], found["gemm_over_int8_peak_vnni"]) == (1.6, None)
    assert list(found["reasons"]) == ["gemm_over_int8_peak_vnni"]
