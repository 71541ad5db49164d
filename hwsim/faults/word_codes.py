"""What guards a stored word: nothing, a parity bit, or a code that corrects; and what is done about the rest."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

Array = np.ndarray[Any, Any]

UNCHANGED, CORRECTED, DETECTED = 0, 1, 2  # verdicts of a decoder; a flip that it does not see leaves a word UNCHANGED


class Protection(StrEnum):
    """How a word is guarded."""

    NONE = "none"
    PARITY = "parity"
    SECDED = "secded"


class OnDetection(StrEnum):
    """What the machine does with a word whose error it sees and cannot correct."""

    ZERO = "zero"
    RELOAD = "reload"


class Gates(BaseModel):
    """Two-input gates of one encoder and one decoder; an inverter or an OR counts as an AND."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder_xor2: int = 0
    decoder_xor2: int = 0
    decoder_and2: int = 0


class WordCode(Protocol):
    """A linear code over words of at most 64 data bits, held in uint64 with the first bit lowest."""

    data_bits: int
    check_bits: int

    def encode(self, data: Array) -> Array:
        """Return the check bits of words, both uint64 (W,)."""

    def decode(self, data: Array, check: Array) -> tuple[Array, Array]:
        """Return (data bits as the decoder hands them on, verdicts uint8), both (W,)."""

    @property
    def gates(self) -> Gates:
        """Gates of one encoder and one decoder."""


class Unprotected:
    """No check bit; every word counts as it is read (WordCode)."""

    check_bits = 0

    def __init__(self, data_bits: int) -> None:
        self.data_bits = data_bits

    def encode(self, data: Array) -> Array:
        """Return no bits, as zeros."""
        return np.zeros_like(data)

    def decode(self, data: Array, check: Array) -> tuple[Array, Array]:
        """Return the data as they are."""
        return data, np.full(data.shape, UNCHANGED, np.uint8)

    @property
    def gates(self) -> Gates:
        """None."""
        return Gates()


class Parity:
    """One bit that makes the number of ones even; sees every odd number of flips (WordCode)."""

    check_bits = 1

    def __init__(self, data_bits: int) -> None:
        self.data_bits = data_bits

    def encode(self, data: Array) -> Array:
        """Return the parity of words, both uint64 (W,)."""
        return np.bitwise_count(data).astype(np.uint64) & np.uint64(1)

    def decode(self, data: Array, check: Array) -> tuple[Array, Array]:
        """Return the data as they are, and which words have the wrong parity."""
        return data, np.where(self.encode(data) == check, UNCHANGED, DETECTED).astype(np.uint8)

    @property
    def gates(self) -> Gates:
        """One tree to write, one more input to read."""
        return Gates(encoder_xor2=self.data_bits - 1, decoder_xor2=self.data_bits)
