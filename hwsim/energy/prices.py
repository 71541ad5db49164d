"""Energy: counted actions times a table's rows, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from math import ceil
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hwsim.config import Accelerator, Dataflow, parse_toml
from hwsim.errors import SimulatorError
from hwsim.schedule.memory import TERNARY_BITS, Traffic
from hwsim.schedule.workload import Unit, Work
from hwsim.units.actions import Action

_TABLES = Path(__file__).parents[1] / "tables"
ASSUMPTIONS = (
    "Energy is dynamic energy of counted actions plus SRAM leakage; clock tree, wires, glitches, logic leakage, "
    "control and DRAM refresh are left out, so it is a floor.",
    "Elements of the array without work are clock-gated; operands that move through it pay for a register a bit.",
    "A buffer is built of the smallest tabulated macro that holds it, or of several of the largest.",
    "A float32 divide counts as 5 multiplications and 2 additions, a square root as 7 and 2 (Newton-Raphson); "
    "comparing, rounding and converting as one 32-bit integer addition.",
)


class Level(StrEnum):
    """Where energy is spent."""

    ARRAY = "array"
    VECTOR_UNITS = "vector_units"
    WEIGHT_BUFFER = "weight_buffer"
    ACTIVATION_BUFFER = "activation_buffer"
    DRAM = "dram"
    LEAKAGE = "leakage"


_LEVELS: Mapping[Action, Level] = {
    Action.TERNARY_MAC_NONZERO: Level.ARRAY,
    Action.TERNARY_MAC_ZERO: Level.ARRAY,
    Action.INT8_MAC: Level.ARRAY,
    Action.OPERAND_REGISTER_BIT: Level.ARRAY,
    Action.FLOAT32_ADD: Level.VECTOR_UNITS,
    Action.FLOAT32_MULTIPLY: Level.VECTOR_UNITS,
    Action.WORD_OPERATION: Level.VECTOR_UNITS,
    Action.INT32_MULTIPLY: Level.VECTOR_UNITS,
    Action.TABLE_READ_BIT: Level.VECTOR_UNITS,
    Action.WEIGHT_BUFFER_READ_BIT: Level.WEIGHT_BUFFER,
    Action.WEIGHT_BUFFER_WRITE_BIT: Level.WEIGHT_BUFFER,
    Action.ACTIVATION_BUFFER_READ_BIT: Level.ACTIVATION_BUFFER,
    Action.ACTIVATION_BUFFER_WRITE_BIT: Level.ACTIVATION_BUFFER,
    Action.DRAM_READ_BIT: Level.DRAM,
    Action.DRAM_WRITE_BIT: Level.DRAM,
    Action.WEIGHT_BUFFER_LEAKAGE_NS: Level.LEAKAGE,
    Action.ACTIVATION_BUFFER_LEAKAGE_NS: Level.LEAKAGE,
}


class Row(BaseModel):
    """One figure with its source. SRAM rows hold for a macro of `capacity_bytes`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    action: str
    value: Annotated[float, Field(ge=0)]
    unit: Literal["pJ", "pJ/bit", "pJ/ns"]
    source: str = Field(min_length=1)
    note: str
    node_nm: int | None = None
    capacity_bytes: int | None = None


class _TableFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    description: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Price:
    """Energy of one action: a row, times the number of macros that leak together."""

    pj: float
    row: Row


def table_names() -> tuple[str, ...]:
    """Return the names of the tables that come with the package."""
    return tuple(sorted(file.stem for file in _TABLES.glob("*.toml")))


def prices(accelerator: Accelerator) -> dict[Action, Price]:
    """Return a price for every action from the accelerator's tables.

    Raises SimulatorError where a table is unknown or an action has no row or several.
    """
    rows: list[Row] = []
    for name in accelerator.energy_tables:
        if name not in table_names():
            expected = f"tables out of {', '.join(table_names())}"
            raise SimulatorError(accelerator.name, "energy_tables", expected=expected, found=repr(name))
        rows += _rows(name)
    found = {}
    for action in Action:
        level = _LEVELS[action]
        name = action.value.removesuffix("_bit").removesuffix("_ns")
        if level in {Level.ARRAY, Level.VECTOR_UNITS}:
            found[action] = _only(rows, action.value, accelerator)
        elif level is Level.DRAM:
            found[action] = _only(rows, name, accelerator)
        else:
            kind, _, what = name.partition("_buffer_")
            size = accelerator.weight_buffer_bytes if kind == "weight" else accelerator.activation_buffer_bytes
            found[action] = _macro(rows, f"sram_{what}", size, accelerator)
    return found


@cache
def _rows(table: str) -> tuple[Row, ...]:
    return parse_toml(_TABLES / f"{table}.toml", _TableFile).rows


def _only(rows: list[Row], name: str, accelerator: Accelerator) -> Price:
    matches = [row for row in rows if row.action == name]
    if len(matches) != 1:
        raise SimulatorError(accelerator.name, "energy_tables", expected=f"one row {name}", found=f"{len(matches)}")
    return Price(matches[0].value, matches[0])


def _macro(rows: list[Row], name: str, size_bytes: int, accelerator: Accelerator) -> Price:
    macros = {row.capacity_bytes: row for row in rows if row.action == name and row.capacity_bytes}
    if not macros:
        raise SimulatorError(accelerator.name, "energy_tables", expected=f"rows {name} with capacities", found="none")
    capacity = min((c for c in macros if c >= size_bytes), default=max(macros))
    row = macros[capacity]
    # Only one macro of several is read at a time; all of them leak.
    return Price(row.value * (ceil(size_bytes / capacity) if name == "sram_leakage" else 1), row)


def counted_actions(step: Work, moved: Traffic, cycles: int, accelerator: Accelerator) -> dict[Action, float]:
    """Return all actions of an operation: its unit's, its operands' registers, its bytes, its time."""
    actions: dict[Action, float] = defaultdict(float, step.actions)
    if step.gemm is not None:
        weight_bits = TERNARY_BITS if step.unit is Unit.TERNARY_ARRAY else 8
        moving_bits = {
            Dataflow.WEIGHT_STATIONARY: 8,
            Dataflow.INPUT_STATIONARY: weight_bits,
            Dataflow.OUTPUT_STATIONARY: 8 + weight_bits,
        }[accelerator.dataflow]
        actions[Action.OPERAND_REGISTER_BIT] += moving_bits * step.gemm.macs
    for level, moved_bytes in moved.as_dict().items():
        actions[Action(f"{level}_bit")] += 8 * moved_bytes
    nanoseconds = cycles / accelerator.clock_hz * 1e9
    actions[Action.WEIGHT_BUFFER_LEAKAGE_NS] = nanoseconds
    actions[Action.ACTIVATION_BUFFER_LEAKAGE_NS] = nanoseconds
    return actions


def energy_by_level_pj(actions: Mapping[Action, float], price: Mapping[Action, Price]) -> dict[Level, float]:
    """Return the picojoules of `actions`, by where they are spent."""
    spent = dict.fromkeys(Level, 0.0)
    for action, count in actions.items():
        spent[_LEVELS[action]] += count * price[action].pj
    return spent
