"""The longest sentence over time: which unit works or waits when, and how much the activations take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from hwsim.estimate import Timeline, TimelineEntry
from hwsim.reporting.charts import (
    REFERENCE_COLOUR,
    Axis,
    Band,
    Curve,
    Curves,
    Gantt,
    Span,
    count_scale,
    readable,
    scale_of,
)

_DRAM_ROW = "DRAM channel"
_GAP = 1e-3  # of the whole, below which two transfers are drawn as one
_NAMED_LAYERS = 12  # more names would touch
_SHADE, _PLAIN = "#f0f0f0", "#ffffff"


def time_line(timeline: Timeline) -> Gantt:
    """Return the units over the cycles of the longest sentence; within an operation, computing is drawn first."""
    end_cycle = timeline.operations[-1].end_cycle
    factor, words = count_scale(end_cycle)
    spans: dict[str, list[Span]] = {"computing": [], "waiting for a buffer": [], "waiting for DRAM": []}
    for entry in timeline.operations:
        row, now = readable(entry.unit), entry.start_cycle
        parts = (entry.compute_cycles, entry.buffer_stall_cycles, entry.dram_stall_cycles)
        for kind, cycles in zip(spans, parts, strict=True):
            if cycles:
                spans[kind].append(Span(row, now * factor, (now + cycles) * factor, entry.operation))
            now += cycles
    spans["transfer"] = [
        Span(_DRAM_ROW, start * factor, end * factor, f"{moved:,} bytes")
        for start, end, moved in _merged(timeline, _GAP * end_cycle)
    ]
    rows = dict.fromkeys(readable(entry.unit) for entry in timeline.operations)
    return Gantt(
        name="time_line",
        title=f"Time line of the longest sentence, {timeline.tokens} tokens",
        caption="Each operation keeps its unit from its first cycle to the next operation's; within it, what it "
        "computes is drawn first and what it waits after that. The last row is the DRAM channel. Numbers above the "
        "plot are encoder layers.",
        axis=Axis(words),
        rows=(*rows, *([_DRAM_ROW] if spans["transfer"] else [])),
        spans={kind: tuple(found) for kind, found in spans.items() if found},
        bands=_layers(timeline.operations, factor),
    )


def _merged(timeline: Timeline, gap: float) -> Iterator[tuple[int, int, int]]:
    """Return (start cycle, end cycle, bytes) of the transfers, those with less than `gap` cycles between as one."""
    current: tuple[int, int, int] | None = None
    for start, end, read, written in sorted(timeline.transfers):
        if current is not None and start - current[1] < gap:
            current = current[0], max(end, current[1]), current[2] + read + written
        else:
            if current is not None:
                yield current
            current = start, end, read + written
    if current is not None:
        yield current


def _layers(operations: Iterable[TimelineEntry], factor: float) -> tuple[Band, ...]:
    """Return the encoder's layers as bands, shaded in turn; of many, every second or third is named."""
    found = []
    for layer, members in groupby(operations, key=lambda entry: entry.layer):
        entries = list(members)
        if layer.startswith("layers."):
            found.append((layer.removeprefix("layers."), entries[0].start_cycle, entries[-1].end_cycle))
    every = -(-len(found) // _NAMED_LAYERS) or 1
    return tuple(
        Band(start * factor, end * factor, name if number % every == 0 else "", (_SHADE, _PLAIN)[number % 2])
        for number, (name, start, end) in enumerate(found)
    )


def activations_over_time(timeline: Timeline, capacity_bytes: int) -> Curves:
    """Return the bytes of activations that are alive, and those in the buffer, over the longest sentence."""
    entries = timeline.operations
    end_cycle = entries[-1].end_cycle
    to_cycles, words = count_scale(end_cycle)
    to_bytes, unit = scale_of((capacity_bytes, *(entry.activation_bytes for entry in entries)), "B")
    x = tuple(cycle * to_cycles for cycle in (*(entry.start_cycle for entry in entries), end_cycle))

    def over_time(name: str, held: list[int]) -> Curve:
        return Curve(name, x, tuple(size * to_bytes for size in (*held, held[-1])), steps=True)

    return Curves(
        name="activations_over_time",
        title="Activations over time",
        caption="Bytes of all activations that are still needed, and what of them (with partial sums and staging) is "
        "in the activation buffer, during the longest sentence; the dashed line is the buffer's capacity.",
        x_axis=Axis(words),
        y_axis=Axis(f"bytes held ({unit})"),
        curves=(
            over_time("needed", [entry.activation_bytes for entry in entries]),
            over_time("in the activation buffer", [entry.activation_buffer_bytes for entry in entries]),
            Curve(
                "capacity of the buffer",
                (0.0, x[-1]),
                (capacity_bytes * to_bytes,) * 2,
                reference=True,
                colour=REFERENCE_COLOUR,
            ),
        ),
        bands=_layers(entries, to_cycles),
    )
