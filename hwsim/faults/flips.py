"""Which bits flip: drawn for one operation of one inference, decoded, and left as what the datapath will read.

The codes are linear, so what a decoder does depends on the flips alone and not on the data: a word of zeros stands
for every word, and flips that a code corrects are known to change nothing before any value is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hwsim.faults.word_codes import CORRECTED, DETECTED, OnDetection, WordCode

Array = np.ndarray[Any, Any]

_NO_FLIP = np.uint64(0)


@dataclass
class UpsetCounts:
    """Flipped bits, and what became of the words that they lie in.

    `silent_words` are read with other data and no alarm: missed by the code, or corrected to something else.
    """

    flipped_bits: int = 0
    corrected_words: int = 0
    detected_words: int = 0
    silent_words: int = 0

    def __iadd__(self, other: UpsetCounts) -> UpsetCounts:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


@dataclass(frozen=True)
class WordUpsets:
    """Words that are read with other data: numbers int64 (F,), flipped data bits uint64 (F,), and which are zeroed."""

    words: Array
    flips: Array
    zeroed: Array


def stream(seed: int, operation: int, row: int) -> np.random.Generator:
    """Return the random numbers of one operation of one inference.

    Philox counts instead of remembering (Salmon et al., SC 2011), so that neither threads nor the order of rows
    reach them.
    """
    return np.random.Generator(np.random.Philox(key=[seed, row], counter=[0, 0, 0, operation]))


def draw(
    random: np.random.Generator, words: int, code: WordCode, rate: float, on_detection: OnDetection
) -> tuple[WordUpsets | None, UpsetCounts]:
    """Flip each of the stored bits of `words` words with probability `rate`, and read the words through `code`.

    The number of flips is drawn first and then their distinct places, so that time goes with the flips.
    Returns (the words that are read with other data, or None; counts).
    """
    stored_bits = code.data_bits + code.check_bits
    flipped = int(random.binomial(words * stored_bits, rate))
    if flipped == 0:
        return None, UpsetCounts()
    places = random.choice(words * stored_bits, flipped, replace=False, shuffle=False)
    touched, position = np.unique(places // stored_bits, return_inverse=True)
    bits = places % stored_bits
    in_data = bits < code.data_bits
    data, check = (np.zeros(len(touched), np.uint64) for _ in range(2))
    one = np.uint64(1)
    np.bitwise_or.at(data, position[in_data], one << bits[in_data].astype(np.uint64))
    np.bitwise_or.at(check, position[~in_data], one << (bits[~in_data] - code.data_bits).astype(np.uint64))
    flips, verdicts = code.decode(data, check)
    detected = verdicts == DETECTED
    silent = (flips != _NO_FLIP) & ~detected
    counts = UpsetCounts(
        flipped, int(np.sum((verdicts == CORRECTED) & ~silent)), int(detected.sum()), int(silent.sum())
    )
    changed = silent | detected if on_detection is OnDetection.ZERO else silent
    if not changed.any():
        return None, counts
    return WordUpsets(touched[changed], flips[changed], detected[changed]), counts
