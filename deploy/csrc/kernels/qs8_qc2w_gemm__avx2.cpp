// int8 x ternary matrix product on AVX2: vpmaddubsw of (code + 1) and x. A pair sums to at most
// 2 * 2 * 128 = 512 in magnitude, so kFlushGroups of them fit the 16-bit lanes without saturation.
#include <immintrin.h>

#include "kernels/gemm_tiles.h"
#include "kernels/scratch.h"

namespace ti_qat {
namespace {

constexpr size_t kRows = 6;          // rows of x in registers
constexpr size_t kVectors = 2;       // 8-channel vectors of w in registers
constexpr size_t kFlushGroups = 32;  // 32 * 512 < 2^15
constexpr size_t kLanes = 8;

// One packed byte holds the four codes of one group: spread them over the bytes of a 32-bit lane.
inline __m256i spread(__m256i byte_in_lane) {
  const __m256i pair = _mm256_or_si256(byte_in_lane, _mm256_slli_epi32(byte_in_lane, 6));
  const __m256i quad = _mm256_or_si256(pair, _mm256_slli_epi32(pair, 12));
  return _mm256_and_si256(quad, _mm256_set1_epi32(0x03030303));
}

inline void store_group(uint32_t* dst, __m256i bytes, int shift) {
  const __m256i lane = _mm256_and_si256(_mm256_srli_epi32(bytes, shift), _mm256_set1_epi32(0xff));
  _mm256_store_si256(reinterpret_cast<__m256i*>(dst), spread(lane));
}

// 16 bytes each of rows 0 and 4
inline __m256i load_rows(const uint8_t* rows, size_t stride) {
  return _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(rows + 4 * stride),
                             reinterpret_cast<const __m128i*>(rows));
}

// dst (groups, kPanelChannels), first 8 columns: the codes of 8 rows, of which 16 bytes can be read
inline void unpack_block(const uint8_t* rows, size_t stride, size_t groups, uint32_t* dst) {
  const __m256i a = load_rows(rows, stride), b = load_rows(rows + stride, stride);
  const __m256i c = load_rows(rows + 2 * stride, stride), d = load_rows(rows + 3 * stride, stride);
  const __m256i ab_low = _mm256_unpacklo_epi32(a, b), ab_high = _mm256_unpackhi_epi32(a, b);
  const __m256i cd_low = _mm256_unpacklo_epi32(c, d), cd_high = _mm256_unpackhi_epi32(c, d);
  // column j: bytes 4 j to 4 j + 3 of all 8 rows, in order
  const __m256i columns[4] = {_mm256_unpacklo_epi64(ab_low, cd_low), _mm256_unpackhi_epi64(ab_low, cd_low),
                              _mm256_unpacklo_epi64(ab_high, cd_high), _mm256_unpackhi_epi64(ab_high, cd_high)};
  for (size_t g = 0; g < groups; ++g) {
    store_group(dst + g * kPanelChannels, columns[g / kGroup], static_cast<int>(8 * (g % kGroup)));
  }
}

using Sums = __m256i[kRows][kVectors];

// sums += x (kRows of a tile) times w (two vectors of a panel) over all groups
inline void accumulate(const int32_t* x, const uint32_t* w, size_t groups, Sums& sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (size_t begin = 0; begin < groups; begin += kFlushGroups) {
    const size_t end = begin + kFlushGroups < groups ? begin + kFlushGroups : groups;
    __m256i pairs[kRows][kVectors];
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t v = 0; v < kVectors; ++v) pairs[r][v] = _mm256_setzero_si256();
    }
    for (size_t g = begin; g < end; ++g) {
      const uint32_t* w_group = w + g * kPanelChannels;
      const __m256i w0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(w_group));
      const __m256i w1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(w_group + kLanes));
#pragma GCC unroll 6
      for (size_t r = 0; r < kRows; ++r) {
        const __m256i x_group = _mm256_set1_epi32(x[g * kTileRows + r]);
        pairs[r][0] = _mm256_add_epi16(pairs[r][0], _mm256_maddubs_epi16(w0, x_group));
        pairs[r][1] = _mm256_add_epi16(pairs[r][1], _mm256_maddubs_epi16(w1, x_group));
      }
    }
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t v = 0; v < kVectors; ++v) {
        sums[r][v] = _mm256_add_epi32(sums[r][v], _mm256_madd_epi16(pairs[r][v], ones));
      }
    }
  }
}

inline void store(const TernaryGemm& gemm, const PanelEpilogue& panel, const Sums& sums, const int32_t* row_sums,
                  size_t row, size_t channel, size_t offset) {
  for (size_t r = 0; r < kRows && row + r < gemm.m; ++r) {
    const __m256 x_scale = _mm256_set1_ps(x_scale_of(gemm, row + r));
    for (size_t v = 0; v < kVectors; ++v) {
      const size_t at = offset + v * kLanes;
      const __m256i sum = _mm256_sub_epi32(sums[r][v], _mm256_set1_epi32(row_sums[r]));
      const __m256 scale = _mm256_mul_ps(x_scale, _mm256_load_ps(panel.w_scale + at));
      const __m256 y = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale), _mm256_load_ps(panel.bias + at));
      if (channel + at >= gemm.n) break;
      float* out = gemm.y + (row + r) * gemm.n + channel + at;
      const size_t left = gemm.n - channel - at;
      if (left >= kLanes) {
        _mm256_storeu_ps(out, y);
      } else {
        alignas(32) float lanes[kLanes];
        _mm256_store_ps(lanes, y);
        std::memcpy(out, lanes, left * sizeof(float));
      }
    }
  }
}

void multiply(const TernaryGemm& gemm, const void* packed, size_t panel, size_t begin, size_t end) {
  const size_t groups = group_count(gemm.k);
  const size_t channel = panel * kPanelChannels;
  const size_t channels = gemm.n - channel < kPanelChannels ? gemm.n - channel : kPanelChannels;
  const Scratch scratch(groups * kPanelChannels * sizeof(uint32_t));
  uint32_t* weights = static_cast<uint32_t*>(scratch.data());
  for (size_t c = 0; c < kPanelChannels; c += kLanes) {
    unpack_vector<kLanes>(gemm, channel + c, c < channels ? channels - c : 0, weights + c, unpack_block);
  }
  const PanelEpilogue epilogue = panel_epilogue(gemm, channel, channels);
  for (size_t tile = begin; tile < end; ++tile) {
    const int32_t* x = reinterpret_cast<const int32_t*>(static_cast<const char*>(packed) + tile * tile_bytes(gemm.k));
    for (size_t r = 0; r < kTileRows && tile * kTileRows + r < gemm.m; r += kRows) {
      for (size_t offset = 0; offset < channels; offset += kVectors * kLanes) {
        Sums sums = {};
        accumulate(x + r, weights + offset, groups, sums);
        store(gemm, epilogue, sums, x + groups * kTileRows + r, tile * kTileRows + r, channel, offset);
      }
    }
  }
}

}  // namespace

extern const GemmKernel qs8_qc2w_gemm__avx2 = {packed_bytes, pack, multiply};

}  // namespace ti_qat
