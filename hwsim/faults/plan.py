"""What a campaign of upsets tries, checked before any time goes into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hwsim.errors import SimulatorError
from hwsim.faults.hsiao import HsiaoCode
from hwsim.faults.targets import TargetName
from hwsim.faults.word_codes import OnDetection, Parity, Protection, Unprotected, WordCode

RunKey = tuple[Protection, float, int]  # protection, rate, seed

WORD_BITS = (8, 16, 32, 64)
CODES: Mapping[Protection, Callable[[int], WordCode]] = {
    Protection.NONE: Unprotected,
    Protection.PARITY: Parity,
    Protection.SECDED: HsiaoCode,
}


@dataclass(frozen=True)
class UpsetPlan:
    """Upsets of one target at every one of `rates`, `protections` and `seeds`.

    A rate is the probability that a stored bit flips, check bits included. `word_bits` are the data bits of a
    memory's word; a word of the accumulators is one of them. Raises SimulatorError naming the option.
    """

    target: TargetName
    rates: tuple[float, ...]
    protections: tuple[Protection, ...] = (Protection.NONE,)
    seeds: tuple[int, ...] = (0,)
    word_bits: int = 64
    on_detection: OnDetection = OnDetection.ZERO

    def __post_init__(self) -> None:
        for rate in self.rates:
            if not 0.0 <= rate <= 1.0:
                raise SimulatorError("upsets", "--rates", expected="probabilities from 0 to 1", found=str(rate))
        if self.word_bits not in WORD_BITS:
            expected = f"one of {', '.join(map(str, WORD_BITS))}"
            raise SimulatorError("upsets", "--word-bits", expected=expected, found=str(self.word_bits))
        if self.on_detection is OnDetection.RELOAD and self.target is not TargetName.WEIGHTS:
            expected = f"zero for {self.target}: DRAM holds a second copy of weights only"
            raise SimulatorError("upsets", "--on-detection", expected=expected, found="reload")

    @property
    def machine(self) -> tuple[str, int, str]:
        """What a single run depends on beside its own protection, rate and seed."""
        return self.target.value, self.word_bits, self.on_detection.value

    @property
    def runs(self) -> tuple[RunKey, ...]:
        """Every run, in order."""
        return tuple(
            (protection, rate, seed) for protection in self.protections for rate in self.rates for seed in self.seeds
        )
