"""What each operation takes of an average inference: cycles, bytes, multiply-accumulates and energy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from hwsim.energy.prices import Level
from hwsim.schedule.execution import OperationTime, PlannedOperation
from hwsim.schedule.workload import Work

_CYCLES = ("cycles", "compute_cycles", "buffer_stall_cycles", "dram_stall_cycles")


class OperationCost(BaseModel):
    """One operation of an average inference; over all operations, each quantity sums to that of the inference.

    `traffic_bytes` by level of memory and direction, `energy_pj` by level.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: str
    unit: str
    layer: str
    macs: float
    cycles: float
    compute_cycles: float
    buffer_stall_cycles: float
    dram_stall_cycles: float
    traffic_bytes: dict[str, float]
    energy_pj: dict[str, float]


@dataclass
class OperationSums:
    """Sums of one operation over sentences of all lengths."""

    work: Work
    macs: int = 0
    cycles: Counter[str] = field(default_factory=Counter)
    traffic_bytes: Counter[str] = field(default_factory=Counter)
    energy_pj: dict[Level, float] = field(default_factory=lambda: dict.fromkeys(Level, 0.0))

    def add(
        self, planned: PlannedOperation, taken: OperationTime, spent_pj: Mapping[Level, float], sentences: int
    ) -> None:
        """Add the operation in `sentences` sentences of one length, of which one spends `spent_pj`."""
        self.macs += sentences * (planned.work.gemm.macs if planned.work.gemm is not None else 0)
        for name in _CYCLES:
            self.cycles[name] += sentences * getattr(taken, name)
        for name, moved in planned.moved.as_dict().items():
            self.traffic_bytes[name] += sentences * moved
        for level, picojoules in spent_pj.items():
            self.energy_pj[level] += sentences * picojoules

    def mean(self, sentences: int) -> OperationCost:
        """Return the operation's share of an average over all `sentences`."""
        return OperationCost(
            operation=self.work.operation.name,
            unit=self.work.unit.value,
            layer=self.work.layer,
            macs=self.macs / sentences,
            traffic_bytes={name: moved / sentences for name, moved in self.traffic_bytes.items()},
            energy_pj={level.value: picojoules / sentences for level, picojoules in self.energy_pj.items()},
            **{name: cycles / sentences for name, cycles in self.cycles.items()},
        )
