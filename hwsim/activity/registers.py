"""Toggles of operand registers: each stream counted once, however many elements it passes."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.units.popcount import popcount

Array = np.ndarray[Any, Any]


@compiled
def _passing(fields, serial, holds_zeros):  # type: ignore[no-untyped-def]
    toggles, inner = np.int64(0), np.uint8(0x7F)
    for stream in range(fields.shape[0]):
        before = np.uint8(0)
        for t in range(fields.shape[1]):
            field = fields[stream, t]
            if holds_zeros and field == 0:
                continue
            if serial:
                toggles += np.int64(popcount(np.uint8(np.uint8(field ^ (field >> np.uint8(1))) & inner)))
                toggles += np.int64((before & np.uint8(1)) ^ (field >> np.uint8(7)))
            else:
                toggles += np.int64(popcount(np.uint8(field ^ before)))
            before = field
        toggles += np.int64(before & np.uint8(1)) if serial else np.int64(popcount(before))
    return toggles


@compiled
def _loading(fields, array_rows):  # type: ignore[no-untyped-def]
    toggles = np.int64(0)
    for column in range(fields.shape[0]):
        for first in range(0, fields.shape[1], array_rows):
            above = np.uint8(0)
            last = min(first + array_rows, fields.shape[1])
            for k in range(last - 1, first - 1, -1):  # the bottom row's operand enters first, and passes all rows
                field = fields[column, k]
                toggles += np.int64(popcount(np.uint8(field ^ above))) * (k - first + 1)
                toggles += np.int64(popcount(field))  # cleared where it came to rest
                above = field
    return toggles


def passing_toggles(fields: Array, *, serial: bool = False, holds_zeros: bool = False) -> int:
    """Return the toggles of one register for every stream of fields, uint8 (streams, T), from clear to clear.

    `serial` registers have one bit, which takes a field's eight, the sign first; `holds_zeros` skips zero fields.
    """
    return int(_passing(np.ascontiguousarray(fields), serial, holds_zeros))


def loading_toggles(fields: Array, array_rows: int) -> int:
    """Return the toggles of stationary registers that fields, uint8 (columns, K), are shifted into from above."""
    return int(_loading(np.ascontiguousarray(fields), array_rows))
