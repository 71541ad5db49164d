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

// Packed weights lie in panels of 32 output channels: (ceil(n / 32), ceil(k / 16), 32, 4) bytes, so that 16 codes of a
// channel fill a 32-bit lane and a panel is read from front to back. A byte holds four codes, code + 1 in two bits
// each, low bits first; channels and codes that do not exist are code 0.
constexpr size_t kPanelChannels = 32;
constexpr size_t kWordCodes = 16;
constexpr size_t kWordBytes = 4;

// The output channels of one weight, and what becomes of them:
// y[m, n] = float32(sum_k x[m, k] * code(w[n, k])) * (x_scale[m] * w_scale[n]) + bias[n], then GELU if `gelu`,
// then stored in `y`, or as int8 codes under the scale `code_scale` in `codes`; the other of the two is null.
struct TernaryPart {
  size_t n;
  const uint8_t* w;      // panels
  const float* w_scale;  // (n) or, shared, (1)
  bool w_scale_shared;
  const float* bias;  // (n)
  bool gelu;
  float* y;       // (m, n)
  int8_t* codes;  // (m, n)
  float code_scale;
};

constexpr size_t kMaxParts = 3;  // query, key and value

// Products of one x with the weights of one or more parts.
struct TernaryGemm {
  size_t m, k;
  const int8_t* x;       // (m, k)
  const float* x_scale;  // (m) or, shared, (1)
  bool x_scale_shared;
  size_t part_count;
  TernaryPart parts[kMaxParts];
};

// How a product is cut into tasks: first all of `prepare`, which fills the workspace, then all of `multiply`.
struct GemmPlan {
  size_t workspace_bytes;
  size_t prepare_tasks;
  size_t multiply_tasks;
  size_t rows_per_tile;    // rows of x that one multiply task computes, where the kernel cuts them as the plan says
  size_t panels_per_task;  // panels of channels that one multiply task computes
};

struct GemmKernel {
  // `threads` says how many tasks run at once; it changes the cut and no result.
  GemmPlan (*plan)(const TernaryGemm& gemm, size_t threads);
  void (*prepare)(const TernaryGemm& gemm, const GemmPlan& plan, void* workspace, size_t task);
  void (*multiply)(const TernaryGemm& gemm, const GemmPlan& plan, const void* workspace, size_t task);
};

// One head of one sequence: `queries` of its `tokens` ask. Rows of query, key, value and of the result lie `stride`
// elements apart.
struct AttentionHead {
  size_t queries, tokens, head_size, stride;
  float scale;
};

// What becomes of a head's context: float32 in `y`, or codes under `code_scale` in `codes`; the other is null.
struct AttentionResult {
  float* y;  // (queries, stride)
  int8_t* codes;
  float code_scale;
};

struct KernelTable {
  const GemmKernel* ternary_gemm;
  void (*quantize)(const float* x, size_t count, float scale, int8_t* codes);
  void (*quantize_per_token)(const float* x, size_t rows, size_t width, int8_t* codes, float* scales);
  // out (queries, tokens) = (query . key^T) * scale; query (queries, stride), key (tokens, stride)
  void (*attention_scores)(const AttentionHead& head, const int8_t* query, const int8_t* key, float* out);
  // out (queries, stride) = (probabilities . value) * scale; probabilities (queries, tokens), value (tokens, stride)
  void (*attention_context)(const AttentionHead& head, const int8_t* probabilities, const int8_t* value, float* out);
  // Scores, softmax over all tokens, codes under `probabilities_scale`, and context of one head. head.scale is that of
  // the scores, `context_scale` that of the context; query (queries, stride), key, value (tokens, stride)
  void (*attention)(const AttentionHead& head, const int8_t* query, const int8_t* key, const int8_t* value,
                    float probabilities_scale, float context_scale, const AttentionResult& result);
  // x, y (rows, width); keys from `length` on get probability 0
  void (*softmax)(const float* x, size_t rows, size_t width, size_t length, float* y);
  void (*layer_norm)(const float* x, size_t rows, size_t width, const float* gamma, const float* beta, float epsilon,
                     float* y);
  // y (width) = layer_norm(x + residual), of one row
  void (*add_layer_norm)(const float* x, const float* residual, size_t width, const float* gamma, const float* beta,
                         float epsilon, float* y);
  void (*gelu)(const float* x, size_t count, float* y);
  void (*tanh)(const float* x, size_t count, float* y);
  // out (width) = (code * scale + type) + position, of one token; w (ceil(width / 4)): bytes of four codes
  void (*embed)(const uint8_t* w, float scale, const float* type, const float* position, size_t width, float* out);
  // out (labels) = weight (labels, width) . x (width) + bias
  void (*classify)(const float* x, const float* weight, const float* bias, size_t labels, size_t width, float* out);
  // Multiplies int8 codes on registers for `rounds` rounds; returns the number of multiply-accumulates
  uint64_t (*int8_dots)(uint64_t rounds);
};

extern const KernelTable kernels__scalar;
#if defined(TI_QAT_X86)
extern const KernelTable kernels__sse41;
extern const KernelTable kernels__avx2;
extern const KernelTable kernels__avxvnni;
extern const KernelTable kernels__avx512vnni;
#elif defined(TI_QAT_AARCH64)
extern const KernelTable kernels__neon;
extern const KernelTable kernels__neondot;
#endif

const KernelTable& kernels_of(Isa isa);

}  // namespace ti_qat
