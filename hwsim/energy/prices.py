"""Energy: counted actions times a table's rows, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

from hwsim.config import Accelerator, Dataflow
from hwsim.energy.array_actions import settle_array_actions
from hwsim.energy.bands import Price, spreads_of
from hwsim.energy.tables import Row, Table, modified_ns, read_tables
from hwsim.errors import SimulatorError
from hwsim.schedule.memory import TERNARY_BITS, Traffic
from hwsim.schedule.timing import loading_steps
from hwsim.schedule.workload import Unit, Work
from hwsim.units.accumulator import CODE_BITS
from hwsim.units.actions import Action
from ti_qat.artifact.encoder import Gemm

ASSUMPTIONS = (
    "Energy is dynamic energy of counted actions plus SRAM leakage; logic leakage, control and DRAM refresh are left "
    "out, and clock tree, wires and glitches are in the band alone.",
    "Elements of the array without work are clock-gated; an element whose weight is zero is not unless `zero_gating` "
    "says so, and pays for its clock. Operands that move through the array pay for a register a bit.",
    "An operand that stays is shifted in from above, past the registers of the rows before its own; a product that is "
    "cut into tiles pays for that once.",
    "A buffer reads and writes as the smallest tabulated macro that holds it does, or as the largest; it leaks in "
    "proportion to its size.",
    "A look-up table reads as the smallest tabulated macro does, though it is smaller.",
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


def prices(accelerator: Accelerator) -> Mapping[Action, Price]:
    """Return a price for every action from the accelerator's tables.

    Raises SimulatorError where a table is unknown or an action has no row or several.
    """
    names = accelerator.energy_tables
    return _prices(
        names,
        modified_ns(names),
        accelerator.name,
        accelerator.weight_buffer_bytes,
        accelerator.activation_buffer_bytes,
        accelerator.accumulator_bits,
    )


@lru_cache(maxsize=256)
def _prices(
    names: tuple[str, ...],
    _modified_ns: tuple[int, ...],
    accelerator: str,
    weight_buffer_bytes: int,
    activation_buffer_bytes: int,
    accumulator_bits: int,
) -> Mapping[Action, Price]:
    offered = Offer(accelerator, read_tables(names, accelerator), ENERGY_ROWS)
    found = {}
    for action in Action:
        name = row_name(action)
        if name.startswith("sram_"):
            size = weight_buffer_bytes if action.value.startswith("weight_") else activation_buffer_bytes
            table, row = offered.macro(name, 0 if action is Action.TABLE_READ_BIT else size)
            pj = row.value * (macro_share(row, size) if name == "sram_leakage" else 1)
        else:
            table, row = offered.only(name)
            pj = row.at_width(accumulator_bits)
        found[action] = Price(pj, row, tuple(spreads_of(table, name)))
    return MappingProxyType(found)


def row_name(action: Action) -> str:
    """Return the word under which tables have the figure of an action."""
    name = action.value.removesuffix("_bit").removesuffix("_ns")
    _, _, what = name.partition("_buffer_")
    if what or action is Action.TABLE_READ_BIT:
        return f"sram_{what or 'read'}"
    return name if _LEVELS[action] is Level.DRAM else action.value


def _unit(name: str) -> str:
    if name == "sram_leakage":
        return "pJ/ns"
    return "pJ/bit" if name.startswith(("sram", "dram")) else "pJ"


def macro_share(row: Row, size_bytes: int) -> float:
    """Return how many of a row's macros a buffer's leakage and area are those of; one at least."""
    return max(1.0, size_bytes / row.capacity_bytes) if row.capacity_bytes else 1.0


ENERGY_ROWS: Mapping[str, tuple[str, ...]] = {name: (_unit(name),) for name in map(row_name, Action)}


class Offer:
    """The rows of an accelerator's tables; a user's own take the place of the package's of the same action.

    `known` are the words that rows may have, with the units that each comes in. Raises SimulatorError for others.
    """

    def __init__(
        self, accelerator: str, tables: Sequence[Table], known: Mapping[str, tuple[str, ...]], *, areas: bool = False
    ) -> None:
        self._accelerator = accelerator
        self._rows: dict[str, list[tuple[Table, Row]]] = defaultdict(list)
        for table in tables:
            for row in table.areas if areas else table.rows:
                if row.unit not in known.get(row.action, ()):
                    expected = "; ".join(f"{name} in {' or '.join(units)}" for name, units in known.items())
                    raise SimulatorError(table.name, "rows", expected=expected, found=f"{row.action} in {row.unit}")
                self._rows[row.action].append((table, row))

    def has(self, action: str) -> bool:
        """Return whether there is a row of an action."""
        return action in self._rows

    def only(self, action: str) -> tuple[Table, Row]:
        """Return the one row of an action. Raises SimulatorError."""
        matches = self._offered(action)
        if len(matches) != 1:
            found = "none" if not matches else "one in each of " + ", ".join(table.name for table, _ in matches)
            raise self._error(f"one table with a row {action}", found)
        return matches[0]

    def macro(self, action: str, size_bytes: int) -> tuple[Table, Row]:
        """Return the row of the smallest macro that holds `size_bytes`, or of the largest. Raises SimulatorError."""
        offered = [(row.capacity_bytes, table, row) for table, row in self._offered(action) if row.capacity_bytes]
        macros = {capacity: (table, row) for capacity, table, row in offered}
        names = list(dict.fromkeys(table.name for _, table, _ in offered))
        if len(names) != 1 or len(macros) < len(offered):
            found = f"{len(offered)} rows of {', '.join(names) or 'no table'}"
            raise self._error(f"one table with rows {action}, one for each capacity", found)
        return macros[min((capacity for capacity in macros if capacity >= size_bytes), default=max(macros))]

    def _offered(self, action: str) -> list[tuple[Table, Row]]:
        rows = self._rows.get(action, [])
        return [(table, row) for table, row in rows if table.own] or rows

    def _error(self, expected: str, found: str) -> SimulatorError:
        return SimulatorError(self._accelerator, "energy_tables", expected=expected, found=found)


def counted_actions(step: Work, moved: Traffic, cycles: int, accelerator: Accelerator) -> dict[Action, float]:
    """Return all actions of an operation: its unit's, its operands' registers, its bytes, its time."""
    actions: dict[Action, float] = defaultdict(float, step.actions)
    if step.gemm is not None:
        actions[Action.OPERAND_REGISTER_BIT] += _operand_register_bits(step, step.gemm, accelerator)
        settle_array_actions(actions, step, accelerator)
    for level, moved_bytes in moved.as_dict().items():
        actions[Action(f"{level}_bit")] += 8 * moved_bytes
    nanoseconds = cycles / accelerator.clock_hz * 1e9
    actions[Action.WEIGHT_BUFFER_LEAKAGE_NS] = nanoseconds
    actions[Action.ACTIVATION_BUFFER_LEAKAGE_NS] = nanoseconds
    return actions


def _operand_register_bits(step: Work, gemm: Gemm, accelerator: Accelerator) -> int:
    """Return the bits of operand registers clocked: one a product for what moves, the way in of what stays."""
    weight_bits, rows = TERNARY_BITS if step.unit is Unit.TERNARY_ARRAY else CODE_BITS, accelerator.array_rows
    match accelerator.dataflow:
        case Dataflow.OUTPUT_STATIONARY:
            return (CODE_BITS + weight_bits) * gemm.macs
        case Dataflow.WEIGHT_STATIONARY:
            return CODE_BITS * gemm.macs + weight_bits * gemm.count * loading_steps(gemm.n, gemm.k, rows)
        case Dataflow.INPUT_STATIONARY:
            return weight_bits * gemm.macs + CODE_BITS * gemm.count * loading_steps(gemm.m, gemm.k, rows)


def energy_by_level_pj(actions: Mapping[Action, float], price: Mapping[Action, Price]) -> dict[Level, float]:
    """Return the picojoules of `actions`, by where they are spent."""
    spent = dict.fromkeys(Level, 0.0)
    for action, count in actions.items():
        spent[_LEVELS[action]] += count * price[action].pj
    return spent
