// The product for at most 8 rows on AVX2: codes are unpacked in registers and used at once. vpmaddubsw multiplies the
// unsigned code + 1 with x; the surplus, the row's sum of x, is subtracted at the end. A pair sums to at most
// 2 * 2 * 128 = 512 in magnitude, so the 4 * kFlushWords pairs of a 16-bit lane do not overflow.
#pragma once

#include <immintrin.h>

#include "kernels/gemm_panels.h"
#include "kernels/scratch.h"

namespace ti_qat {
namespace {

constexpr size_t kFewRows = 8;
constexpr size_t kLanes = 8;        // channels in a vector
constexpr size_t kFlushWords = 12;  // 12 * 4 * 512 < 2^15

// x as 32-bit groups: of every 16 values of a row, group j holds the values j, j + 4, j + 8 and j + 12. These meet the
// field j of the four bytes of a 32-bit lane, which two instructions isolate.
// dst (ceil(k / 16) * 4, kFewRows), then the row sums (kFewRows)
inline void group_rows(const TernaryGemm& gemm, int32_t* dst) {
  const size_t groups = ceil_div(gemm.k, kWordCodes) * 4;
  std::memset(dst, 0, (groups + 1) * kFewRows * sizeof(int32_t));
  int8_t* bytes = reinterpret_cast<int8_t*>(dst);
  for (size_t r = 0; r < gemm.m; ++r) {
    const int8_t* x = gemm.x + r * gemm.k;
    int32_t sum = 0;
    for (size_t i = 0; i < gemm.k; ++i) {
      const size_t group = i / kWordCodes * 4 + i % 4, byte = i % kWordCodes / 4;
      bytes[(group * kFewRows + r) * 4 + byte] = x[i];
      sum += x[i];
    }
    dst[groups * kFewRows + r] = sum;
  }
}

inline size_t group_rows_bytes(size_t k) {
  return (ceil_div(k, kWordCodes) * 4 + 1) * kFewRows * sizeof(int32_t);
}

// sums (kRows, kPanelChannels) at 8 channels of a panel
template <size_t kRows>
inline void multiply_lanes(const TernaryGemm& gemm, const Panel& panel, size_t channel, const int32_t* x,
                           int32_t* sums) {
  const size_t words = ceil_div(gemm.k, kWordCodes);
  const __m256i ones = _mm256_set1_epi16(1), mask = _mm256_set1_epi8(3);
  __m256i total[kRows];
  for (size_t r = 0; r < kRows; ++r) total[r] = _mm256_setzero_si256();
  for (size_t begin = 0; begin < words; begin += kFlushWords) {
    const size_t end = begin + kFlushWords < words ? begin + kFlushWords : words;
    __m256i pairs[kRows];
    for (size_t r = 0; r < kRows; ++r) pairs[r] = _mm256_setzero_si256();
    for (size_t word = begin; word < end; ++word) {
      const uint8_t* from = panel.words + word * kPanelWordBytes + channel * kWordBytes;
      __m256i fields = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
#pragma GCC unroll 4
      for (size_t j = 0; j < 4; ++j, x += kFewRows) {
        const __m256i w = _mm256_and_si256(fields, mask);
        fields = _mm256_srli_epi32(fields, 2);
#pragma GCC unroll 8
        for (size_t r = 0; r < kRows; ++r) {
          pairs[r] = _mm256_add_epi16(pairs[r], _mm256_maddubs_epi16(w, _mm256_set1_epi32(x[r])));
          // Keeps the compiler from multiplying all rows before it adds any, for which the registers do not suffice.
          __asm__ volatile("" : "+x"(pairs[r]));
        }
      }
    }
    for (size_t r = 0; r < kRows; ++r) total[r] = _mm256_add_epi32(total[r], _mm256_madd_epi16(pairs[r], ones));
  }
  for (size_t r = 0; r < kRows; ++r) {
    const __m256i sum = _mm256_sub_epi32(total[r], _mm256_set1_epi32(x[r]));
    _mm256_store_si256(reinterpret_cast<__m256i*>(sums + r * kPanelChannels + channel), sum);
  }
}

using MultiplyLanes = void (*)(const TernaryGemm&, const Panel&, size_t, const int32_t*, int32_t*);
constexpr MultiplyLanes kMultiplyLanes[kFewRows] = {multiply_lanes<1>, multiply_lanes<2>, multiply_lanes<3>,
                                                    multiply_lanes<4>, multiply_lanes<5>, multiply_lanes<6>,
                                                    multiply_lanes<7>, multiply_lanes<8>};

inline void multiply_few_rows(const TernaryGemm& gemm, const int32_t* x, size_t index) {
  const Panel panel = panel_at(gemm, index);
  const PanelScales scales = scales_of(panel);
  alignas(64) int32_t sums[kFewRows * kPanelChannels] = {};
  for (size_t channel = 0; channel < panel.channels; channel += kLanes) {
    kMultiplyLanes[gemm.m - 1](gemm, panel, channel, x, sums);
  }
  for (size_t r = 0; r < gemm.m; ++r) finish_row(gemm, panel, scales, r, sums + r * kPanelChannels);
}

}  // namespace
}  // namespace ti_qat
