// Integer products of widened operands in plain C++ that the compiler turns into multiply-add of
// 16-bit pairs on every instruction set. Included only by translation units compiled per set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ti_qat {
namespace {

// Row length in int16 elements; the tail is zero. One 512-bit vector, so no loop has a remainder.
constexpr size_t kDotStep = 32;

inline size_t padded_length(size_t k) {
  return (k + kDotStep - 1) / kDotStep * kDotStep;
}

// dst (rows, padded_length(k)) = src (rows, stride), widened and padded with zeros
inline void widen_rows(const int8_t* src, size_t rows, size_t k, size_t stride, int16_t* dst) {
  const size_t padded = padded_length(k);
  for (size_t r = 0; r < rows; ++r) {
    const int8_t* from = src + r * stride;
    int16_t* to = dst + r * padded;
    for (size_t i = 0; i < k; ++i) to[i] = from[i];
    for (size_t i = k; i < padded; ++i) to[i] = 0;
  }
}

// sums[c] = x . w_c over `padded` elements, for `columns` (a multiple of 4) rows of w, `padded` apart
inline void dot_all(const int16_t* __restrict x, const int16_t* __restrict w, size_t columns, size_t padded,
                    int32_t* __restrict sums) {
  for (size_t c = 0; c < columns; c += 4, w += 4 * padded) {
    const int16_t *w0 = w, *w1 = w + padded, *w2 = w + 2 * padded, *w3 = w + 3 * padded;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (size_t k = 0; k < padded / kDotStep * kDotStep; ++k) {
      s0 += x[k] * w0[k];
      s1 += x[k] * w1[k];
      s2 += x[k] * w2[k];
      s3 += x[k] * w3[k];
    }
    sums[c] = s0, sums[c + 1] = s1, sums[c + 2] = s2, sums[c + 3] = s3;
  }
}

}  // namespace
}  // namespace ti_qat
