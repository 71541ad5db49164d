"""Writes the tables of docs/validation.md from summary.json; the words between them are the page's own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.simulation.summary import FILE
from ti_qat.artifact.atomic import write_whole

PAGE = Path(__file__).parents[2] / "docs" / "validation.md"
_BLOCK = re.compile(r"(<!-- (\w+): written by [^>]*-->\n).*?(<!-- end -->)", re.DOTALL)
_SHORT = {"output_stationary": "OS", "weight_stationary": "WS"}

Summary = Mapping[str, Any]


def fill(page: str, summary: Summary) -> str:
    """Return the page with every marked block written anew. Raises KeyError where one has no table or no figures."""
    return _BLOCK.sub(lambda block: f"{block[1]}{_TABLES[block[2]](summary)}{block[3]}", page)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _of(wrong: int, whole: int) -> str:
    return f"{whole - wrong} of {whole} equal"


def _overview(summary: Summary) -> str:
    def spread(ratios: Iterable[float]) -> str:
        found = [*ratios]
        return f"{min(found):.2f} to {max(found):.2f}"

    whole, wrong = summary["scalesim_cases"], summary["scalesim_cycle_mismatches"]
    counts = _of(summary["scalesim_unexplained_access_counts"], whole)
    ranges = summary["zigzag_ratio_ranges"]
    streaming = _of(summary["zigzag_array_cycle_mismatches"], summary["zigzag_cases"])
    rows = [
        ("cycles of the array", f"SCALE-Sim {summary['scalesim_version']}", _of(wrong, whole)),
        ("accesses of its buffers", "the same", f"{counts}, its known surplus taken off"),
        (
            "cycles of the array",
            f"ZigZag {summary['zigzag_version']}",
            f"{streaming}, fill and drain of every fold added",
        ),
    ]
    for what, name in (("cycles in all", "cycles"), ("bytes of DRAM", "dram"), ("dynamic energy", "dynamic_energy")):
        found = (f"{spread(by[name])} ({_SHORT[dataflow]})" for dataflow, by in ranges.items())
        rows.append((what, "the same", "ours over its " + ", ".join(found)))
    rows += [
        ("SRAM energy and leakage", "CACTI 7", _of(summary["cacti_row_mismatches"], summary["cacti_rows"])),
        (
            "energy of a multiply-accumulate",
            "five published designs",
            f"ours over theirs {spread(row['ours_over_published'] for row in summary['silicon'])}",
        ),
    ]
    return _table(("what", "against", "result"), rows)


def _zigzag(summary: Summary) -> str:
    columns = ("cycles", "array_cycles", "dram", "weight_buffer", "activation_buffer", "dynamic_energy")
    head = ("preset", "M x K x N", "", "our cycles", "ZigZag's", *(f"{name.replace('_', ' ')}" for name in columns))
    rows = (
        (
            f"`{row['preset']}`",
            row["shape"],
            _SHORT[row["dataflow"]],
            f"{row['cycles']:,}",
            f"{row['zigzag_cycles']:,.0f}",
            *(f"{row['ours_over_zigzag'][name]:.2f}" for name in columns),
        )
        for row in summary["zigzag"]
    )
    return _table(head, rows)


def _silicon(summary: Summary) -> str:
    head = (
        *("design", "published", "fJ", "covers", "our array", "with buffers", "our band"),
        *("ours over it", "known differences out"),
    )
    rows = (
        (
            row["design"],
            row["figure"],
            f"{row['published_fj_per_mac']:.1f}",
            row["covers"],
            f"{row['array_fj_per_mac']:.1f}",
            f"{row['with_buffers_fj_per_mac']:.1f}",
            f"{row['low_fj_per_mac']:.0f} to {row['high_fj_per_mac']:.0f}",
            f"**{row['ours_over_published']:.2f}**",
            f"{row['ours_over_published_known_differences_taken_out']:.2f}",
        )
        for row in summary["silicon"]
    )
    return _table(head, rows)


def _area(summary: Summary) -> str:
    rows = (
        (
            row["design"],
            row["covers"],
            f"{row['published_mm2']:.3g}",
            f"{row['area_mm2']:.3g}",
            f"**{row['area_mm2'] / row['published_mm2']:.2f}**",
        )
        for row in summary["silicon"]
        if row["published_mm2"]
    )
    return _table(("design", "covers", "published mm2", "ours", "ours over it"), rows)


def _horowitz(summary: Summary) -> str:
    tables = summary["cacti_over_horowitz"]
    sizes = sorted({int(size) for by_size in tables.values() for size in by_size})
    rows = ((f"`{table}`", *(f"{by_size[str(size)]:.2f}" for size in sizes)) for table, by_size in tables.items())
    return _table(("CACTI over Horowitz", *(f"{size >> 10} KiB" for size in sizes)), rows)


_TABLES = {"overview": _overview, "zigzag": _zigzag, "silicon": _silicon, "area": _area, "horowitz": _horowitz}


@click.command()
def main() -> None:
    """Write the page's tables from the figures of the last runs."""
    write_whole(PAGE, fill(PAGE.read_text(encoding="utf-8"), json.loads(FILE.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
