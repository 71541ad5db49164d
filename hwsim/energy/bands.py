"""Energy as a band: what each cause of uncertainty alone could make of a figure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from math import prod
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from hwsim.config import parse_toml
from hwsim.energy.tables import UNCERTAINTY_FILE, Cause, Row, Table
from hwsim.units.actions import Action

ASSUMPTIONS = (
    "Causes of uncertainty are taken to be independent: the ends of an energy band have all of them at their lowest "
    "or highest at once, so it is wider than any one design would show.",
    "A table of the user's own is certain unless it names causes itself.",
)


class CauseBand(BaseModel):
    """The picojoules of an inference if one cause alone went its lowest or highest way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cause: str
    low_pj: float
    high_pj: float
    note: str
    source: str


class EnergyBand(BaseModel):
    """Picojoules of an inference: the tables' figure, and all causes at their lowest or highest together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low_pj: float
    nominal_pj: float
    high_pj: float
    causes: tuple[CauseBand, ...]


class Spread(NamedTuple):
    """What one cause can multiply one action's price with."""

    cause: str
    low: float
    high: float
    note: str
    source: str


@dataclass(frozen=True)
class Price:
    """Energy of one action on an accelerator, the row that it follows from, and what that row does not know."""

    pj: float
    row: Row
    spreads: tuple[Spread, ...]

    @cached_property
    def low_pj(self) -> float:
        """The price with every cause at its lowest."""
        return self.pj * prod(spread.low for spread in self.spreads)

    @cached_property
    def high_pj(self) -> float:
        """The price with every cause at its highest."""
        return self.pj * prod(spread.high for spread in self.spreads)


class _Uncertainty(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    causes: tuple[Cause, ...] = Field(min_length=1)


@cache
def _known_causes() -> tuple[Cause, ...]:
    return parse_toml(UNCERTAINTY_FILE, _Uncertainty).causes


def spreads_of(table: Table, action: str) -> Iterator[Spread]:
    """Return what the causes can do to the row of `action` in `table`: the package's, or those of a user's table.

    A user's table that scales one of the package, and names no causes, has those of that one; what the way to another
    node adds, only its user can say.
    """
    inherits = table.own and not table.causes and table.base is not None
    name = table.base if inherits and table.base is not None else table.name
    for cause in table.causes if table.own and not inherits else _known_causes():
        for factor in cause.factors:
            if _fits(name, factor.tables) and _fits(action, factor.actions):
                yield Spread(cause.cause, factor.low, factor.high, cause.note, factor.source)
                break


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def energy_range_pj(actions: Mapping[Action, float], price: Mapping[Action, Price]) -> tuple[float, float]:
    """Return the lowest and the highest picojoules of counted `actions`: the ends of their band."""
    low = sum(count * price[action].low_pj for action, count in actions.items())
    return low, sum(count * price[action].high_pj for action, count in actions.items())


def energy_band(actions: Mapping[Action, float], price: Mapping[Action, Price]) -> EnergyBand:
    """Return the picojoules of counted `actions` as a band, with the widest cause first."""
    low, high = energy_range_pj(actions, price)
    nominal = sum(count * price[action].pj for action, count in actions.items())
    moved: defaultdict[str, list[tuple[float, Spread]]] = defaultdict(list)
    for action, count in actions.items():
        for spread in price[action].spreads if count else ():
            moved[spread.cause].append((count * price[action].pj, spread))
    bands = [
        CauseBand(
            cause=cause,
            low_pj=nominal - sum(spent * (1 - spread.low) for spent, spread in parts),
            high_pj=nominal + sum(spent * (spread.high - 1) for spent, spread in parts),
            note=parts[0][1].note,
            source="; ".join(dict.fromkeys(spread.source for _, spread in parts)),
        )
        for cause, parts in moved.items()
    ]
    widest_first = sorted(bands, key=lambda band: band.low_pj - band.high_pj)
    return EnergyBand(low_pj=low, nominal_pj=nominal, high_pj=high, causes=tuple(widest_first))
