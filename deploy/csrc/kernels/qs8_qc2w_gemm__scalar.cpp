// int8 x ternary matrix product in plain C++: the reference, and the kernel of any other processor.
#include <cstring>

#include "kernels/gemm_panels.h"
#include "kernels/integer_dot.h"
#include "kernels/qs8_qc2w_gemm.h"
#include "kernels/scratch.h"

namespace ti_qat {
namespace {

constexpr size_t kRowsPerTask = 64;

GemmPlan plan(const TernaryGemm& gemm, size_t) {
  GemmPlan plan = {};
  plan.workspace_bytes = gemm.m * padded_length(gemm.k) * sizeof(int16_t);
  plan.prepare_tasks = ceil_div(gemm.m, kRowsPerTask);
  plan.panels_per_task = 1;
  plan.multiply_tasks = panel_count(gemm);
  return plan;
}

void prepare(const TernaryGemm& gemm, const GemmPlan&, void* workspace, size_t task) {
  const size_t first = task * kRowsPerTask;
  const size_t rows = gemm.m - first < kRowsPerTask ? gemm.m - first : kRowsPerTask;
  int16_t* dst = static_cast<int16_t*>(workspace) + first * padded_length(gemm.k);
  widen_rows(gemm.x + first * gemm.k, rows, gemm.k, gemm.k, dst);
}

// The four codes of every packed byte.
struct ByteCodes {
  int16_t codes[256][4];

  constexpr ByteCodes() : codes() {
    for (int byte = 0; byte < 256; ++byte) {
      for (int f = 0; f < 4; ++f) codes[byte][f] = static_cast<int16_t>(((byte >> (2 * f)) & 3) - 1);
    }
  }
};

constexpr ByteCodes kByteCodes;

// dst (kPanelChannels, padded_length(k)); the tail of a row meets zeros of x
void unpack_panel(const Panel& panel, size_t k, int16_t* dst) {
  const size_t words = ceil_div(k, kWordCodes), padded = padded_length(k);
  for (size_t c = 0; c < kPanelChannels; ++c, dst += padded) {
    for (size_t i = words * kWordCodes; i < padded; ++i) dst[i] = 0;
    for (size_t word = 0; word < words; ++word) {
      const uint8_t* bytes = panel.words + word * kPanelWordBytes + c * kWordBytes;
      for (size_t b = 0; b < kWordBytes; ++b) {
        std::memcpy(dst + word * kWordCodes + 4 * b, kByteCodes.codes[bytes[b]], sizeof kByteCodes.codes[0]);
      }
    }
  }
}

void multiply(const TernaryGemm& gemm, const GemmPlan&, const void* workspace, size_t task) {
  const size_t padded = padded_length(gemm.k);
  const Panel panel = panel_at(gemm, task);
  const PanelScales scales = scales_of(panel);
  const Scratch scratch(kPanelChannels * padded * sizeof(int16_t));
  int16_t* weights = static_cast<int16_t*>(scratch.data());
  unpack_panel(panel, gemm.k, weights);
  const int16_t* x = static_cast<const int16_t*>(workspace);
  for (size_t row = 0; row < gemm.m; ++row) {
    alignas(64) int32_t sums[kPanelChannels];
    dot_all(x + row * padded, weights, kPanelChannels, padded, sums);
    finish_row(gemm, panel, scales, row, sums);
  }
}

}  // namespace

extern const GemmKernel qs8_qc2w_gemm__scalar = {plan, prepare, multiply};

}  // namespace ti_qat
