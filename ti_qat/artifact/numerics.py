"""Leaf arithmetic of the exact profile: one definition that every stage reproduces bit for bit.

Each function is a fixed sequence of IEEE-754 binary32 operations (no fused multiply-add, no
library transcendental), so the same bits come out of NumPy, Numba, C++ and ONNX. The element-wise
functions accept float32 scalars and arrays alike: NumPy calls them on arrays, the simulator
compiles the same source for scalars. docs/numerics.md derives them and works the ties.
"""

import math
from typing import Any

import numpy as np

Real = Any  # a float32 scalar or array; no static type says that

CODE_MAX = np.float32(127.0)
PROBABILITY_SCALE = np.float32(1.0) / CODE_MAX

# exp: argument reduction by two-part ln 2 and a degree-5 minimax polynomial, coefficients as in
# the Cephes library (S. Moshier, expf). Below EXP_MIN the result would leave the normal range.
EXP_MIN = np.float32(-87.0)
LOG2_E = np.float32(1.44269504088896341)
LN2_HIGH = np.float32(0.693359375)
LN2_LOW = np.float32(-2.12194440e-4)
EXP_C0 = np.float32(5.0000001201e-1)
EXP_C1 = np.float32(1.6666665459e-1)
EXP_C2 = np.float32(4.1665795894e-2)
EXP_C3 = np.float32(8.3334519073e-3)
EXP_C4 = np.float32(1.3981999507e-3)
EXP_C5 = np.float32(1.9875691500e-4)
EXP_COEFFICIENTS = (EXP_C5, EXP_C4, EXP_C3, EXP_C2, EXP_C1, EXP_C0)

# erf: Abramowitz and Stegun, Handbook of Mathematical Functions, formula 7.1.26, |error| <= 1.5e-7.
ERF_P = np.float32(0.3275911)
ERF_A1 = np.float32(0.254829592)
ERF_A2 = np.float32(-0.284496736)
ERF_A3 = np.float32(1.421413741)
ERF_A4 = np.float32(-1.453152027)
ERF_A5 = np.float32(1.061405429)
ERF_COEFFICIENTS = (ERF_A5, ERF_A4, ERF_A3, ERF_A2, ERF_A1)

SQRT_HALF = np.float32(0.70710678118654752)
HALF = np.float32(0.5)
ONE = np.float32(1.0)
TWO = np.float32(2.0)

# NEGATIVE_POWERS_OF_TWO[n] == 2**-n, exact; n reaches 126 for arguments down to EXP_MIN.
NEGATIVE_POWERS_OF_TWO = np.ldexp(ONE, -np.arange(127)).astype(np.float32)
NEGATIVE_POWERS_OF_TWO.setflags(write=False)


def inverse_scale(scale: Real) -> Real:
    """Return float32(1) / scale, the factor that `quantize` multiplies with."""
    return ONE / scale


def token_scale(absolute_maximum: Real) -> Real:
    """Return the dynamic scale of a token from max|x|; a token of zeros gets scale 1."""
    return np.where(absolute_maximum > 0, absolute_maximum / CODE_MAX, ONE).astype(np.float32)


def quantize(x: Real, inv_scale: Real) -> Real:
    """Return the int8 code of x as an integral float32: saturate(rint(x * inv_scale), -127, 127)."""
    return np.minimum(np.maximum(np.rint(x * inv_scale), -CODE_MAX), CODE_MAX)


def attention_scale(head_size: int) -> Real:
    """Return float32(1 / sqrt(head_size)), rounded once from binary64."""
    return np.float32(1.0 / math.sqrt(head_size))


def dequantize_accumulator(accumulator: Real, scale: Real) -> Real:
    """Return float32(accumulator) * scale; `scale` is the product of the operands' scales."""
    return np.float32(accumulator) * scale


def exp_nonpositive(x: Real) -> Real:
    """Return exp(x) for x <= 0, within 1.2e-7 relative; arguments below -87 count as -87."""
    x = np.maximum(x, EXP_MIN)
    n = np.rint(x * LOG2_E)
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    p = EXP_C5
    p = p * r + EXP_C4
    p = p * r + EXP_C3
    p = p * r + EXP_C2
    p = p * r + EXP_C1
    p = p * r + EXP_C0
    y = ((p * (r * r)) + r) + ONE
    return y * NEGATIVE_POWERS_OF_TWO[np.int64(-n)]


def erf(x: Real) -> Real:
    """Return erf(x) by Abramowitz and Stegun 7.1.26, |error| <= 6e-7 in float32."""
    a = np.abs(x)
    t = ONE / (ONE + ERF_P * a)
    p = ERF_A5
    p = p * t + ERF_A4
    p = p * t + ERF_A3
    p = p * t + ERF_A2
    p = p * t + ERF_A1
    return np.copysign(ONE - (p * t) * exp_nonpositive(-(a * a)), x)


def gelu(x: Real) -> Real:
    """Return x * Phi(x), the exact (erf) GELU, as (x * 0.5) * (1 + erf(x * sqrt(1/2)))."""
    return (x * HALF) * (ONE + erf(x * SQRT_HALF))


def tanh(x: Real) -> Real:
    """Return tanh(x) as sign(x) * (1 - t) / (1 + t) with t = exp(-2|x|)."""
    t = exp_nonpositive(-(TWO * np.abs(x)))
    return np.copysign((ONE - t) / (ONE + t), x)


def power_of_two_at_least(width: int) -> int:
    """Return the smallest power of two that is not below `width` (>= 1)."""
    padded = 1
    while padded < width:
        padded *= 2
    return padded


def tree_sum_in_place(buffer: Real) -> Real:
    """Sum the last axis of `buffer`, whose width is a power of two, by halving; overwrites it.

    Width w folds its upper half onto its lower half, element by element, until one element is
    left: the order of an adder tree. Zero padding leaves every partial sum as it is, so a sum
    depends neither on the padded width nor on the vector length of the machine.
    """
    width = buffer.shape[-1]
    while width > 1:
        width //= 2
        buffer[..., :width] += buffer[..., width : 2 * width]
    return buffer[..., 0]
