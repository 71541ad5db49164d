// Packing shared by the vector kernels of qs8_qc2w_gemm. A tile of x holds, for every group of four k,
// the 12 rows' groups side by side; a panel of w holds the 32 channels' groups side by side, as code + 1
// in {0, 1, 2}. The product of unsigned (code + 1) and signed x exceeds the wanted sum by the row sum
// of x, which the tile therefore carries. Included only by the units compiled per instruction set.
#pragma once

#include <cstring>

#include "kernels/qs8_qc2w_gemm.h"

namespace ti_qat {
namespace {

constexpr size_t kGroup = 4;  // values of k in one 32-bit lane

inline size_t group_count(size_t k) {
  return (k + kGroup - 1) / kGroup;
}

// A tile: groups (group_count, kTileRows) of four int8, then kTileRows int32 row sums.
inline size_t tile_bytes(size_t k) {
  return (group_count(k) + 1) * kTileRows * sizeof(int32_t);
}

inline size_t packed_bytes(size_t tiles, size_t k) {
  return tiles * tile_bytes(k);
}

inline void pack_row(const int8_t* x, size_t k, int32_t* groups, int32_t* row_sum) {
  const size_t whole = k / kGroup;
  for (size_t g = 0; g < whole; ++g) std::memcpy(groups + g * kTileRows, x + g * kGroup, kGroup);
  if (whole * kGroup < k) {
    groups[whole * kTileRows] = 0;
    std::memcpy(groups + whole * kTileRows, x + whole * kGroup, k - whole * kGroup);
  }
  int32_t sum = 0;
  for (size_t i = 0; i < k; ++i) sum += x[i];
  *row_sum = sum;
}

void pack(const TernaryGemm& gemm, void* packed, size_t begin, size_t end) {
  const size_t groups = group_count(gemm.k);
  for (size_t tile = begin; tile < end; ++tile) {
    int32_t* dst = reinterpret_cast<int32_t*>(static_cast<char*>(packed) + tile * tile_bytes(gemm.k));
    for (size_t r = 0; r < kTileRows; ++r) {
      const size_t row = tile * kTileRows + r;
      if (row < gemm.m) {
        pack_row(gemm.x + row * gemm.k, gemm.k, dst + r, dst + groups * kTileRows + r);
      } else {
        for (size_t g = 0; g <= groups; ++g) dst[g * kTileRows + r] = 0;
      }
    }
  }
}

constexpr size_t kBlockGroups = 16;  // packed bytes of a row that are unpacked at once

// dst (group_count, kPanelChannels), first kChannels columns: the channels [channel, channel + kChannels), of which
// `exist` exist. `unpack(rows, stride, groups, dst)` reads kBlockGroups bytes of kChannels rows.
template <size_t kChannels, typename Unpack>
inline void unpack_vector(const TernaryGemm& gemm, size_t channel, size_t exist, uint32_t* dst, Unpack unpack) {
  const size_t groups = group_count(gemm.k);
  const uint8_t* rows = gemm.w + channel * groups;
  size_t g = 0;
  if (exist >= kChannels) {
    for (; g + kBlockGroups <= groups; g += kBlockGroups) {
      unpack(rows + g, groups, kBlockGroups, dst + g * kPanelChannels);
    }
  }
  // Where a whole block would read past a row or past the last channel, a copy stands in.
  const size_t copied = exist < kChannels ? exist : kChannels;
  for (; g < groups; g += kBlockGroups) {
    const size_t left = groups - g < kBlockGroups ? groups - g : kBlockGroups;
    uint8_t block[kChannels * kBlockGroups] = {};
    for (size_t c = 0; c < copied; ++c) std::memcpy(block + c * kBlockGroups, rows + c * groups + g, left);
    unpack(block, kBlockGroups, left, dst + g * kPanelChannels);
  }
}

// Scales and bias of one panel, padded so that whole vectors can be read.
struct PanelEpilogue {
  alignas(64) float w_scale[kPanelChannels];
  alignas(64) float bias[kPanelChannels];
};

inline PanelEpilogue panel_epilogue(const TernaryGemm& gemm, size_t channel, size_t channels) {
  PanelEpilogue panel = {};
  for (size_t c = 0; c < channels; ++c) {
    panel.w_scale[c] = w_scale_of(gemm, channel + c);
    panel.bias[c] = gemm.bias[channel + c];
  }
  return panel;
}

}  // namespace
}  // namespace ti_qat
