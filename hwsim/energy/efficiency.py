"""What an inference's energy means to a user: joules, watts, operations a joule, inferences a charge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict

from hwsim.config import Battery
from hwsim.energy.bands import EnergyBand
from hwsim.errors import SimulatorError

ASSUMPTIONS = (
    "TOPS/W counts two operations for every multiply-accumulate of the array, ternary and int8, those with a weight of "
    "zero among them, and nothing else; its watts are those of everything, DRAM included.",
    "Average power is that of inferences one after the other, without a pause.",
    "A battery runs the accelerator and its DRAM, and nothing else.",
)


class Range(BaseModel):
    """A figure at the tables' energy, and at the ends of its band."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    nominal: float
    high: float

    @classmethod
    def of(cls, band: EnergyBand, figure: Callable[[float], float]) -> Self:
        """Return `figure` of the band's picojoules, its own lowest first."""
        low, high = sorted((figure(band.low_pj), figure(band.high_pj)))
        return cls(low=low, nominal=figure(band.nominal_pj), high=high)


class Efficiency(BaseModel):
    """Figures of an average inference; the last is None without a battery."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    joules_per_inference: Range
    average_power_w: Range
    tops_per_w: Range
    effective_tops: float
    inferences_per_charge: Range | None


def efficiency(band: EnergyBand, macs: Mapping[str, float], latency_ms: float, battery: Battery | None) -> Efficiency:
    """Return the figures of an inference of that energy, those multiply-accumulates by unit and that latency.

    Raises SimulatorError where the tables' figures are all zero.
    """
    if band.low_pj <= 0:
        raise SimulatorError("energy", "energy_tables", expected="figures above 0", found="0 pJ an inference")
    operations = 2 * sum(macs.values())
    charge_j = battery.energy_j if battery is not None else None
    return Efficiency(
        joules_per_inference=Range.of(band, lambda pj: pj * 1e-12),
        average_power_w=Range.of(band, lambda pj: pj * 1e-12 / (latency_ms * 1e-3)),
        tops_per_w=Range.of(band, lambda pj: operations / pj),
        effective_tops=operations / (latency_ms * 1e-3) * 1e-12,
        inferences_per_charge=None if charge_j is None else Range.of(band, lambda pj: charge_j / (pj * 1e-12)),
    )
