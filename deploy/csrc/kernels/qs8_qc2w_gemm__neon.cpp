// int8 x ternary matrix product on any NEON: smlal of codes and x into 16-bit lanes, widened by sadalp, 3 rows x 8
// channels. A product is at most 128 in magnitude, so kFlushGroups of them fit the 16-bit lanes.
#include <arm_neon.h>

#include "kernels/gemm_tiles.h"
#include "kernels/qs8_qc2w_gemm.h"

namespace ti_qat {
namespace {

constexpr size_t kLanes = 4;          // channels in a vector
constexpr size_t kRegisterRows = 3;   // rows of a tile that are computed together
constexpr size_t kFlushGroups = 128;  // 128 * 128 < 2^15

// dst (group_count, kPanelChannels): the codes of a panel, signed, which leaves no surplus to subtract
inline void unpack_panel(const Panel& panel, size_t k, uint32_t* dst) {
  const uint8x16_t mask = vdupq_n_u8(3), one = vdupq_n_u8(1);
  const uint8_t* from = panel.words;
  for (size_t word = 0; word * kWordCodes < k; ++word, from += kPanelWordBytes, dst += 4 * kPanelChannels) {
    for (size_t c = 0; c < kPanelChannels; c += kLanes) {
      uint8x16_t fields = vld1q_u8(from + c * kWordBytes);
      for (size_t j = 0; j < 4; ++j, fields = vshrq_n_u8(fields, 2)) {
        vst1q_u32(dst + j * kPanelChannels + c, vreinterpretq_u32_u8(vsubq_u8(vandq_u8(fields, mask), one)));
      }
    }
  }
}

// sums (kRows, 2 * kLanes) at two vectors of the channels; x (groups, kTileRows)
template <size_t kRows>
inline void accumulate_rows(const int32_t* x, const uint32_t* w, size_t groups, int32_t* result) {
  int32x4_t sums[kRows][4];
  for (size_t r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = sums[r][2] = sums[r][3] = vdupq_n_s32(0);
  for (size_t begin = 0; begin < groups; begin += kFlushGroups) {
    const size_t end = begin + kFlushGroups < groups ? begin + kFlushGroups : groups;
    int16x8_t products[kRows][4];  // of two channels each
    for (size_t r = 0; r < kRows; ++r) {
      products[r][0] = products[r][1] = products[r][2] = products[r][3] = vdupq_n_s16(0);
    }
    for (size_t g = begin; g < end; ++g, x += kTileRows, w += kPanelChannels) {
      const int8x16_t w0 = vreinterpretq_s8_u32(vld1q_u32(w)), w1 = vreinterpretq_s8_u32(vld1q_u32(w + kLanes));
#pragma GCC unroll 3
      for (size_t r = 0; r < kRows; ++r) {
        const int8x16_t x_group = vreinterpretq_s8_s32(vdupq_n_s32(x[r]));
        products[r][0] = vmlal_s8(products[r][0], vget_low_s8(w0), vget_low_s8(x_group));
        products[r][1] = vmlal_high_s8(products[r][1], w0, x_group);
        products[r][2] = vmlal_s8(products[r][2], vget_low_s8(w1), vget_low_s8(x_group));
        products[r][3] = vmlal_high_s8(products[r][3], w1, x_group);
      }
    }
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t i = 0; i < 4; ++i) sums[r][i] = vpadalq_s16(sums[r][i], products[r][i]);
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    vst1q_s32(result + r * kPanelChannels, vpaddq_s32(sums[r][0], sums[r][1]));
    vst1q_s32(result + r * kPanelChannels + kLanes, vpaddq_s32(sums[r][2], sums[r][3]));
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

extern const GemmKernel qs8_qc2w_gemm__neon = {plan_tiles, prepare_tile, multiply};

}  // namespace ti_qat
