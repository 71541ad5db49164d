// The kernels of one instruction set, behind one table. Shapes are given at each pointer; sizes are
// trusted here and checked in operators.
//
// Every table computes the same bits: fixed order of binary32 operations, no contraction to fused
// multiply-add, no library transcendental (docs/numerics.md).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/isa.h"

namespace ti_qat {

// y[m, n] = float32(sum_k x[m, k] * code(w[n, k])) * (x_scale[m] * w_scale[n]) + bias[n]
struct TernaryGemm {
  size_t m, k, n;
  const int8_t* x;       // (m, k)
  const uint8_t* w;      // (n, ceil(k / 4)): code + 1 in two bits, low bits first
  const float* x_scale;  // (m) or, shared, (1)
  const float* w_scale;  // (n) or, shared, (1)
  bool x_scale_shared, w_scale_shared;
  const float* bias;  // (n)
  float* y;           // (m, n)
};

constexpr size_t kTileRows = 12;       // rows of x that are packed together
constexpr size_t kPanelChannels = 32;  // channels of w that are unpacked together

struct GemmKernel {
  // Bytes of `tiles` packed tiles of kTileRows rows.
  size_t (*packed_bytes)(size_t tiles, size_t k);
  // Packs rows [tile * kTileRows, ...) of x for the tiles [begin, end).
  void (*pack)(const TernaryGemm& gemm, void* packed, size_t begin, size_t end);
  // Computes the channels [panel * kPanelChannels, ...) of the tiles [begin, end).
  void (*multiply)(const TernaryGemm& gemm, const void* packed, size_t panel, size_t begin, size_t end);
};

// One head of attention. Row strides are in elements; rows of a head lie `stride` apart.
struct AttentionHead {
  size_t tokens, head_size, stride;
  float scale;
};

struct KernelTable {
  const GemmKernel* ternary_gemm;
  void (*quantize)(const float* x, size_t count, float scale, int8_t* codes);
  void (*quantize_per_token)(const float* x, size_t rows, size_t width, int8_t* codes, float* scales);
  // out (tokens, tokens) = (query . key^T) * scale; query, key (tokens, stride)
  void (*attention_scores)(const AttentionHead& head, const int8_t* query, const int8_t* key, float* out);
  // out (tokens, stride) = (probabilities . value) * scale; probabilities (tokens, tokens), value (tokens, stride)
  void (*attention_context)(const AttentionHead& head, const int8_t* probabilities, const int8_t* value, float* out);
  // x, y (rows, width); keys from `length` on get probability 0
  void (*softmax)(const float* x, size_t rows, size_t width, size_t length, float* y);
  void (*layer_norm)(const float* x, size_t rows, size_t width, const float* gamma, const float* beta, float epsilon,
                     float* y);
  void (*gelu)(const float* x, size_t count, float* y);
  void (*tanh)(const float* x, size_t count, float* y);
  // out (width) = (code * scale + type) + position, of one token; w (ceil(width / 4)) as in TernaryGemm
  void (*embed)(const uint8_t* w, float scale, const float* type, const float* position, size_t width, float* out);
  // out (labels) = weight (labels, width) . x (width) + bias
  void (*classify)(const float* x, const float* weight, const float* bias, size_t labels, size_t width, float* out);
};

extern const KernelTable kernels__scalar;
#if defined(TI_QAT_X86)
extern const KernelTable kernels__avx2;
extern const KernelTable kernels__avx512vnni;
#endif

const KernelTable& kernels_of(Isa isa);

}  // namespace ti_qat
