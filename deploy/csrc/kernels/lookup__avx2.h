// The product by vector look-up on AVX2: tokens lie in the lanes. For every four values of the summed dimension a table
// holds all 81 signed sums of four vectors of x; a channel adds the row that its four codes name. One addition thus
// stands for four multiply-accumulates in each 16-bit lane, which no int8 multiplication of AVX2 reaches.
#pragma once

#include <immintrin.h>

#include "kernels/gemm_panels.h"
#include "kernels/scratch.h"

namespace ti_qat {
namespace {

constexpr size_t kVectorRows = 16;  // rows of x (tokens) in a vector of int16
constexpr size_t kMaxVectors = 4;   // vectors that one reading of a code serves
constexpr size_t kTableGroups = 4;  // tables that share the first-level cache with the sums
constexpr size_t kTableRows = 81;   // 3^4
// A table's entry is at most 4 * 128 in magnitude, so the sums of 60 groups stay inside int16.
constexpr size_t kWidenPasses = 15;

inline size_t pass_count(size_t k) {
  return ceil_div(k, kWordCodes);
}

// Base-3 numbers, first code least significant, of the four codes in each byte; below 81 for any byte.
inline __m256i table_rows(__m256i bytes) {
  const __m256i low = _mm256_setr_epi8(0, 1, 2, 0, 3, 4, 5, 0, 6, 7, 8, 0, 0, 0, 0, 0,  //
                                       0, 1, 2, 0, 3, 4, 5, 0, 6, 7, 8, 0, 0, 0, 0, 0);
  const __m256i high = _mm256_setr_epi8(0, 9, 18, 0, 27, 36, 45, 0, 54, 63, 72, 0, 0, 0, 0, 0,  //
                                        0, 9, 18, 0, 27, 36, 45, 0, 54, 63, 72, 0, 0, 0, 0, 0);
  const __m256i nibble = _mm256_set1_epi8(15);
  return _mm256_add_epi8(_mm256_shuffle_epi8(low, _mm256_and_si256(bytes, nibble)),
                         _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble)));
}

// dst (16, tile_rows) int16 at one vector of the lanes: 16 rows, of which 16 bytes can be read, transposed
inline void transpose_bytes(const int8_t* const rows[16], size_t tile_rows, int16_t* dst) {
  __m128i v[16], t[16];
  for (size_t i = 0; i < 16; ++i) v[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i]));
  // Four rounds of interleaving rows i and i + 8 turn (row, byte) into (byte, row).
  for (size_t round = 0; round < 4; ++round) {
    for (size_t i = 0; i < 8; ++i) {
      t[2 * i] = _mm_unpacklo_epi8(v[i], v[i + 8]);
      t[2 * i + 1] = _mm_unpackhi_epi8(v[i], v[i + 8]);
    }
    for (size_t i = 0; i < 16; ++i) v[i] = t[i];
  }
  for (size_t i = 0; i < 16; ++i) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(dst + i * tile_rows), _mm256_cvtepi8_epi16(v[i]));
  }
}

// dst (16 * passes, tile_rows) int16: a tile of x with its rows in the lanes; what x lacks is zero
inline void transpose_tile(const TernaryGemm& gemm, size_t tile, size_t tile_rows, int16_t* dst) {
  for (size_t first = 0; first < tile_rows; first += kVectorRows) {
    for (size_t k = 0; k < gemm.k; k += kWordCodes) {
      int8_t copies[16][16] = {};
      const int8_t* rows[16];
      const size_t left = gemm.k - k;
      for (size_t r = 0; r < 16; ++r) {
        const size_t row = tile * tile_rows + first + r;
        rows[r] = copies[r];
        if (row >= gemm.m) continue;
        const int8_t* from = gemm.x + row * gemm.k + k;
        if (left >= 16) {
          rows[r] = from;
        } else {
          std::memcpy(copies[r], from, left);
        }
      }
      transpose_bytes(rows, tile_rows, dst + k * tile_rows + first);
    }
  }
}

// A table of one group: table (kTableRows, 16 * kVectors) from x (4, tile_rows)
template <size_t kVectors>
inline void build_table(const int16_t* x, size_t tile_rows, int16_t* table) {
  constexpr size_t kWidth = kVectorRows * kVectors;
  for (size_t v = 0; v < kVectors; ++v) {
    const auto load = [x, v, tile_rows](size_t i) {
      return _mm256_load_si256(reinterpret_cast<const __m256i*>(x + i * tile_rows + v * kVectorRows));
    };
    const __m256i x0 = load(0), x1 = load(1), x2 = load(2), x3 = load(3), zero = _mm256_setzero_si256();
    const __m256i minus_x0 = _mm256_sub_epi16(zero, x0), minus_x1 = _mm256_sub_epi16(zero, x1);
    const __m256i low[9] = {
        _mm256_sub_epi16(minus_x1, x0), minus_x1, _mm256_add_epi16(minus_x1, x0), minus_x0, zero, x0,
        _mm256_sub_epi16(x1, x0),       x1,       _mm256_add_epi16(x1, x0)};
    int16_t* to = table + v * kVectorRows;
    __m256i high = _mm256_sub_epi16(zero, _mm256_add_epi16(x2, x3));
    for (size_t f3 = 0; f3 < 3; ++f3, high = _mm256_add_epi16(high, x3)) {
      __m256i sum = high;
      for (size_t f2 = 0; f2 < 3; ++f2, sum = _mm256_add_epi16(sum, x2)) {
#pragma GCC unroll 9
        for (size_t i = 0; i < 9; ++i, to += kWidth) {
          _mm256_store_si256(reinterpret_cast<__m256i*>(to), _mm256_add_epi16(sum, low[i]));
        }
      }
    }
  }
}

// sums (kPanelChannels, 16 * kVectors) int16 +=, or = if `first`, the rows of kTableGroups tables that one word of each
// channel names; words (kPanelChannels, kWordBytes)
template <size_t kVectors, bool first>
inline void add_table_rows(const int16_t* tables, const uint8_t* words, int16_t* sums) {
  constexpr size_t kRowBytes = 32 * kVectors, kTableBytes = kTableRows * kRowBytes;
  alignas(32) uint8_t indices[kPanelWordBytes];
  for (size_t i = 0; i < kPanelWordBytes; i += 32) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words + i));
    _mm256_store_si256(reinterpret_cast<__m256i*>(indices + i), table_rows(bytes));
  }
  const char* table = reinterpret_cast<const char*>(tables);
  for (size_t c = 0; c < kPanelChannels; ++c, sums += 16 * kVectors) {
    uint32_t word;
    std::memcpy(&word, indices + c * kWordBytes, sizeof word);
    const auto row = [table](size_t group, size_t index) {
      return reinterpret_cast<const __m256i*>(table + group * kTableBytes + index * kRowBytes);
    };
    const __m256i *r0 = row(0, word & 255), *r1 = row(1, word >> 8 & 255), *r2 = row(2, word >> 16 & 255),
                  *r3 = row(3, word >> 24);
    __m256i* sum = reinterpret_cast<__m256i*>(sums);
    for (size_t v = 0; v < kVectors; ++v) {
      const __m256i four = _mm256_add_epi16(_mm256_add_epi16(r0[v], r1[v]), _mm256_add_epi16(r2[v], r3[v]));
      sum[v] = first ? four : _mm256_add_epi16(sum[v], four);
    }
  }
}

// One pass over the panels [begin, end): sums (channels, 16 * kVectors)
template <size_t kVectors, bool first>
inline void add_pass(const TernaryGemm& gemm, size_t begin, size_t end, size_t pass, const int16_t* tables,
                     int16_t* sums) {
  constexpr size_t kAhead =
      4;  // passes; a panel's words for the next passes follow each other, so far from the next panel's
  for (size_t index = begin; index < end; ++index, sums += kPanelChannels * 16 * kVectors) {
    const uint8_t* words = panel_at(gemm, index).words + pass * kPanelWordBytes;
    _mm_prefetch(reinterpret_cast<const char*>(words + kAhead * kPanelWordBytes), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(words + kAhead * kPanelWordBytes + 64), _MM_HINT_T0);
    add_table_rows<kVectors, first>(tables, words, sums);
  }
}

// wide (count) int32 +=, or = if `first`, narrow (count)
inline void widen_sums(const int16_t* narrow, size_t count, bool first, int32_t* wide) {
  for (size_t i = 0; i < count; i += 8) {
    const __m256i added = _mm256_cvtepi16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(narrow + i)));
    __m256i* to = reinterpret_cast<__m256i*>(wide + i);
    *to = first ? added : _mm256_add_epi32(*to, added);
  }
}

// dst (8 rows, kPanelChannels) = src (8 channels, stride) int32, transposed
inline void transpose_sums(const int32_t* src, size_t stride, int32_t* dst) {
  __m256 v[8], t[8];
  for (size_t i = 0; i < 8; ++i) v[i] = _mm256_load_ps(reinterpret_cast<const float*>(src + i * stride));
  for (size_t i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
  }
  for (size_t i = 0; i < 2; ++i) {
    v[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    v[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    v[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    v[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
  for (size_t i = 0; i < 4; ++i) {
    float* low = reinterpret_cast<float*>(dst + i * kPanelChannels);
    float* high = reinterpret_cast<float*>(dst + (i + 4) * kPanelChannels);
    _mm256_store_ps(low, _mm256_permute2f128_ps(v[i], v[i + 4], 0x20));
    _mm256_store_ps(high, _mm256_permute2f128_ps(v[i], v[i + 4], 0x31));
  }
}

// Stores the results of `rows` rows of the panels [begin, end) of one tile; sums (channels, 16 * kVectors)
template <size_t kVectors>
inline void finish_tile(const TernaryGemm& gemm, size_t begin, size_t end, size_t first_row, size_t rows,
                        const int32_t* sums) {
  constexpr size_t kWidth = 16 * kVectors;
  alignas(64) int32_t by_row[kWidth * kPanelChannels];
  for (size_t index = begin; index < end; ++index, sums += kPanelChannels * kWidth) {
    const Panel panel = panel_at(gemm, index);
    const PanelScales scales = scales_of(panel);
    for (size_t c = 0; c < kPanelChannels; c += 8) {
      for (size_t r = 0; r < kWidth; r += 8) {
        transpose_sums(sums + c * kWidth + r, kWidth, by_row + r * kPanelChannels + c);
      }
    }
    for (size_t r = 0; r < rows; ++r) finish_row(gemm, panel, scales, first_row + r, by_row + r * kPanelChannels);
  }
}

// The panels [begin, end) of the rows [first_row, first_row + rows); x (16 * passes, tile_rows)
template <size_t kVectors>
inline void multiply_tile(const TernaryGemm& gemm, size_t first_row, size_t rows, size_t begin, size_t end,
                          const int16_t* x, size_t tile_rows) {
  constexpr size_t kWidth = kVectorRows * kVectors;
  const size_t passes = pass_count(gemm.k), channels = (end - begin) * kPanelChannels;
  const Scratch wide(channels * kWidth * sizeof(int32_t)), narrow(channels * kWidth * sizeof(int16_t));
  const Scratch tables(kTableGroups * kTableRows * kWidth * sizeof(int16_t));
  int32_t* sums = static_cast<int32_t*>(wide.data());
  int16_t* narrow_sums = static_cast<int16_t*>(narrow.data());
  int16_t* table = static_cast<int16_t*>(tables.data());
  for (size_t pass = 0; pass < passes; ++pass) {
    for (size_t g = 0; g < kTableGroups; ++g) {
      build_table<kVectors>(x + (pass * kTableGroups + g) * 4 * tile_rows, tile_rows, table + g * kTableRows * kWidth);
    }
    if (pass % kWidenPasses == 0) {
      add_pass<kVectors, true>(gemm, begin, end, pass, table, narrow_sums);
    } else {
      add_pass<kVectors, false>(gemm, begin, end, pass, table, narrow_sums);
    }
    if (pass % kWidenPasses == kWidenPasses - 1 || pass + 1 == passes) {
      widen_sums(narrow_sums, channels * kWidth, pass < kWidenPasses, sums);
    }
  }
  finish_tile<kVectors>(gemm, begin, end, first_row, rows, sums);
}

using MultiplyTile = void (*)(const TernaryGemm&, size_t, size_t, size_t, size_t, const int16_t*, size_t);
constexpr MultiplyTile kMultiplyTile[kMaxVectors] = {multiply_tile<1>, multiply_tile<2>, multiply_tile<3>,
                                                     multiply_tile<4>};

}  // namespace
}  // namespace ti_qat
