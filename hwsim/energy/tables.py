"""Tables of energy and area: rows with a source each, in files that come with the package or are the user's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hwsim.config import MIN_ACCUMULATOR_BITS, parse_toml
from hwsim.energy.scaling import (
    Point,
    ScalingRule,
    logic_area_factor,
    logic_energy_factor,
    sram_area_factor,
    sram_energy_factor,
)
from hwsim.errors import SimulatorError

_TABLES = Path(__file__).parents[1] / "tables"
UNCERTAINTY_FILE = _TABLES / "uncertainty.toml"
_AREAS = ("um2", "mm2")

Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0, le=1e12)]
NotNegative = Annotated[float, Field(ge=0, le=1e12)]
Node = Annotated[int, Field(ge=1, le=1000)]
Capacity = Annotated[int, Field(ge=1, le=1 << 40)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Row(_Strict):
    """One figure with its source: the energy of an action or the area of a circuit that does it.

    SRAM rows hold for a macro of `capacity_bytes`; a figure for `accumulator_bits` changes by `per_accumulator_bit`.
    """

    action: Text
    value: NotNegative
    unit: Literal["pJ", "pJ/bit", "pJ/ns", "um2", "mm2"]
    source: Text
    note: str
    node_nm: Node | None = None
    voltage_v: Positive | None = None
    capacity_bytes: Capacity | None = None
    accumulator_bits: Annotated[int, Field(ge=1, le=64)] | None = None
    per_accumulator_bit: NotNegative | None = None

    @model_validator(mode="after")
    def _slope_has_a_start(self) -> Self:
        if (self.accumulator_bits is None) != (self.per_accumulator_bit is None):
            raise ValueError("accumulator_bits and per_accumulator_bit belong together")
        if self.at_width(MIN_ACCUMULATOR_BITS) < 0:
            raise ValueError(f"{self.action} is below nothing with an accumulator of {MIN_ACCUMULATOR_BITS} bits")
        return self

    def at_width(self, accumulator_bits: int) -> float:
        """Return the figure for an accumulator of that width."""
        if self.accumulator_bits is None or self.per_accumulator_bit is None:
            return self.value
        return self.value + (accumulator_bits - self.accumulator_bits) * self.per_accumulator_bit


class Factor(_Strict):
    """By what a cause can multiply the figures of some actions in some tables; both are shell patterns."""

    tables: tuple[Text, ...] = ("*",)
    actions: tuple[Text, ...] = ("*",)
    low: Annotated[float, Field(gt=0, le=1)]
    high: Annotated[float, Field(ge=1, le=1e3)]
    source: Text


class Cause(_Strict):
    """One cause of uncertainty, and what it can do to which figures. Of several factors the first that fits holds."""

    cause: Text
    note: str
    factors: tuple[Factor, ...] = Field(min_length=1)


class _MacroSize(_Strict):
    capacity_bytes: Capacity
    read_pj_per_bit: NotNegative
    write_pj_per_bit: NotNegative
    leakage_pj_per_ns: NotNegative
    area_mm2: NotNegative


class _Macros(_Strict):
    """SRAM macros of one compiler: every size gives four rows."""

    node_nm: Node
    source: Text
    note: str
    sizes: tuple[_MacroSize, ...] = Field(min_length=1)


class _Scaled(_Strict):
    """Takes the rows of a table of the package to another node."""

    table: Text
    rule: ScalingRule
    node_nm: Node
    voltage_v: Positive | None = None
    source: Text


class TableFile(_Strict):
    """The content of a table's file."""

    description: str
    rows: tuple[Row, ...] = ()
    areas: tuple[Row, ...] = ()
    macros: _Macros | None = None
    scaled: _Scaled | None = None
    causes: tuple[Cause, ...] = ()

    @model_validator(mode="after")
    def _energies_apart_from_areas(self) -> Self:
        misplaced = [r for r in self.rows if r.unit in _AREAS] + [r for r in self.areas if r.unit not in _AREAS]
        if misplaced:
            raise ValueError(f"{misplaced[0].action} in {misplaced[0].unit}: energies belong in rows, areas in areas")
        return self


@dataclass(frozen=True)
class Table:
    """A table with all its rows; `own` where it is a file of the user's, `base` whose rows it takes to its node."""

    name: str
    own: bool
    base: str | None
    rows: tuple[Row, ...]
    areas: tuple[Row, ...]
    causes: tuple[Cause, ...]


def table_names() -> tuple[str, ...]:
    """Return the names of the tables that come with the package."""
    return tuple(sorted(file.stem for file in _TABLES.glob("*.toml") if file != UNCERTAINTY_FILE))


def read_tables(names: Sequence[str], source: str) -> tuple[Table, ...]:
    """Read tables of the package by name and the user's own by path, which ends in .toml.

    Raises SimulatorError, naming `source` where a name is unknown, or the file and field where its content is wrong.
    """
    return tuple(_read(name, source) for name in names)


def modified_ns(names: Sequence[str]) -> tuple[int, ...]:
    """Return when each table was last written; 0 for those of the package, which do not change, and for no file."""
    files = [Path(name) if name.endswith(".toml") else None for name in names]
    return tuple(file.stat().st_mtime_ns if file is not None and file.is_file() else 0 for file in files)


def _read(name: str, source: str) -> Table:
    if name.endswith(".toml"):
        return _complete(name, parse_toml(Path(name), TableFile), own=True)
    if name not in table_names():
        expected = f"a .toml file or tables out of {', '.join(table_names())}"
        raise SimulatorError(source, "energy_tables", expected=expected, found=repr(name))
    return _packaged(name)


@lru_cache(maxsize=64)
def _packaged(name: str) -> Table:
    return _complete(name, parse_toml(_TABLES / f"{name}.toml", TableFile), own=False)


def _complete(name: str, content: TableFile, *, own: bool) -> Table:
    rows, areas = [*content.rows], [*content.areas]
    if content.macros is not None:
        for row in _macro_rows(content.macros):
            (areas if row.unit in _AREAS else rows).append(row)
    if content.scaled is not None:
        base = _base(name, content.scaled)
        rows += [_scaled(name, row, content.scaled) for row in base.rows]
        areas += [_scaled(name, row, content.scaled) for row in base.areas]
    return Table(name, own, content.scaled.table if content.scaled else None, tuple(rows), tuple(areas), content.causes)


def _macro_rows(macros: _Macros) -> Iterator[Row]:
    for size in macros.sizes:
        of_size = Row(
            action="sram_read",
            value=size.read_pj_per_bit,
            unit="pJ/bit",
            source=macros.source,
            note=macros.note,
            node_nm=macros.node_nm,
            capacity_bytes=size.capacity_bytes,
        )
        yield of_size
        yield of_size.model_copy(update={"action": "sram_write", "value": size.write_pj_per_bit})
        yield of_size.model_copy(update={"action": "sram_leakage", "value": size.leakage_pj_per_ns, "unit": "pJ/ns"})
        yield of_size.model_copy(update={"action": "sram", "value": size.area_mm2, "unit": "mm2"})


def _base(name: str, scaled: _Scaled) -> Table:
    """Return the table that another is scaled from: one of the package that holds its figures itself."""
    if scaled.table not in table_names() or (base := _packaged(scaled.table)).base is not None:
        expected = "a table of the package that is not itself scaled"
        raise SimulatorError(name, "scaled.table", expected=expected, found=repr(scaled.table))
    return base


def _scaled(table: str, row: Row, scaled: _Scaled) -> Row:
    """Return a row at the node that `scaled` asks for; its note says what it was and what it was multiplied with."""
    try:
        factor = _factor(row, scaled)
    except ValueError as error:
        raise SimulatorError(
            table, f"scaled ({row.action})", expected="a node of the rule", found=str(error)
        ) from error
    voltage = f", {row.voltage_v:g} V" if row.voltage_v is not None else ""
    slope = row.per_accumulator_bit
    return row.model_copy(
        update={
            "value": row.value * factor,
            "per_accumulator_bit": slope if slope is None else slope * factor,
            "node_nm": scaled.node_nm,
            "voltage_v": scaled.voltage_v if row.voltage_v is not None else None,
            "source": f"{row.source}; scaled by {scaled.source}",
            "note": f"{row.value:g} {row.unit} at {row.node_nm} nm{voltage}, times {factor:.3g}; {row.note}",
        }
    )


def _factor(row: Row, scaled: _Scaled) -> float:
    if row.node_nm is None:
        raise ValueError("a row without a node")
    area = row.unit in _AREAS
    if scaled.rule is ScalingRule.SQUARE_ROOT:
        return (sram_area_factor if area else sram_energy_factor)(row.node_nm, scaled.node_nm)
    if area:
        return logic_area_factor(row.node_nm, scaled.node_nm)
    if row.voltage_v is None or scaled.voltage_v is None:
        raise ValueError("no voltage, which this rule needs")
    return logic_energy_factor(Point(row.node_nm, row.voltage_v), Point(scaled.node_nm, scaled.voltage_v))
