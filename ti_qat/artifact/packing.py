"""The two byte orders of ternary codes, defined here and nowhere else.

A code is stored as its digit code + 1 in {0, 1, 2}, the first code of a byte in the lowest place, and
a row of codes is padded with code 0 (digit 1) to whole bytes:

* TWO_BITS, 2.0 bits a weight: four digits of two bits a byte. The field 0b11 never occurs.
* FIVE_TRITS, 1.6 bits a weight: five digits of base 3 a byte, since 3**5 = 243 <= 256. The bytes 243 to
  255 never occur.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CODES_PER_BYTE = 4
BITS_PER_CODE = 2
FIELD_MASK = 0b11
FORBIDDEN_FIELD = 0b11
ZERO_FIELD = 1


class PackingError(ValueError):
    """Codes that are not ternary, or bytes that no packing produces; says expected, found and where."""


@dataclass(frozen=True)
class Packing:
    """How the codes of a row share bytes: `codes_per_byte` digits, the lowest first, in base `base`."""

    codes_per_byte: int
    base: int

    @property
    def weight_bits(self) -> float:
        """Bits that a code takes where no row needs padding."""
        return 8 / self.codes_per_byte

    @property
    def legal_bytes(self) -> int:
        """Bytes from this value on hold no digits of the base."""
        return int(self.base**self.codes_per_byte)

    @property
    def places(self) -> NDArray[np.int32]:
        """Value of each digit of a byte: 1, base, base**2, ..."""
        places: NDArray[np.int32] = self.base ** np.arange(self.codes_per_byte, dtype=np.int32)
        return places


TWO_BITS = Packing(CODES_PER_BYTE, 1 << BITS_PER_CODE)
FIVE_TRITS = Packing(5, 3)
PACKINGS = (TWO_BITS, FIVE_TRITS)


def packed_width(codes_per_row: int, packing: Packing = TWO_BITS) -> int:
    """Return the bytes that a row of `codes_per_row` codes takes."""
    return -(-codes_per_row // packing.codes_per_byte)


def pack_ternary(codes: NDArray[np.int8], packing: Packing = TWO_BITS) -> NDArray[np.uint8]:
    """Pack int8 codes in {-1, 0, 1}, shape (N, K), into uint8 of shape (N, packed_width(K, packing))."""
    if codes.ndim != 2 or codes.dtype != np.int8:
        raise PackingError(f"codes: expected int8 of rank 2, found {codes.dtype} of shape {codes.shape}")
    if codes.size and (codes.min() < -1 or codes.max() > 1):
        raise PackingError(f"codes: expected values in {{-1, 0, 1}}, found {codes.min()} to {codes.max()}")
    rows, width = codes.shape
    digits = np.full((rows, packed_width(width, packing), packing.codes_per_byte), ZERO_FIELD, np.uint8)
    digits.reshape(rows, -1)[:, :width] = codes + 1
    # No sum passes 255, the largest byte.
    packed: NDArray[np.uint8] = (digits * packing.places.astype(np.uint8)).sum(axis=-1, dtype=np.uint8)
    return packed


def unpack_ternary(packed: NDArray[np.uint8], codes_per_row: int, packing: Packing = TWO_BITS) -> NDArray[np.int8]:
    """Return the int8 codes of shape (N, codes_per_row) that `packed`, uint8 (N, bytes), holds."""
    if packed.ndim != 2 or packed.dtype != np.uint8:
        raise PackingError(f"packed: expected uint8 of rank 2, found {packed.dtype} of shape {packed.shape}")
    width = packed_width(codes_per_row, packing)
    if packed.shape[1] != width:
        raise PackingError(f"packed: expected {width} bytes a row for {codes_per_row} codes, found {packed.shape[1]}")
    illegal = np.repeat(packed >= packing.legal_bytes, packing.codes_per_byte, axis=1)
    _refuse(illegal, f"a byte of {packing.legal_bytes} or more, which holds no {packing.codes_per_byte} codes")
    digits = (packed[..., None] // packing.places.astype(np.uint8) % np.uint8(packing.base)).reshape(len(packed), -1)
    _refuse(digits == FORBIDDEN_FIELD, "field 0b11, which is no ternary code")
    _refuse(digits[:, codes_per_row:] != ZERO_FIELD, "padding other than code 0", first_column=codes_per_row)
    return digits[:, :codes_per_row].astype(np.int8) - np.int8(1)


def _refuse(wrong: NDArray[np.bool_], what: str, first_column: int = 0) -> None:
    if wrong.any():
        positions: tuple[Any, ...] = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        row, column = (int(position) for position in positions)
        raise PackingError(f"packed: row {row}, code {first_column + column}: found {what}")
