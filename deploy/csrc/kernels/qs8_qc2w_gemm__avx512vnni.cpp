// int8 x ternary matrix product on AVX-512 VNNI: vpdpbusd of (code + 1) and x, 12 rows x 32 channels
// in 24 accumulators.
#include <immintrin.h>

#include "kernels/gemm_tiles.h"

namespace ti_qat {
namespace {

constexpr size_t kVectors = 2;  // 16-channel vectors of a panel
constexpr size_t kLanes = 16;

// dst (group_count, kPanelChannels): the codes of a panel, each plus one
inline void unpack_panel(const Panel& panel, size_t k, uint32_t* dst) {
  const __m512i mask = _mm512_set1_epi32(0x03030303);
  const uint8_t* from = panel.words;
  for (size_t word = 0; word * kWordCodes < k; ++word, from += kPanelWordBytes) {
    const __m512i fields[kVectors] = {_mm512_loadu_si512(from), _mm512_loadu_si512(from + kPanelWordBytes / 2)};
    for (unsigned j = 0; j < 4; ++j, dst += kPanelChannels) {
      _mm512_store_si512(dst, _mm512_and_si512(_mm512_srli_epi32(fields[0], 2 * j), mask));
      _mm512_store_si512(dst + kLanes, _mm512_and_si512(_mm512_srli_epi32(fields[1], 2 * j), mask));
    }
  }
}

// As multiply_tiles wants it; the rows that do not exist cost little beside the unpacking
inline void accumulate(const int32_t* x, const uint32_t* w, size_t groups, size_t, int32_t* result) {
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
    const __m512i row_sum = _mm512_set1_epi32(x[r]);
    _mm512_store_si512(result + r * kPanelChannels, _mm512_sub_epi32(sums[r][0], row_sum));
    _mm512_store_si512(result + r * kPanelChannels + kLanes, _mm512_sub_epi32(sums[r][1], row_sum));
  }
}

void multiply(const TernaryGemm& gemm, const GemmPlan&, const void* workspace, size_t task) {
  multiply_tiles(gemm, workspace, task, unpack_panel, accumulate);
}

}  // namespace

extern const GemmKernel qs8_qc2w_gemm__avx512vnni = {plan_tiles, prepare_tile, multiply};

}  // namespace ti_qat
