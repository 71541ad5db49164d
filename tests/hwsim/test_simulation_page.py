"""What `ti-qat simulate` leaves for readers: every figure in the page and as a picture, tables that sum to the JSON."""

from __future__ import annotations

import csv
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from click.testing import CliRunner
from PIL import Image

from hwsim.cli import simulate as simulate_command
from hwsim.config import Profile, read_accelerator
from hwsim.design import BERT_BASE, STATIC_SCALES
from hwsim.energy.bands import CauseBand, EnergyBand
from hwsim.energy.operation_cost import OperationCost
from hwsim.estimate import Estimate, estimate
from hwsim.reporting.charts import Axis, Bars, Curves, Gantt, Series, Swing, Tornado, log_ticks, scale_of
from hwsim.reporting.comparison import Comparison
from hwsim.reporting.plotly_charts import plotly_json
from hwsim.reporting.png_charts import write_png
from hwsim.reporting.roofline import bandwidths_bytes_per_s, peak_ops_per_s, roofline_points
from hwsim.reporting.simulation_figures import simulation_charts, tornado
from hwsim.reporting.time_line import activations_over_time, time_line
from hwsim.simulate import simulate
from tests.builders import tiny_artifact
from ti_qat.artifact.encoder import OpKind, build_encoder
from ti_qat.artifact.io import Artifact

FIGURES = {
    "energy_by_level", "energy_by_unit", "energy_by_layer", "energy_band", "cycles_by_unit", "cycles_by_cause",
    "time_line", "roofline", "memory_map", "memory_dram", "activations_over_time", "traffic", "area",
}  # fmt: skip


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_artifact(tmp_path_factory.mktemp("artifact") / "tiny", teacher_logits=np.eye(7, 2, dtype=np.float32))


@pytest.fixture(scope="module")
def folder(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "simulation"
    arguments = [str(artifact.path), "--accelerator", "wearable", "--profile", "fixed", "--out", str(out)]
    result = CliRunner().invoke(simulate_command, arguments)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def bert_base() -> Estimate:
    encoder = build_encoder(BERT_BASE, STATIC_SCALES)
    nonzero = {op.name: 300_000 for op in encoder.of_kind(OpKind.TERNARY_LINEAR)}
    return estimate(encoder, read_accelerator("wearable"), [128, 17], nonzero)


def read_csv(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_figure_is_in_the_page_and_a_picture(folder: Path) -> None:
    page = (folder / "simulation.html").read_text()
    expected = FIGURES | {"noise_by_layer"}
    assert set(re.findall(r'id="figure-(\w+)"', page)) == expected
    assert {file.name for file in (folder / "figures").iterdir()} == {f"{name}.png" for name in expected}
    for file in (folder / "figures").iterdir():
        with Image.open(file) as picture:
            assert picture.width > 1000
            assert picture.text["Description"].endswith("."), file.name
            assert len(picture.convert("L").getcolors(256) or ()) > 10, file.name  # not an empty frame
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=", page)
    assert page.count("plotly.js v") == 1
    teacher = json.loads((folder / "simulation.json").read_text())["teacher_score"]
    assert f"<b>{teacher:.4f}</b>the full-precision teacher" in page


def test_columns_of_operations_sum_to_the_json(folder: Path) -> None:
    cost = json.loads((folder / "simulation.json").read_text())["estimate"]
    rows = read_csv(folder / "operations.csv")

    def total(column: str, **where: str) -> float:
        return sum(float(row[column]) for row in rows if all(row[key] == value for key, value in where.items()))

    # 1e-9 where sums of floats are taken in another order.
    assert total("cycles") == pytest.approx(cost["cycles_per_inference"], rel=1e-9)
    for cause in ("compute", "buffer_stall", "dram_stall"):
        assert total(f"{cause}_cycles") == pytest.approx(cost[f"{cause}_cycles_per_inference"], rel=1e-9)
    assert total("energy_pj") == pytest.approx(cost["energy_pj_per_inference"], rel=1e-9)
    for level, picojoules in cost["energy_pj"]["by_level"].items():
        assert total(f"{level}_energy_pj") == pytest.approx(picojoules, rel=1e-9)
    for way in ("unit", "layer"):
        for name, picojoules in cost["energy_pj"][f"by_{way}"].items():
            assert total("energy_pj", **{way: name}) == pytest.approx(picojoules, rel=1e-9)
            cycles = cost["cycles"][f"by_{way}"][name]
            assert total("cycles", **{way: name}) == pytest.approx(cycles, rel=1e-9)
    for name, moved in cost["memory"]["traffic_bytes_per_inference"].items():
        assert total(f"{name}_bytes") == pytest.approx(moved, rel=1e-9)
    for unit, macs in cost["macs_per_inference"].items():
        assert total("macs", unit=unit) == pytest.approx(macs, rel=1e-9)
    levels = {row["level"]: float(row["energy_pj"]) for row in read_csv(folder / "energy_by_level.csv")}
    assert levels == cost["energy_pj"]["by_level"]


def test_bars_are_the_estimate_in_a_readable_unit(bert_base: Estimate, artifact: Artifact) -> None:
    report, _ = simulate(artifact, read_accelerator("wearable"))
    charts = {chart.name: chart for chart in simulation_charts(report.model_copy(update={"estimate": bert_base}))}
    layers, causes = charts["energy_by_layer"], charts["cycles_by_unit"]
    assert isinstance(layers, Bars)
    assert isinstance(causes, Bars)
    assert layers.axis.title == "energy (mJ an inference)"
    assert layers.categories == ("embedding", *(f"layer {n}" for n in range(12)), "pooler", "classifier")
    for number, picojoules in enumerate(bert_base.energy_pj.by_layer.values()):
        bar = sum(series.values[number] or 0 for series in layers.series)
        assert bar == pytest.approx(picojoules * 1e-9)
    computing = next(series for series in causes.series if series.name == "computing")
    assert sum(v or 0 for v in computing.values) == pytest.approx(bert_base.compute_cycles_per_inference * 1e-6)


def test_a_product_lies_where_its_operations_and_bytes_put_it() -> None:
    operation = OperationCost(
        operation="layers.0.query", unit="ternary_array", layer="layers.0", macs=128 * 768 * 768, cycles=400_000,
        compute_cycles=300_000, buffer_stall_cycles=0, dram_stall_cycles=100_000,
        traffic_bytes={"dram_read": 147_456, "dram_write": 98_304, "weight_buffer_read": 147_456,
                       "weight_buffer_write": 147_456, "activation_buffer_read": 98_304, "activation_buffer_write": 0},
        energy_pj={},
    )  # fmt: skip
    gelu = operation.model_copy(update={"operation": "gelu", "unit": "gelu", "macs": 0})
    scores = operation.model_copy(update={"operation": "scores", "unit": "int8_array"})
    points = {(p.operation, p.level): p for p in roofline_points([operation, gelu, scores], 100e6)}
    assert {name for name, _ in points} == {"layers.0.query", "scores"}
    assert ("scores", "weight_buffer") not in points  # its operands come from the activation buffer
    # 150,994,944 operations by hand, over 245,760, 294,912 and 98,304 bytes, in 4 ms.
    for level, intensity in (("dram", 614.4), ("weight_buffer", 512.0), ("activation_buffer", 1536.0)):
        point = points["layers.0.query", level]
        assert point.intensity == pytest.approx(intensity)
        assert point.attained_ops_per_s == pytest.approx(37.748736e9)


def test_roofs_are_those_of_the_accelerator_and_nothing_beats_the_peak(bert_base: Estimate) -> None:
    wearable = read_accelerator("wearable")
    assert peak_ops_per_s(wearable) == 2 * 16 * 16 * 100e6
    assert bandwidths_bytes_per_s(wearable) == {"dram": 800e6, "activation_buffer": 6.4e9, "weight_buffer": 1.6e9}
    endless = wearable.model_copy(update={"weight_buffer_banks": None})
    assert set(bandwidths_bytes_per_s(endless)) == {"dram", "activation_buffer"}
    points = roofline_points(bert_base.operations, wearable.clock_hz)
    assert len({point.operation for point in points}) == 12 * 8 + 1  # and the pooler
    for point in points:
        assert point.attained_ops_per_s <= peak_ops_per_s(wearable)
        if point.level != "dram":  # whose bytes may come while an earlier operation runs
            roof = point.intensity * bandwidths_bytes_per_s(wearable)[point.level]
            # An operation takes whole cycles, of thousands.
            assert point.attained_ops_per_s <= roof * 1.001, point


def test_time_line_ends_with_the_inference_and_leaves_no_gap(bert_base: Estimate) -> None:
    chart = time_line(bert_base.timeline)
    end = bert_base.timeline.operations[-1].end_cycle * 1e-6
    assert chart.axis.title == "million cycles"
    assert chart.end == pytest.approx(end)
    assert end / 100 == pytest.approx(bert_base.longest_latency_ms * 1e-3)  # at 100 MHz
    worked = sorted(
        (span.start, span.end) for kind, spans in chart.spans.items() if kind != "transfer" for span in spans
    )
    assert worked[0][0] == 0
    assert all(before[1] == pytest.approx(after[0]) for before, after in pairwise(worked))
    assert len({span.label for spans in chart.spans.values() for span in spans if "bytes" not in span.label}) > 250
    moved = [span.label for span in chart.spans["transfer"]]
    assert len(moved) < 1000
    told = sum(int(label.removesuffix(" bytes").replace(",", "")) for label in moved)
    assert told == sum(read + written for _, _, read, written in bert_base.timeline.transfers)
    assert [band.name for band in chart.bands] == [str(layer) for layer in range(12)]


def test_activations_over_time_reach_the_peak_and_stay_in_the_buffer(bert_base: Estimate) -> None:
    capacity = read_accelerator("wearable").activation_buffer_bytes
    chart = activations_over_time(bert_base.timeline, capacity)
    needed, in_buffer, line = chart.curves
    assert max(needed.y) == pytest.approx(bert_base.memory.activation_peak_bytes * 1e-6)
    assert max(in_buffer.y) == pytest.approx(sum(bert_base.memory.peak_bytes["activation_buffer"].values()) * 1e-6)
    assert max(in_buffer.y) <= line.y[0] == pytest.approx(capacity * 1e-6)


def test_tornado_has_all_causes_together_and_then_the_widest_first() -> None:
    def cause(name: str, low_pj: float, high_pj: float) -> CauseBand:
        return CauseBand(cause=name, low_pj=low_pj, high_pj=high_pj, note="", source="")

    causes = (cause("glitches", 1.0e6, 1.1e6), cause("DRAM", 0.5e6, 2.0e6))
    chart = tornado(EnergyBand(low_pj=0.4e6, nominal_pj=1.0e6, high_pj=2.2e6, causes=causes))
    assert chart.axis.title == "energy (µJ an inference)"
    assert chart.nominal == pytest.approx(1.0)
    assert [(s.cause, round(s.low, 9), round(s.high, 9)) for s in chart.swings] == [
        ("all causes at once", 0.4, 2.2), ("DRAM", 0.5, 2.0), ("glitches", 1.0, 1.1),
    ]  # fmt: skip
    drawn = plotly_json(chart)["data"]
    assert [trace["base"] + trace["x"][1] for trace in drawn] == pytest.approx([0.5, 2.0])


def test_noise_is_that_of_each_layer(artifact: Artifact) -> None:
    report, _ = simulate(artifact, read_accelerator("wearable"), profile=Profile.FIXED)
    assert report.fixed is not None
    noise = next(chart for chart in simulation_charts(report) if chart.name == "noise_by_layer")
    assert isinstance(noise, Bars)
    decibels = report.fixed.signal_to_noise_db
    of_layer = [value for name, value in decibels.items() if name.startswith("layers.1.") and value is not None]
    row = noise.categories.index("layer 1")
    assert noise.series[0].values[row] == decibels["layers.1.feed_forward.norm"]
    assert noise.series[1].values[row] == min(of_layer)


def test_switching_is_drawn_for_a_multiply_accumulate(artifact: Artifact) -> None:
    report, _ = simulate(artifact, read_accelerator("wearable"), limit=2, activity=True)
    assert report.activity is not None
    charts = {chart.name: chart for chart in simulation_charts(report)}
    by_class, by_layer = charts["switching_by_wire_class"], charts["switching_by_layer"]
    assert isinstance(by_class, Bars)
    assert isinstance(by_layer, Bars)
    assert sum(v or 0 for v in by_class.series[0].values) == pytest.approx(report.activity.toggles_per_mac)
    assert by_layer.categories == ("layer 0", "layer 1", "pooler")
    assert by_layer.axis.title == "million toggles"
    drawn = sum(series.values[1] or 0 for series in by_layer.series)
    assert drawn == pytest.approx(sum(report.activity.toggles_by_layer["layers.1"].values()) * 1e-6)


def test_scales_and_ticks_at_their_edges() -> None:
    assert scale_of([0.999e-6], "J") == (1 / 1e-9, "nJ")
    assert scale_of([1e-6, -2e-6], "J") == (1 / 1e-6, "µJ")
    assert scale_of([], "B") == scale_of([0.0], "B") == (1.0, "B")
    assert scale_of([1e-14], "J")[1] == "pJ"
    assert log_ticks([2.0, 30.0]) == (1, 2, 5, 10, 20, 50, 100, 200, 500)
    assert log_ticks([0.0, 1e-2, 1e3]) == (0.01, 0.1, 1, 10, 100, 1000)


HOSTILE = "<b>$x^2$</b></script>"


@pytest.mark.parametrize("chart", [
    Bars(name="bars", title=HOSTILE, caption="", axis=Axis("nothing"), categories=(HOSTILE,),
         series=(Series(HOSTILE, (0.0,)), Series("none", (None,)))),
    Bars(name="stack", title="", caption="", axis=Axis(HOSTILE), categories=("a", "b"), stacked=True,
         series=(Series("x", (1.0, 2.0)), Series("y", (3.0, None))), limits=(2.0, None), limit_name="limit"),
    Curves(name="curves", title="", caption="", x_axis=Axis("x"), y_axis=Axis("y", log=True), curves=()),
    Gantt(name="gantt", title="", caption="", axis=Axis("x"), rows=("a",), spans={}),
    Tornado(name="tornado", title="", caption="", axis=Axis("x"), nominal=0.0,
            swings=(Swing(HOSTILE, 0.0, 0.0),)),
], ids=lambda chart: chart.name)  # fmt: skip
def test_both_renderers_draw_anything_and_plotly_knows_every_attribute(chart: Any, tmp_path: Path) -> None:
    drawn = plotly_json(chart)
    assert "<b>" not in json.dumps(drawn)
    go.Figure(drawn).to_json()  # raises on an attribute that plotly does not have
    for name in ("first.png", "second.png"):
        write_png(tmp_path / name, chart)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_a_stack_is_labelled_with_its_whole() -> None:
    series = (Series("x", (1.0, 2.0)), Series("y", (3.0, None)))
    chart = Bars(name="n", title="", caption="", axis=Axis("x"), categories=("a", "b"), series=series, stacked=True)
    assert [chart.labels(part) for part in series] == [["", ""], ["4", "2"]]
    assert chart.longest == 4.0


def test_the_documentation_names_every_figure_column_and_field(folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")
    names = {*FIGURES, "noise_by_layer", "switching_by_wire_class", "switching_by_layer", *Comparison.model_fields}
    for name in (*names, *read_csv(folder / "operations.csv")[0]):
        assert f"`{name}`" in page
