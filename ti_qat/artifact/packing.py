"""The two-bit byte order of ternary codes, defined here and nowhere else.

A code is stored as code + 1 in {0, 1, 2}; four codes share a byte, the first in the lowest bits; a
row of K codes takes ceil(K / 4) bytes and is padded with code 0 (field 1). Field 3 never occurs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CODES_PER_BYTE = 4
BITS_PER_CODE = 2
FIELD_MASK = 0b11
FORBIDDEN_FIELD = 0b11
ZERO_FIELD = 1

_SHIFTS = np.arange(0, 8, BITS_PER_CODE, dtype=np.uint8)


class PackingError(ValueError):
    """Codes that are not ternary, or bytes that no packing produces; says expected, found and where."""


def packed_width(codes_per_row: int) -> int:
    """Return the bytes that a row of `codes_per_row` codes takes."""
    return -(-codes_per_row // CODES_PER_BYTE)


def pack_ternary(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pack int8 codes in {-1, 0, 1}, shape (N, K), into uint8 of shape (N, ceil(K / 4))."""
    if codes.ndim != 2 or codes.dtype != np.int8:
        raise PackingError(f"codes: expected int8 of rank 2, found {codes.dtype} of shape {codes.shape}")
    if codes.size and (codes.min() < -1 or codes.max() > 1):
        raise PackingError(f"codes: expected values in {{-1, 0, 1}}, found {codes.min()} to {codes.max()}")
    rows, width = codes.shape
    fields = np.full((rows, packed_width(width), CODES_PER_BYTE), ZERO_FIELD, np.uint8)
    fields.reshape(rows, -1)[:, :width] = codes + 1
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(fields << _SHIFTS, axis=-1, dtype=np.uint8)
    return packed


def unpack_ternary(packed: NDArray[np.uint8], codes_per_row: int) -> NDArray[np.int8]:
    """Return the int8 codes of shape (N, codes_per_row) that `packed`, uint8 (N, bytes), holds."""
    if packed.ndim != 2 or packed.dtype != np.uint8:
        raise PackingError(f"packed: expected uint8 of rank 2, found {packed.dtype} of shape {packed.shape}")
    if packed.shape[1] != packed_width(codes_per_row):
        raise PackingError(
            f"packed: expected {packed_width(codes_per_row)} bytes a row for {codes_per_row} codes, "
            f"found {packed.shape[1]}"
        )
    fields = ((packed[..., None] >> _SHIFTS) & FIELD_MASK).reshape(packed.shape[0], -1)
    _refuse(fields == FORBIDDEN_FIELD, "field 0b11, which is no ternary code")
    _refuse(fields[:, codes_per_row:] != ZERO_FIELD, "padding other than code 0", first_column=codes_per_row)
    return fields[:, :codes_per_row].astype(np.int8) - np.int8(1)


def _refuse(wrong: NDArray[np.bool_], what: str, first_column: int = 0) -> None:
    if wrong.any():
        positions: tuple[Any, ...] = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        row, column = (int(position) for position in positions)
        raise PackingError(f"packed: row {row}, code {first_column + column}: found {what}")
