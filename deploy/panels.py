"""The order in which a bundle holds the packed weights of a linear: panels, as the matrix kernels read them.

A panel is 32 output channels. Within it, 16 codes of each channel (a word: four packed bytes at 2 bits)
follow those of the channel before, so that a kernel reads a panel from front to back and finds one
channel in each 32-bit lane. deploy/csrc/kernels/kernels.h says the same to the kernels. At 1.6 bits
the codes have the same order, five a byte from the start of each panel to its end; words then have no
bytes of their own, and the operators unpack such a weight once, when a session is made.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ti_qat.artifact.packing import (
    CODES_PER_BYTE,
    TWO_BITS,
    Packing,
    PackingError,
    pack_ternary,
    packed_width,
    unpack_ternary,
)

PANEL_CHANNELS = 32
WORD_BYTES = 4
WORD_CODES = WORD_BYTES * CODES_PER_BYTE


def panels_shape(channels: int, codes_per_row: int, packing: Packing = TWO_BITS) -> tuple[int, ...]:
    """Return the shape of a packed weight of `channels` rows of `codes_per_row` codes.

    (panels, words, 32, 4) at 2 bits; (panels, bytes) at 1.6 bits.
    """
    panels, words = -(-channels // PANEL_CHANNELS), -(-codes_per_row // WORD_CODES)
    if packing is TWO_BITS:
        return (panels, words, PANEL_CHANNELS, WORD_BYTES)
    return (panels, packed_width(words * PANEL_CHANNELS * WORD_CODES, packing))


def pack_panels(codes: NDArray[np.int8], packing: Packing = TWO_BITS) -> NDArray[np.uint8]:
    """Pack int8 codes in {-1, 0, 1}, shape (N, K), as panels, uint8; what does not exist is code 0."""
    rows, width = codes.shape
    panels, words = -(-rows // PANEL_CHANNELS), -(-width // WORD_CODES)
    padded = np.zeros((panels * PANEL_CHANNELS, words * WORD_CODES), np.int8)
    padded[:rows, :width] = codes
    by_word = padded.reshape(panels, PANEL_CHANNELS, words, WORD_CODES).transpose(0, 2, 1, 3)
    return pack_ternary(by_word.reshape(panels, -1), packing).reshape(panels_shape(rows, width, packing))


def unpack_panels(
    panels: NDArray[np.uint8], channels: int, codes_per_row: int, packing: Packing = TWO_BITS
) -> NDArray[np.int8]:
    """Return the int8 codes (channels, codes_per_row) that panels hold.

    Raises PackingError for another shape, for bytes that hold no codes, and for panels that do not end in code 0.
    """
    expected = panels_shape(channels, codes_per_row, packing)
    if panels.shape != expected:
        raise PackingError(f"panels: expected shape {expected}, found {panels.shape}")
    words = -(-codes_per_row // WORD_CODES)
    flat = unpack_ternary(panels.reshape(expected[0], -1), words * PANEL_CHANNELS * WORD_CODES, packing)
    by_channel = flat.reshape(-1, words, PANEL_CHANNELS, WORD_CODES).transpose(0, 2, 1, 3)
    return by_channel.reshape(-1, words * WORD_CODES)[:channels, :codes_per_row]
