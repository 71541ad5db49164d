// int8 x ternary matrix product on AVX-512 VNNI: vpdpbusd of (code + 1) and x, 12 rows x 32 channels
// in 24 accumulators.
#include <immintrin.h>

#include "kernels/gemm_tiles.h"
#include "kernels/scratch.h"

namespace ti_qat {
namespace {

constexpr size_t kVectors = 2;  // 16-channel vectors of a panel
constexpr size_t kLanes = 16;
constexpr size_t kGatherGroups = 4;  // packed bytes that one 32-bit gather brings per channel

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

// dst (groups, kPanelChannels), vector c: channels [channel + 16 c, ...), of which `channels` exist
void unpack_vector(const TernaryGemm& gemm, size_t channel, size_t channels, uint32_t* dst) {
  const size_t groups = group_count(gemm.k);
  const __mmask16 exists = static_cast<__mmask16>((1u << channels) - 1u);
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i offsets = _mm512_mullo_epi32(lane, _mm512_set1_epi32(static_cast<int>(groups)));
  const uint8_t* row = gemm.w + channel * groups;
  const __m512i zero = _mm512_setzero_si512();
  size_t g = 0;
  for (; g + kGatherGroups <= groups; g += kGatherGroups) {
    const __m512i bytes = _mm512_mask_i32gather_epi32(zero, exists, offsets, row + g, 1);
    for (size_t i = 0; i < kGatherGroups; ++i) {
      store_group(dst + (g + i) * kPanelChannels, bytes, static_cast<int>(8 * i));
    }
  }
  for (; g < groups; ++g) {
    alignas(64) uint32_t bytes[kLanes] = {};
    for (size_t l = 0; l < channels; ++l) bytes[l] = row[l * groups + g];
    store_group(dst + g * kPanelChannels, _mm512_load_si512(bytes), 0);
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
  for (size_t v = 0; v < kVectors; ++v) {
    const size_t before = v * kLanes < channels ? v * kLanes : channels;
    const size_t exist = channels - before < kLanes ? channels - before : kLanes;
    unpack_vector(gemm, channel + before, exist, weights + v * kLanes);
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
