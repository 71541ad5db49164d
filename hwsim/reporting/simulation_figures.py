"""The figures of one simulation, as charts: the same in its own page, in a run's and as pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hwsim.activity.findings import ActivityFindings
from hwsim.datapath.fixed_simulation import FixedFindings
from hwsim.energy.bands import EnergyBand
from hwsim.energy.operation_cost import OperationCost
from hwsim.reporting.charts import Axis, Bars, Chart, Series, Swing, Tornado, count_scale, readable, scale_of
from hwsim.reporting.roofline import roofline
from hwsim.reporting.time_line import activations_over_time, time_line
from hwsim.schedule.footprint import Memory
from hwsim.simulate import Simulation

CYCLE_CAUSES = {
    "compute_cycles": "computing",
    "buffer_stall_cycles": "waiting for a buffer's ports",
    "dram_stall_cycles": "waiting for DRAM",
}


def simulation_charts(result: Simulation) -> tuple[Chart, ...]:
    """Return the figures: energy, cycles, time, memory, area, and what else this simulation counted."""
    cost = result.estimate
    charts: list[Chart] = [  # in pairs of about the same height, as a wide page has them
        energy_by_level(cost.energy_pj.by_level),
        tornado(cost.energy_band),
        _energy("unit", cost.operations, lambda operation: operation.unit),
        _cycles_by_unit(cost.operations),
        _energy("layer", cost.operations, lambda operation: operation.layer),
        roofline(cost.operations, result.accelerator),
        _cycles_by_cause(cost.cycles.by_level),
        _traffic(cost.memory.traffic_bytes_per_inference),
        time_line(cost.timeline),
        activations_over_time(cost.timeline, result.accelerator.activation_buffer_bytes),
        _memory_map(cost.memory, result),
        _dram(cost.memory),
    ]
    if cost.area_mm2:
        charts.append(_area(cost.area_mm2))
    if result.fixed is not None:
        charts.append(noise_by_layer(result.fixed, {entry.operation: entry.layer for entry in cost.operations}))
    if result.activity is not None:
        charts += switching(result.activity)
    return tuple(charts)


def _plain(values: Mapping[str, float], factor: float, *, ordered: bool = True) -> dict[str, Any]:
    """Return categories and series of a single quantity; the largest first where `ordered`."""
    entries = [(readable(name), value * factor) for name, value in values.items() if value > 0]
    if ordered:
        entries.sort(key=lambda entry: -entry[1])
    return {"categories": tuple(name for name, _ in entries), "series": (Series("", tuple(v for _, v in entries)),)}


def _stack(rows: Mapping[str, Mapping[str, float]], factor: float, *, ordered: bool) -> dict[str, Any]:
    """Return categories and stacked series of `rows`: parts by name; parts that are nowhere are left out."""
    names = list(rows)
    if ordered:
        names.sort(key=lambda name: -sum(rows[name].values()))
    known = dict.fromkeys(part for row in rows.values() for part in row)
    parts = [part for part in known if any(row.get(part, 0.0) > 0 for row in rows.values())]
    series = tuple(Series(readable(p), tuple(rows[name].get(p, 0.0) * factor for name in names)) for p in parts)
    return {"categories": tuple(readable(name) for name in names), "series": series, "stacked": True}


def energy_by_level(by_level: Mapping[str, float]) -> Bars:
    """Return picojoules by level as bars in joules."""
    factor, unit = scale_of((pj * 1e-12 for pj in by_level.values()), "J")
    return Bars(
        name="energy_by_level",
        title="Energy by level",
        caption="Where an average inference spends its energy: the array, the other units, each memory, and what the "
        "buffers leak meanwhile.",
        axis=Axis(f"energy ({unit} an inference)"),
        **_plain(by_level, factor * 1e-12),
    )


def _energy(way: str, operations: Iterable[OperationCost], key: Callable[[OperationCost], str]) -> Bars:
    rows: dict[str, defaultdict[str, float]] = {}
    for operation in operations:
        row = rows.setdefault(key(operation), defaultdict(float))
        for level, picojoules in operation.energy_pj.items():
            row[level] += picojoules
    factor, unit = scale_of((sum(row.values()) * 1e-12 for row in rows.values()), "J")
    return Bars(
        name=f"energy_by_{way}",
        title=f"Energy by {way}",
        caption=f"Each bar is the energy of a {way}'s operations in an average inference, its colours the levels that "
        "spend it.",
        axis=Axis(f"energy ({unit} an inference)"),
        **_stack(rows, factor * 1e-12, ordered=way == "unit"),
    )


def tornado(band: EnergyBand) -> Tornado:
    """Return the band of an energy: all causes of uncertainty together, then each alone, the widest first."""
    factor, unit = scale_of([band.high_pj * 1e-12], "J")
    widest_first = sorted(band.causes, key=lambda cause: cause.low_pj - cause.high_pj)
    ends = [("all causes at once", band.low_pj, band.high_pj)]
    ends += [(cause.cause, cause.low_pj, cause.high_pj) for cause in widest_first]
    return Tornado(
        name="energy_band",
        title="How far the energy is known",
        caption="Each bar is the energy of an average inference if this one cause went its lowest or highest way and "
        "all else stayed at the tables' figure, the upright line; the first bar is all of them at once.",
        axis=Axis(f"energy ({unit} an inference)"),
        nominal=band.nominal_pj * 1e-12 * factor,
        swings=tuple(Swing(name, low * 1e-12 * factor, high * 1e-12 * factor) for name, low, high in ends),
    )


def _cycles_by_unit(operations: Iterable[OperationCost]) -> Bars:
    rows: dict[str, defaultdict[str, float]] = {}
    for operation in operations:
        row = rows.setdefault(operation.unit, defaultdict(float))
        for field, cause in CYCLE_CAUSES.items():
            row[cause] += getattr(operation, field)
    factor, words = count_scale(max(sum(row.values()) for row in rows.values()))
    return Bars(
        name="cycles_by_unit",
        title="Cycles by unit",
        caption="How long an average inference keeps each unit, and how much of it the unit computes or waits.",
        axis=Axis(f"{words} an inference"),
        **_stack(rows, factor, ordered=True),
    )


def _cycles_by_cause(by_level: Mapping[str, float]) -> Bars:
    factor, words = count_scale(max(by_level.values()))
    return Bars(
        name="cycles_by_cause",
        title="What the cycles go to",
        caption="All cycles of an average inference: computing, held up by a buffer's ports, by DRAM's bandwidth, or "
        "by its latency alone.",
        axis=Axis(f"{words} an inference"),
        **_plain(by_level, factor),
    )


def _memory_map(memory: Memory, result: Simulation) -> Bars:
    capacities = {
        "weight_buffer": result.accelerator.weight_buffer_bytes,
        "activation_buffer": result.accelerator.activation_buffer_bytes,
    }
    rows = {buffer: memory.peak_bytes[buffer] for buffer in capacities}
    factor, unit = scale_of((*capacities.values(), *(sum(row.values()) for row in rows.values())), "B")
    return Bars(
        name="memory_map",
        title="What the buffers hold when they are fullest",
        caption="Bytes by class of tensor during the longest sentence, against the capacity of each buffer; a bar that "
        "reaches its mark is full, and what is left over is in DRAM.",
        axis=Axis(f"bytes held ({unit})"),
        limits=tuple(capacity * factor for capacity in capacities.values()),
        limit_name="capacity",
        **_stack(rows, factor, ordered=False),
    )


def _dram(memory: Memory) -> Bars:
    held = memory.peak_bytes["dram"]
    factor, unit = scale_of(held.values(), "B")
    return Bars(
        name="memory_dram",
        title="What DRAM holds",
        caption="Parameters that do not stay on the chip, and activations that spill there when they need most.",
        axis=Axis(f"bytes held ({unit})"),
        **_plain(held, factor, ordered=False),
    )


def _traffic(moved: Mapping[str, float]) -> Bars:
    factor, unit = scale_of(moved.values(), "B")
    return Bars(
        name="traffic",
        title="Bytes moved",
        caption="What an average inference reads from and writes to each memory.",
        axis=Axis(f"bytes moved ({unit} an inference)"),
        **_plain(moved, factor, ordered=False),
    )


def _area(area_mm2: Mapping[str, float]) -> Bars:
    return Bars(
        name="area",
        title="Area by component",
        caption="Cells and macros alone, without wires, control and pads: a floor.",
        axis=Axis("area (mm²)"),
        **_plain(area_mm2, 1.0),
    )


def noise_by_layer(found: FixedFindings, layers: Mapping[str, str]) -> Bars:
    """Return the fixed profile's noise; `layers` gives the layer of every operation, in their order."""
    by_layer: dict[str, list[float]] = {}
    for operation, layer in layers.items():
        decibels = found.signal_to_noise_db.get(operation)
        if decibels is not None:
            by_layer.setdefault(layer, []).append(decibels)
    return Bars(
        name="noise_by_layer",
        title="Noise of the integers, by layer",
        caption="Power of the exact profile's values over that of the fixed profile's error, in decibels: more is "
        "better, and 6 dB are a bit. Layers without a difference have no bar.",
        axis=Axis("signal over noise (dB)"),
        categories=tuple(map(readable, by_layer)),
        series=(
            Series("the layer's last output", tuple(values[-1] for values in by_layer.values())),
            Series("its noisiest operation", tuple(min(values) for values in by_layer.values())),
        ),
    )


def switching(activity: ActivityFindings) -> tuple[Bars, Bars]:
    """Return the toggles of the array's wires: a multiply-accumulate's by class, an evaluation's by layer."""
    by_layer = activity.toggles_by_layer
    factor, words = count_scale(max(sum(toggles.values()) for toggles in by_layer.values()), "toggles")
    return (
        Bars(
            name="switching_by_wire_class",
            title="Switching activity by wire class",
            caption="How many bits of each class of wires change for a multiply-accumulate, counted on the values of "
            "the simulated sentences.",
            axis=Axis("toggles a multiply-accumulate"),
            **_plain(activity.toggles_by_wire_class, 1 / activity.macs),
        ),
        Bars(
            name="switching_by_layer",
            title="Switching activity by layer",
            caption="All toggles of the simulated sentences, by layer and class of wires.",
            axis=Axis(words),
            **_stack(by_layer, factor, ordered=False),
        ),
    )
