// Products of rows of int16 with columns of int16, two elements of the summed dimension at a time: a column's pairs lie
// side by side in the lanes of a vector, a row's pair is broadcast. Included only by the translation units that are
// compiled per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#if defined(__SSE4_1__)
#include <immintrin.h>
#elif defined(__ARM_NEON) && !defined(TI_QAT_PLAIN)
#include <arm_neon.h>
#endif

namespace ti_qat {
namespace {

constexpr size_t kColumnStep = 16;  // columns are padded to a multiple of it

inline size_t padded_columns(size_t columns) {
  return (columns + kColumnStep - 1) / kColumnStep * kColumnStep;
}

#if defined(__AVX2__)

// out (kRows, columns) at kColumnStep columns; a (kRows, 2 * pairs) with `a_stride`, b (pairs, columns, 2)
template <size_t kRows>
inline void pair_block(const int16_t* a, size_t a_stride, const int16_t* b, size_t pairs, size_t columns,
                       int32_t* out) {
  constexpr size_t kLanes = 8;
  __m256i sums[kRows][2];
  for (size_t r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
  for (size_t p = 0; p < pairs; ++p, b += 2 * columns) {
    const __m256i b0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
    const __m256i b1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 2 * kLanes));
#pragma GCC unroll 4
    for (size_t r = 0; r < kRows; ++r) {
      int32_t pair;
      __builtin_memcpy(&pair, a + r * a_stride + 2 * p, sizeof pair);
      const __m256i broadcast = _mm256_set1_epi32(pair);
      sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(b0, broadcast));
      sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(b1, broadcast));
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + r * columns), sums[r][0]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + r * columns + kLanes), sums[r][1]);
  }
}

#elif defined(__SSE4_1__)

template <size_t kRows>
inline void pair_block(const int16_t* a, size_t a_stride, const int16_t* b, size_t pairs, size_t columns,
                       int32_t* out) {
  constexpr size_t kLanes = 4;
  for (size_t c = 0; c < kColumnStep; c += 2 * kLanes, b += 4 * kLanes, out += 2 * kLanes) {
    __m128i sums[kRows][2];
    for (size_t r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm_setzero_si128();
    const int16_t* at = b;
    for (size_t p = 0; p < pairs; ++p, at += 2 * columns) {
      const __m128i b0 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
      const __m128i b1 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + 2 * kLanes));
#pragma GCC unroll 4
      for (size_t r = 0; r < kRows; ++r) {
        int32_t pair;
        __builtin_memcpy(&pair, a + r * a_stride + 2 * p, sizeof pair);
        const __m128i broadcast = _mm_set1_epi32(pair);
        sums[r][0] = _mm_add_epi32(sums[r][0], _mm_madd_epi16(b0, broadcast));
        sums[r][1] = _mm_add_epi32(sums[r][1], _mm_madd_epi16(b1, broadcast));
      }
    }
    for (size_t r = 0; r < kRows; ++r) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + r * columns), sums[r][0]);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + r * columns + kLanes), sums[r][1]);
    }
  }
}

#elif defined(__ARM_NEON) && !defined(TI_QAT_PLAIN)

template <size_t kRows>
inline void pair_block(const int16_t* a, size_t a_stride, const int16_t* b, size_t pairs, size_t columns,
                       int32_t* out) {
  int32x4_t sums[kRows][4];
  for (size_t r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = sums[r][2] = sums[r][3] = vdupq_n_s32(0);
  for (size_t p = 0; p < pairs; ++p, b += 2 * columns) {
    const int16x8x2_t low = vld2q_s16(b), high = vld2q_s16(b + 16);  // first and second elements of 8 columns each
#pragma GCC unroll 4
    for (size_t r = 0; r < kRows; ++r) {
      const int16_t first = a[r * a_stride + 2 * p], second = a[r * a_stride + 2 * p + 1];
      const int16x8_t firsts = vdupq_n_s16(first), seconds = vdupq_n_s16(second);
      const auto add = [&](int32x4_t& to, int32x4_t& next, const int16x8x2_t& columns_8) {
        to = vmlal_s16(to, vget_low_s16(columns_8.val[0]), vget_low_s16(firsts));
        to = vmlal_s16(to, vget_low_s16(columns_8.val[1]), vget_low_s16(seconds));
        next = vmlal_high_s16(next, columns_8.val[0], firsts);
        next = vmlal_high_s16(next, columns_8.val[1], seconds);
      };
      add(sums[r][0], sums[r][1], low);
      add(sums[r][2], sums[r][3], high);
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t i = 0; i < 4; ++i) vst1q_s32(out + r * columns + 4 * i, sums[r][i]);
  }
}

#else

template <size_t kRows>
inline void pair_block(const int16_t* a, size_t a_stride, const int16_t* b, size_t pairs, size_t columns,
                       int32_t* out) {
  for (size_t r = 0; r < kRows; ++r, a += a_stride, out += columns) {
    int32_t sums[kColumnStep] = {};
    const int16_t* at = b;
    for (size_t p = 0; p < pairs; ++p, at += 2 * columns) {
      const int32_t first = a[2 * p], second = a[2 * p + 1];
      for (size_t c = 0; c < kColumnStep; ++c) sums[c] += first * at[2 * c] + second * at[2 * c + 1];
    }
    for (size_t c = 0; c < kColumnStep; ++c) out[c] = sums[c];
  }
}

#endif

// out (rows, columns) = a (rows, 2 * pairs) . b (pairs, columns, 2); columns is a multiple of kColumnStep
inline void pair_product(const int16_t* a, size_t rows, const int16_t* b, size_t pairs, size_t columns, int32_t* out) {
  constexpr size_t kRows = 4;
  const size_t a_stride = 2 * pairs;
  size_t r = 0;
  for (; r + kRows <= rows; r += kRows) {
    for (size_t c = 0; c < columns; c += kColumnStep) {
      pair_block<kRows>(a + r * a_stride, a_stride, b + 2 * c, pairs, columns, out + r * columns + c);
    }
  }
  for (; r < rows; ++r) {
    for (size_t c = 0; c < columns; c += kColumnStep) {
      pair_block<1>(a + r * a_stride, a_stride, b + 2 * c, pairs, columns, out + r * columns + c);
    }
  }
}

// dst (rows, 2 * ceil(width / 2)) = src (rows, stride), widened; an odd width is padded with zero
inline void row_pairs(const int8_t* src, size_t rows, size_t width, size_t stride, int16_t* dst) {
  const size_t padded = (width + 1) / 2 * 2;
  for (size_t r = 0; r < rows; ++r, src += stride, dst += padded) {
    for (size_t i = 0; i < width; ++i) dst[i] = src[i];
    if (padded > width) dst[width] = 0;
  }
}

// dst (ceil(width / 2), padded_columns(rows), 2): src (rows, stride) with its rows as columns
inline void transposed_pairs(const int8_t* src, size_t rows, size_t width, size_t stride, int16_t* dst) {
  const size_t pairs = (width + 1) / 2, columns = padded_columns(rows);
  for (size_t p = 0; p < pairs; ++p) {
    int16_t* to = dst + 2 * p * columns;
    const bool whole = 2 * p + 1 < width;
    for (size_t r = 0; r < rows; ++r) {
      to[2 * r] = src[r * stride + 2 * p];
      to[2 * r + 1] = whole ? src[r * stride + 2 * p + 1] : int8_t{0};
    }
    for (size_t i = 2 * rows; i < 2 * columns; ++i) to[i] = 0;
  }
}

// dst (ceil(rows / 2), padded_columns(width), 2): src (rows, stride) with pairs of its rows interleaved
inline void interleaved_pairs(const int8_t* src, size_t rows, size_t width, size_t stride, int16_t* dst) {
  const size_t columns = padded_columns(width);
  for (size_t r = 0; r < rows; r += 2, dst += 2 * columns) {
    const int8_t *first = src + r * stride, *second = first + stride;
    const bool whole = r + 1 < rows;
    for (size_t c = 0; c < width; ++c) {
      dst[2 * c] = first[c];
      dst[2 * c + 1] = whole ? second[c] : int8_t{0};
    }
    for (size_t i = 2 * width; i < 2 * columns; ++i) dst[i] = 0;
  }
}

}  // namespace
}  // namespace ti_qat
