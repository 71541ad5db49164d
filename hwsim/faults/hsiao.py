"""The Hsiao code: corrects a flipped bit of a word and detects two; (72, 64) for words of 64 bits.

M. Y. Hsiao, "A Class of Optimal Minimum Odd-weight-column SEC-DED Codes", IBM J. Res. Dev. 14(4), 1970. Every
column of the parity-check matrix has odd weight, so two flips leave a syndrome of even weight, which is no
column; columns are of the least weight and spread evenly over the rows, which keeps the XOR trees shallow.
"""

from __future__ import annotations

from functools import cached_property
from itertools import combinations, count
from math import comb
from typing import Any

import numpy as np

from hwsim.faults.word_codes import CORRECTED, DETECTED, UNCHANGED, Gates

Array = np.ndarray[Any, Any]

_NO_BIT, _CHECK_BIT = -2, -1


class HsiaoCode:
    """Single error correction, double error detection over words of 1 to 64 data bits (WordCode)."""

    def __init__(self, data_bits: int) -> None:
        self.data_bits = data_bits
        self.check_bits = next(r for r in count(4) if _odd_columns(r) >= data_bits)
        self.columns = _columns(data_bits, self.check_bits)  # the syndrome of a flip of each data bit

    @cached_property
    def _row_masks(self) -> tuple[np.uint64, ...]:
        """The data bits that each check bit is the parity of."""
        bits = [[j for j, column in enumerate(self.columns) if column >> row & 1] for row in range(self.check_bits)]
        return tuple(np.uint64(sum(1 << j for j in row)) for row in bits)

    @cached_property
    def _bit_of_syndrome(self) -> Array:
        """The data bit that a syndrome points at, int16 (2 ** check bits,); or one of the two marks."""
        found = np.full(1 << self.check_bits, _NO_BIT, np.int16)
        found[[1 << row for row in range(self.check_bits)]] = _CHECK_BIT
        found[list(self.columns)] = np.arange(self.data_bits)
        return found

    def encode(self, data: Array) -> Array:
        """Return the check bits of words, both uint64 (W,)."""
        check = np.zeros_like(data)
        for row, mask in enumerate(self._row_masks):
            parity = np.bitwise_count(data & mask).astype(np.uint64) & np.uint64(1)
            check |= parity << np.uint64(row)
        return check

    def decode(self, data: Array, check: Array) -> tuple[Array, Array]:
        """Return (data bits as the decoder hands them on, verdicts uint8), both (W,)."""
        syndrome = self.encode(data) ^ check
        bit = self._bit_of_syndrome[syndrome.astype(np.int64)]
        repaired = data ^ np.where(bit >= 0, np.uint64(1) << np.maximum(bit, 0).astype(np.uint64), np.uint64(0))
        verdicts = np.where(syndrome == 0, UNCHANGED, np.where(bit == _NO_BIT, DETECTED, CORRECTED))
        return repaired, verdicts.astype(np.uint8)

    @property
    def gates(self) -> Gates:
        """Two-input gates of one encoder and one decoder, before any sharing between trees."""
        trees = sum(int(mask).bit_count() - 1 for mask in self._row_masks)
        matched = self.data_bits * (self.check_bits - 1)  # an AND of the syndrome for each data bit
        flag_xor, flag_and = self.check_bits - 1, self.check_bits  # even weight, and not zero
        return Gates(
            encoder_xor2=trees,
            decoder_xor2=trees + self.check_bits + self.data_bits + flag_xor,
            decoder_and2=matched + flag_and,
        )


def _odd_columns(rows: int) -> int:
    return sum(comb(rows, weight) for weight in range(3, rows + 1, 2))


def _columns(data_bits: int, rows: int) -> tuple[int, ...]:
    """Choose distinct columns of odd weight from 3 up, each where the rows have fewest ones so far."""
    loads = [0] * rows
    chosen: list[int] = []
    for weight in range(3, rows + 1, 2):
        candidates = list(combinations(range(rows), weight))
        while candidates and len(chosen) < data_bits:
            lightest = min(candidates, key=lambda support: sorted((loads[row] for row in support), reverse=True))
            candidates.remove(lightest)
            for row in lightest:
                loads[row] += 1
            chosen.append(sum(1 << row for row in lightest))
    return tuple(chosen)
