// Panels of output channels: the unit in which every kernel of qs8_qc2w_gemm walks the weights, and what happens to
// their sums. Included only by the translation units that are compiled per instruction set.
#pragma once

#include <cstring>

#include "kernels/kernels.h"
#include "kernels/numerics.h"
#include "kernels/quantize_kernels.h"

namespace ti_qat {
namespace {

inline size_t ceil_div(size_t a, size_t b) {
  return (a + b - 1) / b;
}

// Channels [channel, channel + channels) of a part; no panel reaches into the next part.
struct Panel {
  const TernaryPart* part;
  size_t channel, channels;
  const uint8_t* words;  // (ceil(k / 16), kPanelChannels, kWordBytes)
};

constexpr size_t kPanelWordBytes = kPanelChannels * kWordBytes;  // of 16 codes of every channel

inline size_t panel_count(const TernaryGemm& gemm) {
  size_t count = 0;
  for (size_t p = 0; p < gemm.part_count; ++p) count += ceil_div(gemm.parts[p].n, kPanelChannels);
  return count;
}

inline Panel panel_at(const TernaryGemm& gemm, size_t index) {
  size_t p = 0;
  for (; index >= ceil_div(gemm.parts[p].n, kPanelChannels); ++p) index -= ceil_div(gemm.parts[p].n, kPanelChannels);
  const size_t channel = index * kPanelChannels, left = gemm.parts[p].n - channel;
  const uint8_t* words = gemm.parts[p].w + index * ceil_div(gemm.k, kWordCodes) * kPanelWordBytes;
  return {&gemm.parts[p], channel, left < kPanelChannels ? left : kPanelChannels, words};
}

// Scales and bias of one panel, padded so that whole vectors can be read.
struct PanelScales {
  alignas(64) float w_scale[kPanelChannels];
  alignas(64) float bias[kPanelChannels];
};

inline PanelScales scales_of(const Panel& panel) {
  PanelScales scales = {};
  for (size_t c = 0; c < panel.channels; ++c) {
    scales.w_scale[c] = panel.part->w_scale[panel.part->w_scale_shared ? 0 : panel.channel + c];
    scales.bias[c] = panel.part->bias[panel.channel + c];
  }
  return scales;
}

template <typename Value>
inline void copy_channels(const Value* from, size_t channels, Value* to) {
  if (channels == kPanelChannels) {
    std::memcpy(to, from, kPanelChannels * sizeof(Value));  // of constant size: a few vector moves
  } else {
    std::memcpy(to, from, channels * sizeof(Value));
  }
}

// Stores the results of one row of one panel; sums (kPanelChannels), aligned to 64 bytes
inline void finish_row(const TernaryGemm& gemm, const Panel& panel, const PanelScales& scales, size_t row,
                       const int32_t* __restrict sums) {
  const TernaryPart& part = *panel.part;
  const float x_scale = gemm.x_scale[gemm.x_scale_shared ? 0 : row];
  const size_t at = row * part.n + panel.channel;
  alignas(64) float y[kPanelChannels];
  for (size_t c = 0; c < kPanelChannels; ++c) {
    y[c] = static_cast<float>(sums[c]) * (x_scale * scales.w_scale[c]) + scales.bias[c];
  }
  if (part.gelu) {
    for (size_t c = 0; c < kPanelChannels; ++c) y[c] = gelu(y[c]);
  }
  if (part.codes == nullptr) return copy_channels(y, panel.channels, part.y + at);
  alignas(64) int8_t codes[kPanelChannels];
  quantize_all(y, kPanelChannels, part.code_scale, codes);
  copy_channels(codes, panel.channels, part.codes + at);
}

}  // namespace
}  // namespace ti_qat
