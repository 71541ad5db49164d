"""The longest sentence's inference in the Trace Event Format, which Perfetto and chrome://tracing open.

Format: "Trace Event Format" of the Chromium project; times are in microseconds at the accelerator's clock,
and every event repeats its cycles, which are exact.
"""

from __future__ import annotations

from typing import Any

from hwsim.estimate import Timeline

TRACE_FILE = "trace.json"
_PROCESS = 1
_DRAM_TRACK = "dram"
Event = dict[str, Any]


def trace(timeline: Timeline, clock_hz: float, name: str) -> dict[str, Any]:
    """Return the trace: a track for every unit, one for the DRAM channel, and a counter of its bandwidth.

    An event of a unit lasts until the next operation starts, stalls included; a transfer lasts as long as
    it holds the channel, and transfers of one rhythm may be told as one.
    """
    units = list(dict.fromkeys(entry.unit for entry in timeline.operations))
    tracks = {unit: number for number, unit in enumerate((*units, _DRAM_TRACK), 1)}
    events = [_named("process_name", 0, f"{name}, {timeline.tokens} tokens")]
    events += [_named("thread_name", track, unit) for unit, track in tracks.items()]
    to_us = 1e6 / clock_hz
    for entry in timeline.operations:
        details = entry.model_dump(exclude={"operation", "unit", "start_cycle", "end_cycle"})
        events.append(
            _complete(entry.operation, tracks[entry.unit], entry.start_cycle, entry.end_cycle, to_us, details)
        )
    for start, end, read, written in timeline.transfers:
        kind = "read and write" if read and written else "write" if written else "read"
        details = {"read_bytes": read, "written_bytes": written}
        events.append(_complete(kind, tracks[_DRAM_TRACK], start, end, to_us, details))
    events += _bandwidth(timeline, clock_hz)
    return {"displayTimeUnit": "ns", "otherData": {"clock_hz": clock_hz}, "traceEvents": events}


def _bandwidth(timeline: Timeline, clock_hz: float) -> list[Event]:
    """Return the counter: bytes a second from every cycle on where it changes."""
    steps: dict[int, float] = {0: 0.0}
    for start, end, read, written in timeline.transfers:
        if end > start:
            steps[start] = (read + written) * clock_hz / (end - start)
            steps[end] = 0.0
    return [
        {
            "ph": "C",
            "name": "DRAM bandwidth",
            "pid": _PROCESS,
            "ts": cycle * 1e6 / clock_hz,
            "args": {"bytes_per_s": rate},
        }
        for cycle, rate in sorted(steps.items())
    ]


def _complete(name: str, track: int, start: int, end: int, to_us: float, details: Event) -> Event:
    cycles = {"start_cycle": start, "cycles": end - start}
    return {
        "ph": "X",
        "name": name,
        "pid": _PROCESS,
        "tid": track,
        "ts": start * to_us,
        "dur": (end - start) * to_us,
        "args": cycles | details,
    }


def _named(what: str, track: int, name: str) -> Event:
    return {"ph": "M", "name": what, "pid": _PROCESS, "tid": track, "args": {"name": name}}
