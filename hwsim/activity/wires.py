"""What is counted: toggles of a class of wires, clocked register bits, and multiply-accumulates left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class WireClass(StrEnum):
    """Wires and registers of the array; docs/bit_level.md says what each of them sees."""

    ACTIVATION_REGISTER = "activation_register"
    WEIGHT_REGISTER = "weight_register"
    PRODUCT = "product"
    SUM_REGISTER = "sum_register"
    SUM_BUS = "sum_bus"


@dataclass
class Activity:
    """Switching of one product or of several: toggles and clocked bits by class, and MACs by zero operands.

    `zero_activation_macs` and `zero_weight_macs` both include `zero_both_macs`.
    """

    toggles: Counter[WireClass] = field(default_factory=Counter)
    clocked_bits: Counter[WireClass] = field(default_factory=Counter)
    macs: int = 0
    zero_activation_macs: int = 0
    zero_weight_macs: int = 0
    zero_both_macs: int = 0
    gated_macs: int = 0

    def add(self, other: Activity) -> None:
        """Add another's counts to this one's."""
        self.toggles.update(other.toggles)
        self.clocked_bits.update(other.clocked_bits)
        self.macs += other.macs
        self.zero_activation_macs += other.zero_activation_macs
        self.zero_weight_macs += other.zero_weight_macs
        self.zero_both_macs += other.zero_both_macs
        self.gated_macs += other.gated_macs
