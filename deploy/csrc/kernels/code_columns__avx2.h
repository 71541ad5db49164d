// Reading packed ternary codes on AVX2: 16 packed bytes of 8 channels at a time, transposed so that a 32-bit lane
// holds four bytes, that is 16 codes, of one channel.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/gemm_panels.h"

namespace ti_qat {
namespace {

constexpr size_t kLanes = 8;        // channels in a vector
constexpr size_t kBlockBytes = 16;  // packed bytes of a channel that are read at once
constexpr size_t kWordCodes = 16;   // codes in a 32-bit lane
constexpr size_t kBlockCodes = 64;

// columns[j]: bytes 4 j to 4 j + 3 of each of 8 rows `stride` apart, of which 16 bytes can be read
inline void transpose_block(const uint8_t* rows, size_t stride, __m256i columns[4]) {
  const auto load = [rows, stride](size_t r) {
    return _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(rows + (r + 4) * stride),
                               reinterpret_cast<const __m128i*>(rows + r * stride));
  };
  const __m256i a = load(0), b = load(1), c = load(2), d = load(3);
  const __m256i ab_low = _mm256_unpacklo_epi32(a, b), ab_high = _mm256_unpackhi_epi32(a, b);
  const __m256i cd_low = _mm256_unpacklo_epi32(c, d), cd_high = _mm256_unpackhi_epi32(c, d);
  columns[0] = _mm256_unpacklo_epi64(ab_low, cd_low);
  columns[1] = _mm256_unpackhi_epi64(ab_low, cd_low);
  columns[2] = _mm256_unpacklo_epi64(ab_high, cd_high);
  columns[3] = _mm256_unpackhi_epi64(ab_high, cd_high);
}

// The block of packed bytes [byte, byte + 16) of channels [channel, channel + 8) of a panel; where that would read past
// a row or past the last channel, zeros stand in.
inline void load_block(const Panel& panel, size_t row_bytes, size_t channel, size_t byte, __m256i columns[4]) {
  const uint8_t* rows = panel.part->w + (panel.channel + channel) * row_bytes + byte;
  const size_t exist = channel < panel.channels ? panel.channels - channel : 0;
  const size_t left = row_bytes - byte < kBlockBytes ? row_bytes - byte : kBlockBytes;
  if (exist >= kLanes && left == kBlockBytes) return transpose_block(rows, row_bytes, columns);
  uint8_t copy[kLanes * kBlockBytes] = {};
  const size_t copied = exist < kLanes ? exist : kLanes;
  for (size_t c = 0; c < copied; ++c) std::memcpy(copy + c * kBlockBytes, rows + c * row_bytes, left);
  transpose_block(copy, kBlockBytes, columns);
}

}  // namespace
}  // namespace ti_qat
