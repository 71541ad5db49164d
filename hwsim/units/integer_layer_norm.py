"""Integer LayerNorm: integer mean and sum of squares, Newton square root, one reciprocal a row.

Centred values carry guard bits below the input's LSB. With T the sum of their squares plus width * epsilon,
c / std = sqrt(width) * c / sqrt(T): the unit forms c / sqrt(T), which lies in [-1, 1] whatever the row, and
sqrt(width) goes into the multiplier of gamma. T is brought to an even number of shifts before its root, so
the root has `layer_norm_bits` significant bits for narrow and for wide rows alike.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hwsim.compiled_numerics import compiled
from hwsim.fixed_point import (
    Multiplier,
    bit_length,
    integer_square_root,
    normalized_multiplier,
    requantize,
    rescale_power_of_two,
    rounding_divide_half_even,
    saturate,
)
from hwsim.units.actions import INT_DIVIDE, INT_MULTIPLY, WORD, Actions, times, total

Array = np.ndarray[Any, Any]

PASSES = 3  # over a row: mean, variance, normalise
MAX_WIDTH = 1 << 13
_NEWTON_STEPS = 6  # from 2**ceil(bits / 2) to 24 exact bits; each a division, an addition and a shift


@compiled
def _layer_norm(x, mantissa, shift, beta, epsilon, guard_bits, unit_bits, bits, half_even, out):  # type: ignore[no-untyped-def]
    # A centred value has unit_bits <= 24 bits, so its square is at most 2**46, a row of 2**13 of them 2**59,
    # plus epsilon < 2**60. c * inverse < 2**(23 + 24); a normalised value < 2**23, as requantize asks.
    width = x.shape[1]
    centred = np.empty(width, np.int64)
    events = 0
    for row in range(x.shape[0]):
        summed = np.int64(0)
        for i in range(width):
            summed += np.int64(x[row, i])
        mean = rounding_divide_half_even(summed << guard_bits, np.int64(width))
        squares = epsilon
        for i in range(width):
            centred[i] = (np.int64(x[row, i]) << guard_bits) - mean
            squares += centred[i] * centred[i]
        # An even shift that leaves 2 * unit_bits bits, or one fewer.
        up = (2 * unit_bits - bit_length(squares)) // 2
        inverse = np.int64(0)
        if squares > 0:
            normalised = squares << (2 * up) if up >= 0 else squares >> (-2 * up)
            inverse = (np.int64(1) << (2 * unit_bits - 1)) // integer_square_root(normalised)
        for i in range(width):
            value = rescale_power_of_two(centred[i] * inverse, unit_bits + 1 - up, half_even)
            scaled = requantize(value, mantissa[i], shift[i], half_even) + beta[i]
            out[row, i], event = saturate(scaled, bits)
            events += event
    return events


def gamma_multiplier(gamma: Array, output_fraction_bits: int, layer_norm_bits: int, multiplier_bits: int) -> Multiplier:
    """Return the multipliers (width,) from normalised values to the output's format: gamma * sqrt(width)."""
    ratio = gamma.astype(np.float64) * math.sqrt(len(gamma))
    return normalized_multiplier(ratio * 2.0 ** (output_fraction_bits - (layer_norm_bits - 2)), multiplier_bits)


def guard_bits(layer_norm_bits: int, input_bits: int) -> int:
    """Return how many bits of a centred value lie below the input's LSB; it has one more above, for the mean."""
    return layer_norm_bits - input_bits - 1


def epsilon_code(epsilon: float, width: int, input_fraction_bits: int, guard: int) -> int:
    """Return width * epsilon in the format of the sum of squares, below 2**60."""
    return int(min(round(width * epsilon * 4.0 ** (input_fraction_bits + guard)), (1 << 60) - 1))


def layer_norm(
    x: Array,
    mantissa: Array,
    shift: Array,
    beta_codes: Array,
    epsilon_codes: Array,
    *,
    layer_norm_bits: int,
    bits: int,
    half_even: bool,
) -> tuple[Array, int]:
    """Return (LayerNorm over the last axis, int32 of `bits` bits; saturated values); x has `bits` bits too.

    A row of equal values gives beta. The last axis has at most 8192 values.
    """
    out = np.empty(x.shape, np.int32)
    events = _layer_norm(
        x.reshape(-1, x.shape[-1]),
        mantissa,
        shift,
        beta_codes,
        epsilon_codes[0],
        guard_bits(layer_norm_bits, bits),
        layer_norm_bits,
        bits,
        half_even,
        out.reshape(-1, x.shape[-1]),
    )
    return out, int(events)


def error_bound_lsb(
    largest_normalised: float,
    deviation_lsb: float,
    gamma_lsb: float,
    width: int,
    *,
    layer_norm_bits: int,
    multiplier_bits: int,
    input_bits: int,
) -> float:
    """Return the bound on |code - LayerNorm| in output LSB, before saturation.

    `deviation_lsb`: the row's standard deviation in input LSB; `gamma_lsb`: |gamma| in output LSB. The mean is
    off by half a guard unit, in c and, squared, in the variance; root and reciprocal are cut to
    `layer_norm_bits` bits, the multiplier rounded to its own; the normalised value is rounded once, and so are
    output and beta.
    """
    mean = 0.5 * 2.0 ** -guard_bits(layer_norm_bits, input_bits) / deviation_lsb
    relative = 2 * 2.0 ** -(layer_norm_bits - 1) + 2.0 ** -(multiplier_bits - 1) + mean**2
    rounding = 0.5 * math.sqrt(width) * 2.0 ** -(layer_norm_bits - 2)
    return 1.0 + gamma_lsb * (largest_normalised * relative + mean + rounding)


def actions(rows: int, width: int) -> Actions:
    """Return the unit's actions for `rows` rows of `width` values.

    A value: its sum; centring, square and their sum; two products with roundings, beta, a saturation. A row: the
    mean's division, the root's, the reciprocal's.
    """
    value = total(times(WORD, 3), INT_MULTIPLY, times(INT_MULTIPLY, 2), times(WORD, 4))
    root = times(total(INT_DIVIDE, WORD, WORD), _NEWTON_STEPS)
    return times(total(times(value, width), INT_DIVIDE, root, INT_DIVIDE), rows)
