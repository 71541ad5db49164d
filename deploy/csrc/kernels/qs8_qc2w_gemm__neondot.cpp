// int8 x ternary matrix product on NEON with dot products: sdot of (code + 1) and x by element, 12 rows x 8 channels in
// 24 accumulators.
#include <arm_neon.h>

#include "kernels/gemm_tiles.h"
#include "kernels/qs8_qc2w_gemm.h"

namespace ti_qat {
namespace {

constexpr size_t kLanes = 4;       // channels in a vector
constexpr size_t kVectorRows = 4;  // rows whose groups fill a vector

// dst (group_count, kPanelChannels): the codes of a panel, each plus one
inline void unpack_panel(const Panel& panel, size_t k, uint32_t* dst) {
  const uint32x4_t mask = vdupq_n_u32(0x03030303);
  const uint8_t* from = panel.words;
  for (size_t word = 0; word * kWordCodes < k; ++word, from += kPanelWordBytes, dst += 4 * kPanelChannels) {
    for (size_t c = 0; c < kPanelChannels; c += kLanes) {
      uint32x4_t fields = vreinterpretq_u32_u8(vld1q_u8(from + c * kWordBytes));
      for (size_t j = 0; j < 4; ++j, fields = vshrq_n_u32(fields, 2)) {
        vst1q_u32(dst + j * kPanelChannels + c, vandq_u32(fields, mask));
      }
    }
  }
}

// sums (4 * kVectors, 2 * kLanes) at two vectors of the channels; x (groups, kTileRows), then row sums
template <size_t kVectors>
inline void accumulate_rows(const int32_t* x, const uint32_t* w, size_t groups, int32_t* result) {
  int32x4_t sums[kVectors][kVectorRows][2];
  for (size_t v = 0; v < kVectors; ++v) {
    for (size_t r = 0; r < kVectorRows; ++r) sums[v][r][0] = sums[v][r][1] = vdupq_n_s32(0);
  }
  for (size_t g = 0; g < groups; ++g, x += kTileRows, w += kPanelChannels) {
    const int8x16_t w0 = vreinterpretq_s8_u32(vld1q_u32(w)), w1 = vreinterpretq_s8_u32(vld1q_u32(w + kLanes));
#pragma GCC unroll 3
    for (size_t v = 0; v < kVectors; ++v) {
      const int8x16_t rows = vreinterpretq_s8_s32(vld1q_s32(x + v * kVectorRows));
      sums[v][0][0] = vdotq_laneq_s32(sums[v][0][0], w0, rows, 0);
      sums[v][0][1] = vdotq_laneq_s32(sums[v][0][1], w1, rows, 0);
      sums[v][1][0] = vdotq_laneq_s32(sums[v][1][0], w0, rows, 1);
      sums[v][1][1] = vdotq_laneq_s32(sums[v][1][1], w1, rows, 1);
      sums[v][2][0] = vdotq_laneq_s32(sums[v][2][0], w0, rows, 2);
      sums[v][2][1] = vdotq_laneq_s32(sums[v][2][1], w1, rows, 2);
      sums[v][3][0] = vdotq_laneq_s32(sums[v][3][0], w0, rows, 3);
      sums[v][3][1] = vdotq_laneq_s32(sums[v][3][1], w1, rows, 3);
    }
  }
  for (size_t v = 0; v < kVectors; ++v) {
    for (size_t r = 0; r < kVectorRows; ++r) {
      const size_t row = v * kVectorRows + r;
      const int32x4_t row_sum = vdupq_n_s32(x[row]);
      vst1q_s32(result + row * kPanelChannels, vsubq_s32(sums[v][r][0], row_sum));
      vst1q_s32(result + row * kPanelChannels + kLanes, vsubq_s32(sums[v][r][1], row_sum));
    }
  }
}

inline void accumulate(const int32_t* x, const uint32_t* w, size_t groups, size_t rows, int32_t* sums) {
  for (size_t c = 0; c < kPanelChannels; c += 2 * kLanes) {
    if (rows <= kVectorRows) {
      accumulate_rows<1>(x, w + c, groups, sums + c);
    } else if (rows <= 2 * kVectorRows) {
      accumulate_rows<2>(x, w + c, groups, sums + c);
    } else {
      accumulate_rows<3>(x, w + c, groups, sums + c);
    }
  }
}

void multiply(const TernaryGemm& gemm, const GemmPlan&, const void* workspace, size_t task) {
  multiply_tiles(gemm, workspace, task, unpack_panel, accumulate);
}

}  // namespace

extern const GemmKernel qs8_qc2w_gemm__neondot = {plan_tiles, prepare_tile, multiply};

}  // namespace ti_qat
