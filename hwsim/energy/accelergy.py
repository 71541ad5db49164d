"""Reads Accelergy's reference tables of energy and area, and makes a table of ours by a mapping of names.

Layout of Accelergy 0.3 and 0.4: `ERT.tables` is a list of components, each with `name` and `actions`, each of those
with `name`, `arguments` and `energy` in pJ; `ART.tables` is a list of components with `name` and `area` in um2.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hwsim.config import parse_toml
from hwsim.energy.area import CIRCUITS
from hwsim.energy.prices import ENERGY_ROWS
from hwsim.energy.tables import Capacity, Node, Positive, Row, TableFile, Text
from hwsim.errors import SimulatorError, first_problem

_MAX_FILE_BYTES = 4 << 20
_MAX_DEPTH = 32
_MAX_ENTRIES = 100_000  # of a table: YAML's aliases could make a short file a very long one
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Argument = int | float | str | bool
Read = TypeVar("Read", bound=BaseModel)


def _number(value: object) -> object:
    """Return what may be read as a number; YAML's yes and no would count as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("a number")
    return value


Energy = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1e12)]


class _Mapped(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    action: Text
    component: Text
    capacity_bytes: Capacity | None = None

    @model_validator(mode="after")
    def _sram_has_a_capacity(self) -> Self:
        if self.action.startswith("sram") and self.capacity_bytes is None:
            raise ValueError(f"{self.action} is of a macro and needs capacity_bytes")
        return self


class MappedRow(_Mapped):
    """Which action of which component is one of ours; it handles `bits` at a time, or leaks for `cycle_ns`."""

    component_action: Text
    arguments: dict[str, Argument] = {}
    bits: Annotated[int, Field(ge=1, le=1 << 20)] = 1
    cycle_ns: Positive | None = None

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.action not in ENERGY_ROWS:
            raise ValueError(f"{self.action!r} is none of {', '.join(ENERGY_ROWS)}")
        if (self.action == "sram_leakage") != (self.cycle_ns is not None):
            raise ValueError("cycle_ns, the time that one action stands for, is needed by sram_leakage and by it alone")
        return self


class MappedArea(_Mapped):
    """Which component's area is that of one of our circuits."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.action not in CIRCUITS:
            raise ValueError(f"{self.action!r} is none of {', '.join(CIRCUITS)}")
        return self


class AccelergyMapping(BaseModel):
    """The content of a mapping's file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    description: Text
    source: Text
    node_nm: Node | None = None
    rows: tuple[MappedRow, ...] = Field(min_length=1)
    areas: tuple[MappedArea, ...] = ()


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Entry(_Lenient):
    name: str
    energy: Energy
    arguments: dict[str, Any] | None = None


class _EnergyTable(_Lenient):
    name: str
    actions: tuple[_Entry, ...]


class _AreaTable(_Lenient):
    name: str
    area: Energy


class _EnergyTables(_Lenient):
    tables: tuple[_EnergyTable, ...]


class _AreaTables(_Lenient):
    tables: tuple[_AreaTable, ...]


def import_table(energy_file: Path, mapping_file: Path, area_file: Path | None = None) -> TableFile:
    """Return the table that a mapping makes of an energy and, if there is one, an area reference table.

    Raises SimulatorError naming the file and what in it is wrong, missing or ambiguous.
    """
    mapping = parse_toml(mapping_file, AccelergyMapping)
    energies = _read(energy_file, "ERT", _EnergyTables)
    rows = tuple(_row(energy_file, energies, mapping, wanted) for wanted in mapping.rows)
    if area_file is None:
        if mapping.areas:
            raise SimulatorError(mapping_file, "areas", expected="an area reference table beside it", found="none")
        return TableFile(description=mapping.description, rows=rows)
    sizes = _read(area_file, "ART", _AreaTables)
    areas = tuple(_area(area_file, sizes, mapping, wanted) for wanted in mapping.areas)
    return TableFile(description=mapping.description, rows=rows, areas=areas)


def _row(file: Path, read: _EnergyTables, mapping: AccelergyMapping, wanted: MappedRow) -> Row:
    component = _component(file, read.tables, wanted.component)
    where = f"{component.name}.{wanted.component_action}"
    named = [entry for entry in component.actions if entry.name == wanted.component_action]
    if not named:
        known = ", ".join(dict.fromkeys(entry.name for entry in component.actions)) or "none"
        raise SimulatorError(file, where, expected=f"an action of {component.name}: {known}", found="another name")
    entries = [entry for entry in named if wanted.arguments.items() <= (entry.arguments or {}).items()]
    energies = {entry.energy for entry in entries}
    if len(energies) != 1:
        expected = "one energy with the mapping's arguments"
        offered = "; ".join(str(entry.arguments or "no arguments") for entry in named[:4])
        found = f"{len(energies)} in {len(entries)} entries; there are: {offered}"
        raise SimulatorError(file, where, expected=expected, found=found[:400])
    with_arguments = ", ".join(f"{name} {value}" for name, value in sorted(wanted.arguments.items()))
    value = energies.pop() / wanted.bits / (wanted.cycle_ns or 1.0)
    note = f"{wanted.component}, {wanted.component_action}{f' ({with_arguments})' if with_arguments else ''}"
    return _made(mapping, wanted, value, ENERGY_ROWS[wanted.action][0], note)


def _area(file: Path, read: _AreaTables, mapping: AccelergyMapping, wanted: MappedArea) -> Row:
    return _made(mapping, wanted, _component(file, read.tables, wanted.component).area, "um2", wanted.component)


def _made(mapping: AccelergyMapping, wanted: _Mapped, value: float, unit: str, note: str) -> Row:
    about = {"source": mapping.source, "node_nm": mapping.node_nm, "capacity_bytes": wanted.capacity_bytes}
    return Row.model_validate({"action": wanted.action, "value": value, "unit": unit, "note": note, **about})


Component = TypeVar("Component", _EnergyTable, _AreaTable)


def _component(file: Path, tables: tuple[Component, ...], name: str) -> Component:
    """Return the component of that name, written with or without the ranges of its copies, `PE[0..15].mac[1..1]`."""
    found = [table for table in tables if name in {table.name, re.sub(r"\[[^\]]*\]", "", table.name)}]
    if len(found) != 1:
        raise SimulatorError(file, "tables", expected=f"one component {name}", found=f"{len(found)}")
    return found[0]


def _read(file: Path, key: str, model: type[Read]) -> Read:
    """Read one reference table: safe YAML, of bounded size."""
    if not file.is_file():
        raise SimulatorError(file, "file", expected="an Accelergy reference table", found="nothing of that name")
    if file.stat().st_size > _MAX_FILE_BYTES:
        raise SimulatorError(file, "size", expected=f"at most {_MAX_FILE_BYTES} bytes", found=str(file.stat().st_size))
    try:
        text = file.read_text(encoding="utf-8")
        _refuse_bombs(text)
        _refuse_repeats(yaml.compose(text, Loader=_LOADER), set())
        content = yaml.load(text, Loader=_LOADER)  # a safe loader: values, no objects
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise SimulatorError(file, "content", expected="YAML", found=" ".join(str(error).split())) from error
    table = content.get(key) if isinstance(content, dict) else None
    if not isinstance(table, dict) or not isinstance(table.get("tables"), list):
        expected = f"{key}.tables, a list of components (Accelergy 0.3 and 0.4)"
        raise SimulatorError(file, "content", expected=expected, found=type(content).__name__)
    actions = [t.get("actions") for t in table["tables"] if isinstance(t, dict)]
    entries = len(table["tables"]) + sum(len(listed) for listed in actions if isinstance(listed, list))
    if entries > _MAX_ENTRIES:
        raise SimulatorError(file, f"{key}.tables", expected=f"at most {_MAX_ENTRIES} entries", found=str(entries))
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise first_problem(file, error) from error


def _refuse_bombs(text: str) -> None:
    """Raise ValueError for what makes a short file of YAML take for ever: deep nesting, keys that merge others."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ValueError(f"nesting deeper than {_MAX_DEPTH}")
        if isinstance(event, yaml.ScalarEvent) and event.value == "<<":
            raise ValueError("a key that merges others")
        if getattr(event, "tag", None) is not None:  # a type of the file's choosing, which its text need not fit
            raise ValueError(f"the tag {event.tag}")


def _refuse_repeats(node: yaml.Node | None, seen: set[int]) -> None:
    """Raise ValueError for a key that a mapping has twice, of which YAML would keep the last."""
    if node is None or id(node) in seen:  # aliases lead to one node again and again
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        repeated = next((key for key in keys if keys.count(key) > 1), None) if len(set(keys)) < len(keys) else None
        if repeated is not None:
            raise ValueError(f"the key {repeated} twice")
        for _, value in node.value:
            _refuse_repeats(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeats(value, seen)


def as_toml(table: TableFile) -> str:
    """Return the text of a table's file."""
    lines = [f"description = {_toml(table.description)}"]
    for kind, rows in (("rows", table.rows), ("areas", table.areas)):
        for row in rows:
            fields = row.model_dump(exclude_none=True)
            lines += ["", f"[[{kind}]]", *(f"{name} = {_toml(value)}" for name, value in fields.items())]
    return "\n".join([*lines, ""])


def _toml(value: str | int | float) -> str:
    # A JSON string is a TOML one, but for DEL; a float's repr has a point or an exponent, as TOML wants.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else repr(value)
