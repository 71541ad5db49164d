// int8 x ternary matrix product on AVX2: unpacked in registers for a few rows, by vector look-up for more.
#include "kernels/few_rows__avx2.h"
#include "kernels/lookup__avx2.h"
#include "kernels/qs8_qc2w_gemm.h"

namespace ti_qat {
namespace {

// Rows of a tile: as many as fit the lanes at best, but no more than leave every thread a tile.
size_t rows_of_tile(size_t m, size_t threads) {
  size_t vectors = kMaxVectors;
  while (vectors > 2 && ceil_div(m, vectors * kVectorRows) < threads) vectors /= 2;
  const size_t needed = ceil_div(m, kVectorRows);
  return (needed < vectors ? needed : vectors) * kVectorRows;
}

// A tile of x in the workspace of a look-up.
size_t tile_elements(size_t k, size_t tile_rows) {
  return pass_count(k) * kWordCodes * tile_rows;
}

// Into how many shares the channels of a tile are cut. Every share builds the tile's tables again, so there are only as
// many as it takes to keep all threads at work.
size_t shares_of_tile(size_t tiles, size_t threads) {
  if (tiles >= 3 * threads) return 1;
  size_t shares = 1;
  while (shares < threads && tiles * shares % threads != 0) ++shares;
  return shares;
}

GemmPlan plan(const TernaryGemm& gemm, size_t threads) {
  GemmPlan plan = {};
  const size_t panels = panel_count(gemm);
  if (gemm.m <= kFewRows) {
    plan.workspace_bytes = group_rows_bytes(gemm.k);
    plan.prepare_tasks = 1;
    plan.panels_per_task = ceil_div(panels, 4 * threads);
    plan.multiply_tasks = ceil_div(panels, plan.panels_per_task);
    return plan;
  }
  plan.rows_per_tile = rows_of_tile(gemm.m, threads);
  const size_t tiles = ceil_div(gemm.m, plan.rows_per_tile);
  plan.workspace_bytes = tiles * tile_elements(gemm.k, plan.rows_per_tile) * sizeof(int16_t);
  plan.prepare_tasks = tiles;
  plan.panels_per_task = ceil_div(panels, shares_of_tile(tiles, threads));
  plan.multiply_tasks = tiles * ceil_div(panels, plan.panels_per_task);
  return plan;
}

void prepare(const TernaryGemm& gemm, const GemmPlan& plan, void* workspace, size_t task) {
  if (gemm.m <= kFewRows) return group_rows(gemm, static_cast<int32_t*>(workspace));
  const size_t elements = tile_elements(gemm.k, plan.rows_per_tile);
  transpose_tile(gemm, task, plan.rows_per_tile, static_cast<int16_t*>(workspace) + task * elements);
}

void multiply(const TernaryGemm& gemm, const GemmPlan& plan, const void* workspace, size_t task) {
  const size_t panels = panel_count(gemm), shares = ceil_div(panels, plan.panels_per_task);
  const size_t begin = task % shares * plan.panels_per_task;
  const size_t end = begin + plan.panels_per_task < panels ? begin + plan.panels_per_task : panels;
  if (gemm.m <= kFewRows) {
    for (size_t i = begin; i < end; ++i) multiply_few_rows(gemm, static_cast<const int32_t*>(workspace), i);
    return;
  }
  const size_t tile = task / shares, first_row = tile * plan.rows_per_tile, left = gemm.m - first_row;
  const size_t rows = left < plan.rows_per_tile ? left : plan.rows_per_tile;
  const int16_t* x = static_cast<const int16_t*>(workspace) + tile * tile_elements(gemm.k, plan.rows_per_tile);
  kMultiplyTile[ceil_div(rows, kVectorRows) - 1](gemm, first_row, rows, begin, end, x, plan.rows_per_tile);
}

}  // namespace

extern const GemmKernel qs8_qc2w_gemm__avx2 = {plan, prepare, multiply};

}  // namespace ti_qat
