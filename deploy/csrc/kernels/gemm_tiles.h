// Tiles for kernels with an int8 dot-product instruction: 12 rows of x times a panel of channels. A tile of x holds,
// for every group of four k, the rows' groups side by side; a panel of w holds the channels' groups side by side, as
// code + 1 in {0, 1, 2}. The product of unsigned code + 1 and signed x exceeds the wanted sum by the row sum of x,
// which the tile therefore carries. Included only by the units compiled per instruction set.
#pragma once

#include <cstring>

#include "kernels/gemm_panels.h"
#include "kernels/scratch.h"

namespace ti_qat {
namespace {

constexpr size_t kTileRows = 12;  // rows of x that are packed together
constexpr size_t kTilesPerTask = 16;

// Groups of four k in a row. k is padded to whole 32-bit lanes of packed bytes.
inline size_t group_count(size_t k) {
  return ceil_div(k, kWordCodes) * 4;
}

// A tile: groups (group_count, kTileRows) of four int8, then kTileRows int32 row sums.
inline size_t tile_bytes(size_t k) {
  return (group_count(k) + 1) * kTileRows * sizeof(int32_t);
}

GemmPlan plan_tiles(const TernaryGemm& gemm, size_t) {
  GemmPlan plan = {};
  const size_t tiles = ceil_div(gemm.m, kTileRows);
  plan.workspace_bytes = tiles * tile_bytes(gemm.k);
  plan.prepare_tasks = tiles;
  plan.panels_per_task = 1;
  plan.multiply_tasks = ceil_div(tiles, kTilesPerTask) * panel_count(gemm);
  return plan;
}

// Of every 16 values of a row, group j holds the values j, j + 4, j + 8 and j + 12: these meet the field j of the four
// bytes of a 32-bit lane, which a shift and a mask isolate.
inline void pack_row(const int8_t* x, size_t k, int32_t* groups, int32_t* row_sum) {
  int32_t sum = 0;
  for (size_t word = 0; word * kWordCodes < k; ++word) {
    int8_t values[kWordCodes] = {};
    const size_t left = k - word * kWordCodes;
    std::memcpy(values, x + word * kWordCodes, left < kWordCodes ? left : kWordCodes);
    for (size_t j = 0; j < 4; ++j) {
      const int8_t group[4] = {values[j], values[j + 4], values[j + 8], values[j + 12]};
      std::memcpy(groups + (4 * word + j) * kTileRows, group, sizeof group);
    }
    for (size_t i = 0; i < kWordCodes; ++i) sum += values[i];
  }
  *row_sum = sum;
}

void prepare_tile(const TernaryGemm& gemm, const GemmPlan&, void* workspace, size_t tile) {
  const size_t groups = group_count(gemm.k);
  int32_t* dst = reinterpret_cast<int32_t*>(static_cast<char*>(workspace) + tile * tile_bytes(gemm.k));
  for (size_t r = 0; r < kTileRows; ++r) {
    const size_t row = tile * kTileRows + r;
    if (row < gemm.m) {
      pack_row(gemm.x + row * gemm.k, gemm.k, dst + r, dst + groups * kTileRows + r);
    } else {
      for (size_t g = 0; g <= groups; ++g) dst[g * kTileRows + r] = 0;
    }
  }
}

// The tiles and the panel of one multiply task.
struct TileRange {
  size_t begin, end, panel;
};

inline TileRange tiles_of_task(const TernaryGemm& gemm, size_t task) {
  const size_t panels = panel_count(gemm), tiles = ceil_div(gemm.m, kTileRows);
  const size_t begin = task / panels * kTilesPerTask;
  return {begin, begin + kTilesPerTask < tiles ? begin + kTilesPerTask : tiles, task % panels};
}

// The tiles and the panel of one task. unpack(panel, k, w) fills w (group_count, kPanelChannels) with groups of code +
// 1; accumulate(x, w, groups, rows, sums) fills `rows` or more rows of sums (kTileRows, kPanelChannels) with x (groups,
// kTileRows) . w - row sums, which follow x.
template <typename Unpack, typename Accumulate>
inline void multiply_tiles(const TernaryGemm& gemm, const void* workspace, size_t task, Unpack unpack,
                           Accumulate accumulate) {
  const size_t groups = group_count(gemm.k);
  const TileRange range = tiles_of_task(gemm, task);
  const Panel panel = panel_at(gemm, range.panel);
  const PanelScales scales = scales_of(panel);
  const Scratch scratch(groups * kPanelChannels * sizeof(uint32_t));
  uint32_t* weights = static_cast<uint32_t*>(scratch.data());
  unpack(panel, gemm.k, weights);
  alignas(64) int32_t sums[kTileRows * kPanelChannels];
  for (size_t tile = range.begin; tile < range.end; ++tile) {
    const size_t first = tile * kTileRows;
    const size_t rows = gemm.m - first < kTileRows ? gemm.m - first : kTileRows;
    const char* x = static_cast<const char*>(workspace) + tile * tile_bytes(gemm.k);
    accumulate(reinterpret_cast<const int32_t*>(x), weights, groups, rows, sums);
    for (size_t r = 0; r < rows; ++r) finish_row(gemm, panel, scales, first + r, sums + r * kPanelChannels);
  }
}

}  // namespace
}  // namespace ti_qat
