"""Energy as a band: what each cause of uncertainty alone could make of a figure."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


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
