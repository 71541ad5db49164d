"""The values that one field takes in a sweep: a list, or a range by step, by factor or by count."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, log
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from ti_qat.artifact.schema import Frozen

Value = bool | int | float | str | tuple[str, ...]
MAX_VALUES = 10_000
Number = Annotated[int | float, Field(ge=-1e18, le=1e18)]
PositiveNumber = Annotated[int | float, Field(ge=1e-18, le=1e18)]
_WHOLE = 1e-9  # of a step: how far below a whole number a range in binary floating point may end and still reach it


class Range(Frozen):
    """Numbers between two ends, whole ones where both ends are; exactly one of `step`, `factor` and `count` is given.

    `step` adds, `factor` multiplies, and `count` is how many numbers, equal ratios apart and both ends
    among them (rounded and told once where the ends are whole).
    """

    first: Number = Field(alias="from")
    last: Number = Field(alias="to")
    step: PositiveNumber | None = None
    factor: Annotated[PositiveNumber, Field(gt=1)] | None = None
    count: Annotated[int, Field(ge=2, le=MAX_VALUES)] | None = None

    @model_validator(mode="after")
    def _describes_numbers(self) -> Self:
        if sum(way is not None for way in (self.step, self.factor, self.count)) != 1:
            raise ValueError("exactly one of step, factor and count")
        if not self.first <= self.last:
            raise ValueError(f"from ({self.first}) at most to ({self.last})")
        if self.step is None and self.first < 1e-18:
            raise ValueError(f"from ({self.first}) at least 1e-18, as a ratio needs it")
        if self._last_index >= MAX_VALUES:
            raise ValueError(f"at most {MAX_VALUES} values")
        return self

    @property
    def _last_index(self) -> int:
        if self.step is not None:
            return floor((self.last - self.first) / self.step + _WHOLE)
        if self.factor is not None:
            return floor(log(self.last / self.first) / log(self.factor) + _WHOLE)
        return (self.count or 0) - 1

    @property
    def values(self) -> tuple[int | float, ...]:
        """All numbers of the range, rising."""
        indexes = range(self._last_index + 1)
        if self.step is not None:
            return tuple(self.first + index * self.step for index in indexes)
        if self.factor is not None:
            return tuple(self.first * self.factor**index for index in indexes)
        ratio = self.last / self.first
        spread = [self.first * ratio ** (index / self._last_index) for index in indexes]
        spread[-1] = self.last  # without what powers of floating-point numbers add
        if isinstance(self.first, int) and isinstance(self.last, int):
            return tuple(dict.fromkeys(map(round, spread)))
        return tuple(spread)


def _kind(content: Any) -> str:
    return "range" if isinstance(content, Mapping | Range) else "values"


Values = Annotated[tuple[Value, ...], Field(min_length=1, max_length=MAX_VALUES)]
Axis = Annotated[Annotated[Values, Tag("values")] | Annotated[Range, Tag("range")], Discriminator(_kind)]


def axis_values(axis: Axis) -> tuple[Value, ...]:
    """Return an axis's values in their order."""
    return axis.values if isinstance(axis, Range) else axis


def flattened(axes: Any, parents: tuple[str, ...] = ()) -> Any:
    """Return axes by dotted names: TOML reads `fixed.gelu = [...]` as a table within a table.

    Lists become tuples, which strict validation asks for once a value has been in Python's hands.
    """
    if not isinstance(axes, Mapping):
        return axes
    flat: dict[str, Any] = {}
    for name, content in axes.items():
        if isinstance(content, Mapping) and any(isinstance(inner, Mapping | list) for inner in content.values()):
            flat |= flattened(content, (*parents, name))
        else:
            flat[".".join((*parents, name))] = _frozen(content)
    return flat


def _frozen(content: Any) -> Any:
    return tuple(map(_frozen, content)) if isinstance(content, list) else content
