"""The order in which a bundle holds the packed weights of a linear: panels, as the matrix kernels read them.

A panel is 32 output channels. Within it, 16 codes of each channel (four packed bytes) follow those of
the channel before, so that a kernel reads a panel from front to back and finds one channel in each
32-bit lane. deploy/csrc/kernels/kernels.h says the same to the kernels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ti_qat.artifact.packing import CODES_PER_BYTE, pack_ternary, packed_width, unpack_ternary

PANEL_CHANNELS = 32
WORD_BYTES = 4


def panels_shape(channels: int, codes_per_row: int) -> tuple[int, int, int, int]:
    """Return the shape (panels, words, 32, 4) of a weight of `channels` rows of `codes_per_row` codes."""
    words = -(-packed_width(codes_per_row) // WORD_BYTES)
    return (-(-channels // PANEL_CHANNELS), words, PANEL_CHANNELS, WORD_BYTES)


def pack_panels(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pack int8 codes in {-1, 0, 1}, shape (N, K), as panels, uint8; what does not exist is code 0."""
    rows, width = codes.shape
    panels, words, _, _ = panels_shape(rows, width)
    padded = np.zeros((panels * PANEL_CHANNELS, words * WORD_BYTES * CODES_PER_BYTE), np.int8)
    padded[:rows, :width] = codes
    by_channel = pack_ternary(padded).reshape(panels, PANEL_CHANNELS, words, WORD_BYTES)
    return np.ascontiguousarray(by_channel.transpose(0, 2, 1, 3))


def unpack_panels(panels: NDArray[np.uint8], channels: int, codes_per_row: int) -> NDArray[np.int8]:
    """Return the int8 codes (channels, codes_per_row) that panels hold; raises PackingError for the field 0b11."""
    rows = panels.shape[0] * PANEL_CHANNELS
    packed = np.ascontiguousarray(panels.transpose(0, 2, 1, 3)).reshape(rows, -1)
    return unpack_ternary(packed, packed.shape[1] * CODES_PER_BYTE)[:channels, :codes_per_row]
