// Quantisation of many values. Included only by the translation units that are compiled per instruction set.
#pragma once

#include "kernels/numerics.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace ti_qat {
namespace {

// codes (count) of x (count) under one scale
inline void quantize_all(const float* x, size_t count, float scale, int8_t* codes) {
  const float inv_scale = 1.0f / scale;
  size_t i = 0;
#if defined(__AVX2__)
  // The conversion rounds ties to even, as round_half_even does. A NaN fails the comparison and becomes -127.
  const __m256 factor = _mm256_set1_ps(inv_scale), low = _mm256_set1_ps(-kCodeMax), high = _mm256_set1_ps(kCodeMax);
  const auto rounded = [=](const float* from) {
    const __m256 scaled = _mm256_max_ps(_mm256_mul_ps(_mm256_loadu_ps(from), factor), low);
    return _mm256_cvtps_epi32(_mm256_min_ps(scaled, high));
  };
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // undoes the packs' interleaving of 128-bit lanes
  for (; i + 32 <= count; i += 32) {
    const __m256i first = _mm256_packs_epi32(rounded(x + i), rounded(x + i + 8));
    const __m256i second = _mm256_packs_epi32(rounded(x + i + 16), rounded(x + i + 24));
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(first, second), order);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + i), bytes);
  }
#endif
  for (; i < count; ++i) codes[i] = quantize(x[i], inv_scale);
}

}  // namespace
}  // namespace ti_qat
