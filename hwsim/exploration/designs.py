"""Designs: values of the axes, and the accelerators that they make of the base."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any

from pydantic import BaseModel, ValidationError

from hwsim.config import Accelerator, Profile
from hwsim.errors import SimulatorError, first_problem
from hwsim.exploration.axes import Value
from hwsim.exploration.costs import Candidate

Design = dict[str, Value]
Axes = Mapping[str, tuple[Value, ...]]
PROFILE = "profile"  # the axis that is no field of an accelerator


def accelerator_of(base: Accelerator, design: Mapping[str, Value]) -> Accelerator:
    """Return `base` with the fields that a design sets. Raises ValidationError where they do not fit each other."""
    content = base.model_dump(mode="json")
    for name, value in design.items():
        if name != PROFILE:
            *parents, field = name.split(".")
            table = content
            for parent in parents:
                table = table[parent]
            table[field] = value
    # Through JSON, because strict validation takes an enum's value and a tuple from there only.
    return Accelerator.model_validate_json(json.dumps(content))


def candidate_of(base: Candidate, design: Mapping[str, Value]) -> Candidate:
    """Return `base` with what a design sets. Raises ValidationError where it does not fit."""
    return Candidate(accelerator_of(base.accelerator, design), Profile(str(design.get(PROFILE, base.profile))))


def reason(error: ValidationError) -> str:
    """Return in one line why a design is none."""
    return "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())


def number_of_designs(axes: Axes) -> int:
    """Return how many combinations of values there are."""
    return prod(map(len, axes.values()))


def design_number(index: int, axes: Axes) -> Design:
    """Return the combination at `index` of the grid, whose last axis varies fastest."""
    chosen = []
    for name, values in reversed(list(axes.items())):
        index, position = divmod(index, len(values))
        chosen.append((name, values[position]))
    return dict(reversed(chosen))


def check_axes(source: str, axes: Axes, base: Accelerator) -> None:
    """Raise SimulatorError where an axis is no field, or a value is one that its field never takes.

    Values that only clash with those of another axis pass: such a design fails by itself.
    """
    fields = [PROFILE, *_field_names(Accelerator)]
    for name, values in axes.items():
        if name not in fields:
            raise SimulatorError(source, f"axes.{name}", expected=f"one of {', '.join(fields)}", found="no field")
        for index, value in enumerate(values):
            where = f"{source}: axes.{name}.{index}"
            if values.index(value) < index:
                raise SimulatorError(where, "value", expected="another one", found=f"{value!r} again")
            _check_value(where, name, value, base)


def _check_value(source: str, name: str, value: Value, base: Accelerator) -> None:
    if name == PROFILE:
        if value not in list(Profile):
            raise SimulatorError(source, "value", expected=" or ".join(Profile), found=repr(value))
        return
    try:
        accelerator_of(base, {name: value})
    except ValidationError as error:
        if any(problem["loc"][: name.count(".") + 1] == tuple(name.split(".")) for problem in error.errors()):
            raise first_problem(source, error) from error


def _field_names(model: type[BaseModel], parent: str = "") -> list[str]:
    """Return the names of all fields, those of tables within by their path."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        inner: Any = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names += _field_names(inner, f"{parent}{name}.")
        else:
            names.append(parent + name)
    return names
