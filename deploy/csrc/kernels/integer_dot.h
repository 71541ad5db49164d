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

// sums[i][j] = x_i . w_j over `padded` elements, for kRows rows and 4 columns `padded` apart
template <size_t kRows>
inline void dot_block(const int16_t* __restrict x, const int16_t* __restrict w, size_t padded,
                      int32_t (*__restrict sums)[4]) {
  const int16_t *x0 = x, *x1 = x + (kRows - 1) * padded;
  const int16_t *w0 = w, *w1 = w + padded, *w2 = w + 2 * padded, *w3 = w + 3 * padded;
  int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
  for (size_t k = 0; k < padded / kDotStep * kDotStep; ++k) {
    a0 += x0[k] * w0[k];
    a1 += x0[k] * w1[k];
    a2 += x0[k] * w2[k];
    a3 += x0[k] * w3[k];
    if constexpr (kRows == 2) {
      b0 += x1[k] * w0[k];
      b1 += x1[k] * w1[k];
      b2 += x1[k] * w2[k];
      b3 += x1[k] * w3[k];
    }
  }
  sums[0][0] = a0, sums[0][1] = a1, sums[0][2] = a2, sums[0][3] = a3;
  if constexpr (kRows == 2) sums[1][0] = b0, sums[1][1] = b1, sums[1][2] = b2, sums[1][3] = b3;
}

inline size_t round_up_to_4(size_t n) {
  return (n + 3) / 4 * 4;
}

// Calls store(row, column, sum) for every element of x (rows, padded) times w (columns, padded) transposed. `w` has
// round_up_to_4(columns) rows; the surplus is computed and dropped.
template <typename Store>
inline void for_each_dot(const int16_t* x, size_t rows, const int16_t* w, size_t columns, size_t padded, Store store) {
  for (size_t r = 0; r < rows; r += 2) {
    const size_t taken = rows - r < 2 ? 1 : 2;
    for (size_t c = 0; c < columns; c += 4) {
      int32_t sums[2][4];
      if (taken == 2) {
        dot_block<2>(x + r * padded, w + c * padded, padded, sums);
      } else {
        dot_block<1>(x + r * padded, w + c * padded, padded, sums);
      }
      const size_t used = columns - c < 4 ? columns - c : 4;
      for (size_t i = 0; i < taken; ++i) {
        for (size_t j = 0; j < used; ++j) store(r + i, c + j, sums[i][j]);
      }
    }
  }
}

}  // namespace
}  // namespace ti_qat
