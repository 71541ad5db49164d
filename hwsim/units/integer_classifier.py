"""Integer classifier: weights as wide codes, exact sums; the host reads them as logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.units.actions import INT_MULTIPLY, WORD, Actions, times, total

Array = np.ndarray[Any, Any]


@compiled
def _classify(x, weight, bias, out):  # type: ignore[no-untyped-def]
    # Two factors of 20 bits: at most 2**38, and 2**20 of them 2**58; the bias is below 2**60.
    for b in range(out.shape[0]):
        for label in range(out.shape[1]):
            summed = np.int64(bias[label])
            for i in range(x.shape[1]):
                summed += np.int64(x[b, i]) * np.int64(weight[label, i])
            out[b, label] = summed


def classify(x: Array, weight_codes: Array, bias_codes: Array) -> Array:
    """Return x @ weight.T + bias, exact, int64 (B, labels)."""
    out = np.empty((x.shape[0], weight_codes.shape[0]), np.int64)
    _classify(x, weight_codes, bias_codes, out)
    return out


def error_bound_lsb(x_lsb: Array) -> float:
    """Return the bound in LSB of the sum for codes x: half an LSB of every weight, and of the bias."""
    return 0.5 * float(np.abs(x_lsb).sum()) + 0.5


def actions(inputs: int, labels: int) -> Actions:
    """Return the unit's actions for one row of `inputs` values: a product and a sum each, and the bias."""
    return times(total(times(total(INT_MULTIPLY, WORD), inputs), WORD), labels)
