// The leaf arithmetic of ti_qat/artifact/numerics.py, operation for operation. Included only by the
// translation units that are compiled per instruction set, hence the unnamed namespace.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ti_qat {
namespace {

constexpr float kCodeMax = 127.0f;

// rint, ties to even, for |x| < 2^22: 1.5 * 2^23 leaves no fraction bits. Vectorises at every level,
// which the library's rint does not below SSE4.1.
inline float round_half_even(float x) {
  constexpr float kNoFraction = 12582912.0f;
  return (x + kNoFraction) - kNoFraction;
}

// 2^n for integral n in [-126, 0].
inline float power_of_two(float n) {
  const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline float exp_nonpositive(float x) {
  x = x > -87.0f ? x : -87.0f;
  const float n = round_half_even(x * 1.44269504088896341f);
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float y = ((p * (r * r)) + r) + 1.0f;
  return y * power_of_two(n);
}

inline float erf(float x) {
  const float a = std::fabs(x);
  const float t = 1.0f / (1.0f + 0.3275911f * a);
  float p = 1.061405429f;
  p = p * t + -1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t + -0.284496736f;
  p = p * t + 0.254829592f;
  return std::copysign(1.0f - (p * t) * exp_nonpositive(-(a * a)), x);
}

inline float gelu(float x) {
  return (x * 0.5f) * (1.0f + erf(x * 0.70710678118654752f));
}

inline float tanh(float x) {
  const float t = exp_nonpositive(-(2.0f * std::fabs(x)));
  return std::copysign((1.0f - t) / (1.0f + t), x);
}

// saturate(rint(x * inv_scale), -127, 127). Saturating first gives the same code, since the bounds
// are integers, and keeps round_half_even in its range; a NaN becomes -127.
inline int8_t quantize(float x, float inv_scale) {
  float scaled = x * inv_scale;
  scaled = scaled > -kCodeMax ? scaled : -kCodeMax;
  scaled = scaled < kCodeMax ? scaled : kCodeMax;
  return static_cast<int8_t>(static_cast<int32_t>(round_half_even(scaled)));
}

inline size_t power_of_two_at_least(size_t width) {
  size_t padded = 1;
  while (padded < width) padded *= 2;
  return padded;
}

// Sum of buffer[0, width) by halving, width a power of two; overwrites it.
inline float tree_sum_in_place(float* buffer, size_t width) {
  while (width > 1) {
    width /= 2;
    const float* upper = buffer + width;
#pragma GCC ivdep
    for (size_t i = 0; i < width; ++i) buffer[i] += upper[i];
  }
  return buffer[0];
}

}  // namespace
}  // namespace ti_qat
