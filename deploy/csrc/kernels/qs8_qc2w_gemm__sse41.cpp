// int8 x ternary matrix product on SSE4.1: pmaddubsw of (code + 1) and x, 4 rows x 8 channels. A pair sums to at most
// 2 * 2 * 128 = 512 in magnitude, so kFlushGroups of them fit the 16-bit lanes without saturation.
#include <immintrin.h>

#include "kernels/gemm_tiles.h"
#include "kernels/qs8_qc2w_gemm.h"

namespace ti_qat {
namespace {

constexpr size_t kLanes = 4;         // channels in a vector
constexpr size_t kRegisterRows = 4;  // rows of a tile that are computed together
constexpr size_t kFlushGroups = 32;  // 32 * 512 < 2^15

inline __m128i* vector_at(void* at) {
  return static_cast<__m128i*>(at);
}

inline const __m128i* vector_at(const void* at) {
  return static_cast<const __m128i*>(at);
}

// dst (group_count, kPanelChannels): the codes of a panel, each plus one
inline void unpack_panel(const Panel& panel, size_t k, uint32_t* dst) {
  const __m128i mask = _mm_set1_epi8(3);
  const uint8_t* from = panel.words;
  for (size_t word = 0; word * kWordCodes < k; ++word, from += kPanelWordBytes, dst += 4 * kPanelChannels) {
    for (size_t c = 0; c < kPanelChannels; c += kLanes) {
      __m128i fields = _mm_loadu_si128(vector_at(from + c * kWordBytes));
      for (size_t j = 0; j < 4; ++j, fields = _mm_srli_epi32(fields, 2)) {
        _mm_store_si128(vector_at(dst + j * kPanelChannels + c), _mm_and_si128(fields, mask));
      }
    }
  }
}

// sums (kRows, 2 * kLanes) at two vectors of the channels; x (groups, kTileRows), then row sums
template <size_t kRows>
inline void accumulate_rows(const int32_t* x, const uint32_t* w, size_t groups, int32_t* result) {
  const __m128i ones = _mm_set1_epi16(1);
  __m128i sums[kRows][2];
  for (size_t r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm_setzero_si128();
  for (size_t begin = 0; begin < groups; begin += kFlushGroups) {
    const size_t end = begin + kFlushGroups < groups ? begin + kFlushGroups : groups;
    __m128i pairs[kRows][2];
    for (size_t r = 0; r < kRows; ++r) pairs[r][0] = pairs[r][1] = _mm_setzero_si128();
    for (size_t g = begin; g < end; ++g, x += kTileRows, w += kPanelChannels) {
      const __m128i w0 = _mm_load_si128(vector_at(w)), w1 = _mm_load_si128(vector_at(w + kLanes));
#pragma GCC unroll 4
      for (size_t r = 0; r < kRows; ++r) {
        const __m128i x_group = _mm_set1_epi32(x[r]);
        pairs[r][0] = _mm_add_epi16(pairs[r][0], _mm_maddubs_epi16(w0, x_group));
        pairs[r][1] = _mm_add_epi16(pairs[r][1], _mm_maddubs_epi16(w1, x_group));
        // Keeps the compiler from multiplying all rows before it adds any, for which the registers do not suffice.
#if defined(__SSE4_1__)  // else emulated, and in no register
        __asm__ volatile("" : "+x"(pairs[r][0]), "+x"(pairs[r][1]));
#endif
      }
    }
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t v = 0; v < 2; ++v) sums[r][v] = _mm_add_epi32(sums[r][v], _mm_madd_epi16(pairs[r][v], ones));
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    const __m128i row_sum = _mm_set1_epi32(x[r]);
    for (size_t v = 0; v < 2; ++v) {
      _mm_store_si128(vector_at(result + r * kPanelChannels + v * kLanes), _mm_sub_epi32(sums[r][v], row_sum));
    }
  }
}

inline void accumulate(const int32_t* x, const uint32_t* w, size_t groups, size_t rows, int32_t* sums) {
  for (size_t c = 0; c < kPanelChannels; c += 2 * kLanes) {
    if (rows == 1) {
      accumulate_rows<1>(x, w + c, groups, sums + c);
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

extern const GemmKernel qs8_qc2w_gemm__sse41 = {plan_tiles, prepare_tile, multiply};

}  // namespace ti_qat
