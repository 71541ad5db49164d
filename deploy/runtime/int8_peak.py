"""The int8 peak of this machine, measured by the operators' library."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor

from deploy.runtime.operator_library import library_path

MEASUREMENTS = 3


def int8_peak_macs_per_second(isa: str, threads: int) -> float | None:
    """Return the multiply-accumulates a second of int8 dot products on registers, on `threads` threads at once.

    The best of three measurements, 150 ms in all: other work on the machine only ever lowers it. None
    where the library is not installed, is too old to measure, or does not know `isa`.
    """
    path = library_path()
    if path is None:
        return None
    try:
        measure = ctypes.CDLL(str(path)).ti_qat_int8_peak_macs_per_second
    except AttributeError:
        return None
    measure.restype = ctypes.c_double
    measure.argtypes = [ctypes.c_char_p]
    # A call through ctypes releases the interpreter's lock, so these run side by side.
    with ThreadPoolExecutor(threads) as pool:
        measured = [list(pool.map(measure, [isa.encode()] * threads)) for _ in range(MEASUREMENTS)]
    return max(sum(rates) for rates in measured) if min(map(min, measured)) > 0 else None
