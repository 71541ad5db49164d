// int8 x ternary matrix product on AVX-512 VNNI: vpdpbusd of (code + 1) and x, 12 rows x 32 channels
// in 24 accumulators.
#include <immintrin.h>

#include "kernels/gemm_tiles.h"
#include "kernels/scratch.h"

namespace ti_qat {
namespace {

constexpr size_t kVectors = 2;  // 16-channel vectors of a panel
constexpr size_t kLanes = 16;

// One packed byte holds the four codes of one group: spread them over the bytes of a 32-bit lane.
inline __m512i spread(__m512i byte_in_lane) {
  constexpr int kOrThenAnd = 0xa8;  // (a | b) & c
  const __m512i pair = _mm512_or_si512(byte_in_lane, _mm512_slli_epi32(byte_in_lane, 6));
  return _mm512_ternarylogic_epi32(pair, _mm512_slli_epi32(pair, 12), _mm512_set1_epi32(0x03030303), kOrThenAnd);
}

inline void store_group(uint32_t* dst, __m512i bytes, int shift) {
  const __m512i lane =
      _mm512_and_si512(_mm512_srli_epi32(bytes, static_cast<unsigned>(shift)), _mm512_set1_epi32(0xff));
  _mm512_store_si512(dst, spread(lane));
}

// 16 bytes each of rows 0, 4, 8 and 12
inline __m512i load_rows(const uint8_t* rows, size_t stride) {
  const auto load = [rows, stride](size_t r) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + r * stride));
  };
  const __m512i low = _mm512_inserti32x4(_mm512_castsi128_si512(load(0)), load(4), 1);
  return _mm512_inserti32x4(_mm512_inserti32x4(low, load(8), 2), load(12), 3);
}

// dst (groups, kPanelChannels), first 16 columns: the codes of 16 rows, of which 16 bytes can be read
inline void unpack_block(const uint8_t* rows, size_t stride, size_t groups, uint32_t* dst) {
  const __m512i a = load_rows(rows, stride), b = load_rows(rows + stride, stride);
  const __m512i c = load_rows(rows + 2 * stride, stride), d = load_rows(rows + 3 * stride, stride);
  const __m512i ab_low = _mm512_unpacklo_epi32(a, b), ab_high = _mm512_unpackhi_epi32(a, b);
  const __m512i cd_low = _mm512_unpacklo_epi32(c, d), cd_high = _mm512_unpackhi_epi32(c, d);
  // column j: bytes 4 j to 4 j + 3 of all 16 rows, in order
  const __m512i columns[4] = {_mm512_unpacklo_epi64(ab_low, cd_low), _mm512_unpackhi_epi64(ab_low, cd_low),
                              _mm512_unpacklo_epi64(ab_high, cd_high), _mm512_unpackhi_epi64(ab_high, cd_high)};
  for (size_t g = 0; g < groups; ++g) {
    store_group(dst + g * kPanelChannels, columns[g / kGroup], static_cast<int>(8 * (g % kGroup)));
  }
}

using Sums = __m512i[kTileRows][kVectors];

inline void accumulate(const int32_t* x, const uint32_t* w, size_t groups, Sums& result) {
  __m512i sums[kTileRows][kVectors];
#pragma GCC unroll 12
  for (size_t r = 0; r < kTileRows; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_si512();
  for (size_t g = 0; g < groups; ++g, x += kTileRows, w += kPanelChannels) {
    const __m512i w0 = _mm512_load_si512(w);
    const __m512i w1 = _mm512_load_si512(w + kLanes);
#pragma GCC unroll 12
    for (size_t r = 0; r < kTileRows; ++r) {
      const __m512i x_group = _mm512_set1_epi32(x[r]);
      sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], w0, x_group);
      sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], w1, x_group);
    }
  }
#pragma GCC unroll 12
  for (size_t r = 0; r < kTileRows; ++r) result[r][0] = sums[r][0], result[r][1] = sums[r][1];
}

inline __mmask16 first_lanes(size_t count) {
  return count >= kLanes ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << count) - 1u);
}

inline void store(const TernaryGemm& gemm, const PanelEpilogue& panel, const Sums& sums, const int32_t* row_sums,
                  size_t row, size_t channel, size_t channels) {
  for (size_t r = 0; r < kTileRows && row + r < gemm.m; ++r) {
    const __m512 x_scale = _mm512_set1_ps(x_scale_of(gemm, row + r));
    float* out = gemm.y + (row + r) * gemm.n + channel;
    for (size_t at = 0; at < channels; at += kLanes) {
      const __m512i sum = _mm512_sub_epi32(sums[r][at / kLanes], _mm512_set1_epi32(row_sums[r]));
      const __m512 scale = _mm512_mul_ps(x_scale, _mm512_load_ps(panel.w_scale + at));
      const __m512 y = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale), _mm512_load_ps(panel.bias + at));
      _mm512_mask_storeu_ps(out + at, first_lanes(channels - at), y);
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
    Sums sums;
    accumulate(x, weights, groups, sums);
    store(gemm, epilogue, sums, x + groups * kTileRows, tile * kTileRows, channel, channels);
  }
}

}  // namespace

extern const GemmKernel qs8_qc2w_gemm__avx512vnni = {packed_bytes, pack, multiply};

}  // namespace ti_qat
