#include "kernels/block_inputs.h"
#include "kernels/operators_attention.h"
#include "kernels/operators_blocks.h"
#include "kernels/operators_linear.h"
#include "kernels/ternary_product.h"

namespace ti_qat {
namespace {

struct AttentionInputs {
  const Operand *x, *input_scale;
  LinearOperands projections[3];  // query, key, value
  const Operand* projection_scales[3];
  const Operand *lengths, *probabilities_scale, *output_input_scale;
  LinearOperands output;
  NormOperands norm;

  AttentionInputs(const Request& request, bool per_token) {
    InputReader in(request);
    x = in.one();
    input_scale = in.one_if(!per_token);
    for (size_t i = 0; i < 3; ++i) {
      projections[i] = in.linear();
      projection_scales[i] = in.one();
    }
    lengths = in.one();
    probabilities_scale = in.one();
    output_input_scale = in.one_if(!per_token);
    output = in.linear();
    norm = in.norm();
  }
};

void prepare_attention_inputs(const Request& request, bool per_token, Output* outputs) {
  const AttentionInputs in(request, per_token);
  expect_tokens(*in.x, *in.lengths);
  const int64_t hidden = in.x->shape.back();
  expect_heads("x", in.x->shape, request.heads);
  expect_linear_width("x", in.x->shape);
  constexpr const char* kNames[3] = {"query", "key", "value"};
  constexpr const char* kScales[3] = {"query_scale", "key_scale", "value_scale"};
  for (size_t i = 0; i < 3; ++i) {
    in.projections[i].expect(kNames[i], hidden, hidden);
    expect_shared_scale(kScales[i], *in.projection_scales[i]);
  }
  in.output.expect("output", hidden, hidden);
  in.norm.expect(hidden);
  expect_scale_if_present("input_scale", in.input_scale);
  expect_scale_if_present("output_input_scale", in.output_input_scale);
  expect_shared_scale("probabilities_scale", *in.probabilities_scale);
  outputs[0].shape = in.x->shape;
}

// Query, key and value codes (tokens, hidden), one after the other.
void project(const AttentionInputs& in, const QuantizedTokens& x, int8_t* codes, const KernelTable& kernels,
             const Parallel& parallel) {
  TernaryGemm gemm = x.gemm();
  gemm.part_count = 3;
  for (size_t i = 0; i < 3; ++i) {
    gemm.parts[i] = in.projections[i].part();
    gemm.parts[i].codes = codes + i * gemm.m * gemm.k;
    gemm.parts[i].code_scale = in.projection_scales[i]->floats()[0];
  }
  ternary_product(gemm, kernels, parallel);
}

// The context of every head of every sequence; codes: query, key, value (tokens, hidden)
void attend(const AttentionInputs& in, size_t heads, const ValidTokens& tokens, const int8_t* codes,
            const AttentionResult& result, const KernelTable& kernels, const Parallel& parallel) {
  const size_t hidden = static_cast<size_t>(in.x->shape.back()), head_size = hidden / heads;
  const float probabilities_scale = in.probabilities_scale->floats()[0];
  const float scores_scale =
      scores_scale_of(in.projection_scales[0]->floats()[0], in.projection_scales[1]->floats()[0], head_size);
  const float context_scale = probabilities_scale * in.projection_scales[2]->floats()[0];
  const size_t part = tokens.count() * hidden, sequences = tokens.begin.size() - 1;
  // A head of a short sequence is no work for a thread of its own.
  constexpr size_t kElementsPerTask = size_t{1} << 16;
  const size_t longest = static_cast<size_t>(in.x->shape.dims[1]);
  const size_t heads_per_task = kElementsPerTask / (longest * longest * 2 + longest * head_size) + 1;
  parallel.for_ranges(sequences * heads, heads_per_task, [&](size_t begin, size_t end) {
    for (size_t index = begin; index < end; ++index) {
      const size_t first = tokens.begin[index / heads];
      const AttentionHead head = {tokens.begin[index / heads + 1] - first, head_size, hidden, scores_scale};
      const size_t at = first * hidden + index % heads * head_size;
      const AttentionResult to = {result.y == nullptr ? nullptr : result.y + at,
                                  result.codes == nullptr ? nullptr : result.codes + at, result.code_scale};
      kernels.attention(head, codes + at, codes + part + at, codes + 2 * part + at, probabilities_scale, context_scale,
                        to);
    }
  });
}

void run_attention_inputs(const Request& request, bool per_token, Output* outputs, const KernelTable& kernels,
                          const Parallel& parallel) {
  const AttentionInputs in(request, per_token);
  const ValidTokens tokens(*in.lengths, in.x->shape);
  const size_t hidden = static_cast<size_t>(in.x->shape.back()), elements = tokens.count() * hidden;
  const size_t heads = static_cast<size_t>(request.heads);
  const Scratch codes(3 * elements), summed(elements * sizeof(float));
  {
    QuantizedTokens x(tokens.count(), hidden, floats_or_null(in.input_scale));
    x.fill([&](size_t t) { return in.x->floats() + tokens.padded[t] * hidden; }, kernels, parallel);
    project(in, x, static_cast<int8_t*>(codes.data()), kernels, parallel);
  }
  QuantizedTokens context(tokens.count(), hidden, floats_or_null(in.output_input_scale));
  float* sums = static_cast<float*>(summed.data());
  const AttentionResult result = per_token
                                     ? AttentionResult{sums, nullptr, 1.0f}
                                     : AttentionResult{nullptr, context.codes(), *in.output_input_scale->floats()};
  attend(in, heads, tokens, static_cast<const int8_t*>(codes.data()), result, kernels, parallel);
  if (per_token) context.fill([&](size_t t) { return sums + t * hidden; }, kernels, parallel);
  TernaryGemm gemm = context.gemm();
  gemm.part_count = 1;
  gemm.parts[0] = in.output.part();
  gemm.parts[0].y = sums;
  ternary_product(gemm, kernels, parallel);
  add_norm_scatter(sums, *in.x, tokens, in.norm, static_cast<float*>(outputs[0].data), kernels, parallel);
}

}  // namespace

void prepare_attention_block(const Request& request, Output* outputs) {
  prepare_attention_inputs(request, false, outputs);
}

void run_attention_block(const Request& request, Output* outputs, const KernelTable& kernels,
                         const Parallel& parallel) {
  run_attention_inputs(request, false, outputs, kernels, parallel);
}

void prepare_attention_block_per_token(const Request& request, Output* outputs) {
  prepare_attention_inputs(request, true, outputs);
}

void run_attention_block_per_token(const Request& request, Output* outputs, const KernelTable& kernels,
                                   const Parallel& parallel) {
  run_attention_inputs(request, true, outputs, kernels, parallel);
}

}  // namespace ti_qat
