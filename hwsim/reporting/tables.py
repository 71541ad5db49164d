"""Tables for spreadsheets: CSV with a header, a point for the decimals, every number in full."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import StringIO

from hwsim.energy.operation_cost import OperationCost
from hwsim.estimate import Estimate

OPERATIONS_FILE, ENERGY_FILE = "operations.csv", "energy_by_level.csv"
_CYCLES = ("cycles", "compute_cycles", "buffer_stall_cycles", "dram_stall_cycles")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as CSV; None is an empty field."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def operations_csv(cost: Estimate) -> str:
    """Return a row for every operation of an average inference: its cycles, bytes, MACs and picojoules."""
    moved, levels = list(cost.memory.traffic_bytes_per_inference), list(cost.energy_pj.by_level)
    header = (
        "operation", "unit", "layer", "macs", *_CYCLES, *(f"{name}_bytes" for name in moved),
        "energy_pj", *(f"{level}_energy_pj" for level in levels),
    )  # fmt: skip

    def row(operation: OperationCost) -> tuple[object, ...]:
        return (
            operation.operation, operation.unit, operation.layer, operation.macs,
            *(getattr(operation, name) for name in _CYCLES), *(operation.traffic_bytes[name] for name in moved),
            sum(operation.energy_pj.values()), *(operation.energy_pj[level] for level in levels),
        )  # fmt: skip

    return csv_text(header, map(row, cost.operations))


def energy_by_level_csv(cost: Estimate) -> str:
    """Return the picojoules of an average inference by level."""
    return csv_text(("level", "energy_pj"), cost.energy_pj.by_level.items())
