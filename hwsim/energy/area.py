"""Area: circuits counted from an accelerator's fields times a table's rows, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from math import ceil

from hwsim.config import Accelerator
from hwsim.energy.prices import Level, Offer, macro_share
from hwsim.energy.tables import Row, modified_ns, read_tables
from hwsim.schedule.fixed_profile import FIXED_ACTIONS
from hwsim.schedule.workload import unit_actions
from hwsim.units.actions import Action
from hwsim.widths import FixedWidths
from ti_qat.artifact.encoder import OpKind

ASSUMPTIONS = (
    "Area is that of cells and macros: no wires, no space between cells, no control, pads or DRAM, so it is a floor.",
    "Every element of the array multiplies int8 by int8, for attention, and has beside the multiplier the adder input "
    "of a ternary weight; both share one accumulator. Its operands take two registers of 8 bits.",
    "An element of a bit-serial array has in place of the multiplier an adder and a register of 16 bits.",
    "The array has an output stage a column, which takes one sum a cycle.",
    "The vector units' operations share their lanes. A lane has as many adders, multipliers and so on as the operation "
    "that takes most of each for an element; what happens once a row, and the classifier, is done by these too.",
    "In the fixed profile a lane has look-up tables of its own, one for each function that takes one, as dense as the "
    "smallest macro.",
)
OUTPUT_STAGE = "output_stage"
_PRODUCT_KINDS = (OpKind.TERNARY_LINEAR, OpKind.ATTENTION_SCORES, OpKind.ATTENTION_CONTEXT)
_LANE_KINDS = tuple(kind for kind in FIXED_ACTIONS if kind not in {*_PRODUCT_KINDS, OpKind.CLASSIFIER})
_ROW = 1 << 20  # elements of a row so long that what happens once a row vanishes
_ELEMENT = {"int8_mac": 1.0, "ternary_product": 1.0, "operand_register_bit": 8 + 8}
# A bit-serial element adds a product of up to 16 bits to itself, half a 32-bit adder, and holds it in a register.
_SERIAL_ELEMENT = {"ternary_mac": 1.0, "word_operation": 0.5, "operand_register_bit": 1 + 8 + 16}
_ENTRY_BITS = 24
_ARITHMETIC = (Action.FLOAT32_ADD, Action.FLOAT32_MULTIPLY, Action.WORD_OPERATION, Action.INT32_MULTIPLY)
_MM2 = {"um2": 1e-6, "mm2": 1.0}
# What tables give the area of, and in which units.
CIRCUITS: Mapping[str, tuple[str, ...]] = dict.fromkeys((*_ELEMENT, "ternary_mac", *_ARITHMETIC, "sram"), tuple(_MM2))


def area_mm2(accelerator: Accelerator, fixed: FixedWidths | None = None) -> dict[str, float]:
    """Return the area of every component; empty where the tables lack the area of a circuit that is needed.

    With units of float32, or of integers of the widths `fixed`. Raises SimulatorError where a table is unknown or
    gives an area twice.
    """
    stage, _ = _most(_PRODUCT_KINDS, fixed)
    lane, tables = _most(_LANE_KINDS, fixed)
    element = _SERIAL_ELEMENT if accelerator.bit_serial else _ELEMENT
    circuits = {
        Level.ARRAY.value: _times(element, accelerator.array_rows * accelerator.array_columns),
        OUTPUT_STAGE: _times(stage, accelerator.array_columns),
        Level.VECTOR_UNITS.value: _times(lane, accelerator.vector_lanes),
    }
    names = accelerator.energy_tables
    offered = _areas(names, modified_ns(names), accelerator.name)
    if not all(offered.has(circuit) for circuit in ("sram", *(name for part in circuits.values() for name in part))):
        return {}
    found = {
        component: sum(
            count * _mm2(offered.only(name)[1], accelerator.accumulator_bits) for name, count in counts.items()
        )
        for component, counts in circuits.items()
    }
    if fixed is not None:
        _, densest = offered.macro("sram", 0)
        table_bits = accelerator.vector_lanes * tables * fixed.table_entries * _ENTRY_BITS
        found[Level.VECTOR_UNITS.value] += _mm2(densest) * table_bits / (8 * (densest.capacity_bytes or 1))
    for buffer, size_bytes in (
        (Level.WEIGHT_BUFFER, accelerator.weight_buffer_bytes),
        (Level.ACTIVATION_BUFFER, accelerator.activation_buffer_bytes),
    ):
        _, macro = offered.macro("sram", size_bytes)
        found[buffer.value] = _mm2(macro) * macro_share(macro, size_bytes)
    return found


@lru_cache(maxsize=256)
def _areas(names: tuple[str, ...], _modified_ns: tuple[int, ...], accelerator: str) -> Offer:
    return Offer(accelerator, read_tables(names, accelerator), CIRCUITS, areas=True)


def _mm2(row: Row, accumulator_bits: int = 0) -> float:
    return row.at_width(accumulator_bits) * _MM2[row.unit]


def _times(counts: Mapping[str, float], number: int) -> dict[str, float]:
    return {name: count * number for name, count in counts.items()}


@lru_cache(maxsize=64)
def _most(kinds: tuple[OpKind, ...], fixed: FixedWidths | None) -> tuple[Counter[str], int]:
    """Return the most circuits of each kind that an element takes, and how many operations read a table."""
    most: Counter[str] = Counter()
    tables = 0
    for kind in kinds:
        actions = unit_actions(kind, 1, _ROW, _ROW, fixed)
        tables += Action.TABLE_READ_BIT in actions
        circuits = {a.value: n for a, n in actions.items() if a is not Action.TABLE_READ_BIT}
        most |= Counter({name: ceil(round(n / _ROW, 3)) for name, n in circuits.items()})
    return most, tables
