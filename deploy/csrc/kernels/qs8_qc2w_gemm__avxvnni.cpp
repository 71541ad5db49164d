// int8 x ternary matrix product on AVX-VNNI: 256-bit vpdpbusd of (code + 1) and x, 6 rows x 16 channels in 12
// accumulators.
#include <immintrin.h>

#include "kernels/gemm_tiles.h"
#include "kernels/qs8_qc2w_gemm.h"

namespace ti_qat {
namespace {

constexpr size_t kLanes = 8;         // channels in a vector
constexpr size_t kRegisterRows = 6;  // rows of a tile that are computed together

inline __m256i* vector_at(void* at) {
  return static_cast<__m256i*>(at);
}

inline const __m256i* vector_at(const void* at) {
  return static_cast<const __m256i*>(at);
}

// dst (group_count, kPanelChannels): the codes of a panel, each plus one
inline void unpack_panel(const Panel& panel, size_t k, uint32_t* dst) {
  const __m256i mask = _mm256_set1_epi8(3);
  const uint8_t* from = panel.words;
  for (size_t word = 0; word * kWordCodes < k; ++word, from += kPanelWordBytes, dst += 4 * kPanelChannels) {
    for (size_t c = 0; c < kPanelChannels; c += kLanes) {
      __m256i fields = _mm256_loadu_si256(vector_at(from + c * kWordBytes));
      for (size_t j = 0; j < 4; ++j, fields = _mm256_srli_epi32(fields, 2)) {
        _mm256_store_si256(vector_at(dst + j * kPanelChannels + c), _mm256_and_si256(fields, mask));
      }
    }
  }
}

// sums (kRows, 2 * kLanes) at two vectors of the channels; x (groups, kTileRows), then row sums
template <size_t kRows>
inline void accumulate_rows(const int32_t* x, const uint32_t* w, size_t groups, int32_t* result) {
  __m256i sums[kRows][2];
  for (size_t r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
  for (size_t g = 0; g < groups; ++g, x += kTileRows, w += kPanelChannels) {
    const __m256i w0 = _mm256_load_si256(vector_at(w)), w1 = _mm256_load_si256(vector_at(w + kLanes));
#pragma GCC unroll 6
    for (size_t r = 0; r < kRows; ++r) {
      const __m256i x_group = _mm256_set1_epi32(x[r]);
      sums[r][0] = _mm256_dpbusd_avx_epi32(sums[r][0], w0, x_group);
      sums[r][1] = _mm256_dpbusd_avx_epi32(sums[r][1], w1, x_group);
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    const __m256i row_sum = _mm256_set1_epi32(x[r]);
    for (size_t v = 0; v < 2; ++v) {
      _mm256_store_si256(vector_at(result + r * kPanelChannels + v * kLanes), _mm256_sub_epi32(sums[r][v], row_sum));
    }
  }
}

inline void accumulate(const int32_t* x, const uint32_t* w, size_t groups, size_t rows, int32_t* sums) {
  for (size_t c = 0; c < kPanelChannels; c += 2 * kLanes) {
    if (rows <= 2) {
      accumulate_rows<2>(x, w + c, groups, sums + c);
      continue;
    }
    for (size_t r = 0; r < rows; r += kRegisterRows) {
      accumulate_rows<kRegisterRows>(x + r, w + c, groups, sums + r * kPanelChannels + c);
    }
  }
}

void multiply(const TernaryGemm& gemm, const GemmPlan&, const void* workspace, size_t task) {
  multiply_tiles(gemm, workspace, task, unpack_panel, accumulate);
}

}  // namespace

extern const GemmKernel qs8_qc2w_gemm__avxvnni = {plan_tiles, prepare_tile, multiply};

}  // namespace ti_qat
