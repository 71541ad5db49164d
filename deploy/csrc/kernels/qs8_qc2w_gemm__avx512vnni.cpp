// int8 x ternary matrix product on AVX-512 VNNI: vpdpbusd of (code + 1) and x, 12 rows x 32 channels
// in 24 accumulators.
#include <immintrin.h>

#include "kernels/gemm_tiles.h"
#include "kernels/scratch.h"

namespace ti_qat {
namespace {

constexpr size_t kVectors = 2;  // 16-channel vectors of a panel
constexpr size_t kLanes = 16;

// 16 bytes each of rows 0, 4, 8 and 12
inline __m512i load_rows(const uint8_t* rows, size_t stride) {
  const auto load = [rows, stride](size_t r) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + r * stride));
  };
  const __m512i low = _mm512_inserti32x4(_mm512_castsi128_si512(load(0)), load(4), 1);
  return _mm512_inserti32x4(_mm512_inserti32x4(low, load(8), 2), load(12), 3);
}

// dst (4 * words, kPanelChannels), 16 columns: the codes of 16 rows, of which 16 bytes can be read
inline void unpack_block(const uint8_t* rows, size_t stride, size_t words, uint32_t* dst) {
  const __m512i a = load_rows(rows, stride), b = load_rows(rows + stride, stride);
  const __m512i c = load_rows(rows + 2 * stride, stride), d = load_rows(rows + 3 * stride, stride);
  const __m512i ab_low = _mm512_unpacklo_epi32(a, b), ab_high = _mm512_unpackhi_epi32(a, b);
  const __m512i cd_low = _mm512_unpacklo_epi32(c, d), cd_high = _mm512_unpackhi_epi32(c, d);
  // column j: bytes 4 j to 4 j + 3 of all 16 rows, in order
  const __m512i columns[4] = {_mm512_unpacklo_epi64(ab_low, cd_low), _mm512_unpackhi_epi64(ab_low, cd_low),
                              _mm512_unpacklo_epi64(ab_high, cd_high), _mm512_unpackhi_epi64(ab_high, cd_high)};
  const __m512i mask = _mm512_set1_epi32(0x03030303);
  for (size_t word = 0; word < words; ++word) {
    for (unsigned j = 0; j < 4; ++j, dst += kPanelChannels) {
      _mm512_store_si512(dst, _mm512_and_si512(_mm512_srli_epi32(columns[word], 2 * j), mask));
    }
  }
}

// sums (kTileRows, kPanelChannels) = x (groups, kTileRows) . w (groups, kPanelChannels) - row_sums (kTileRows)
inline void accumulate(const int32_t* x, const uint32_t* w, size_t groups, const int32_t* row_sums, int32_t* result) {
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
  for (size_t r = 0; r < kTileRows; ++r) {
    const __m512i row_sum = _mm512_set1_epi32(row_sums[r]);
    _mm512_store_si512(result + r * kPanelChannels, _mm512_sub_epi32(sums[r][0], row_sum));
    _mm512_store_si512(result + r * kPanelChannels + kLanes, _mm512_sub_epi32(sums[r][1], row_sum));
  }
}

void multiply(const TernaryGemm& gemm, const GemmPlan&, const void* workspace, size_t task) {
  const size_t groups = group_count(gemm.k);
  const TileRange range = tiles_of_task(gemm, task);
  const Panel panel = panel_at(gemm, range.panel);
  const PanelScales scales = scales_of(panel);
  const Scratch scratch(ceil_div(groups, kBlockBytes) * kBlockBytes * kPanelChannels * sizeof(uint32_t));
  uint32_t* weights = static_cast<uint32_t*>(scratch.data());
  for (size_t c = 0; c < kPanelChannels; c += kLanes) {
    unpack_vector<kLanes>(panel, gemm.k, c, weights, unpack_block);
  }
  alignas(64) int32_t sums[kTileRows * kPanelChannels];
  for (size_t tile = range.begin; tile < range.end; ++tile) {
    const int32_t* x =
        reinterpret_cast<const int32_t*>(static_cast<const char*>(workspace) + tile * tile_bytes(gemm.k));
    accumulate(x, weights, groups, x + groups * kTileRows, sums);
    for (size_t r = 0; r < kTileRows && tile * kTileRows + r < gemm.m; ++r) {
      finish_row(gemm, panel, scales, tile * kTileRows + r, sums + r * kPanelChannels);
    }
  }
}

}  // namespace

extern const GemmKernel qs8_qc2w_gemm__avx512vnni = {plan_tiles, prepare_tile, multiply};

}  // namespace ti_qat
