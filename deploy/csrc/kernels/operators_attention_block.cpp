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
  const Operand *lengths, *queries, *probabilities_scale, *output_input_scale;
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
    queries = in.one();
    probabilities_scale = in.one();
    output_input_scale = in.one_if(!per_token);
    output = in.linear();
    norm = in.norm();
  }
};

void prepare_attention_inputs(const Request& request, bool per_token, Output* outputs) {
  const AttentionInputs in(request, per_token);
  expect_tokens("lengths", *in.x, *in.lengths);
  expect_tokens("queries", *in.x, *in.queries);
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

// Codes of the three projections, one after the other: query (queries, hidden), key and value (tokens, hidden).
struct Projections {
  size_t queries, tokens, hidden;
  Scratch codes;

  Projections(size_t queries_, size_t tokens_, size_t hidden_)
      : queries(queries_), tokens(tokens_), hidden(hidden_), codes((queries + 2 * tokens) * hidden) {}

  int8_t* part(size_t i) const {
    return static_cast<int8_t*>(codes.data()) + (i == 0 ? 0 : queries + (i - 1) * tokens) * hidden;
  }
};

// Computes the parts [first, last) of the projections of the tokens of x
void project(const AttentionInputs& in, const ValidTokens& tokens, size_t first, size_t last,
             const Projections& projections, const KernelTable& kernels, const Parallel& parallel) {
  const size_t hidden = projections.hidden;
  QuantizedTokens x(tokens.count(), hidden, floats_or_null(in.input_scale));
  x.fill([&](size_t t) { return in.x->floats() + tokens.padded[t] * hidden; }, kernels, parallel);
  TernaryGemm gemm = x.gemm();
  gemm.part_count = last - first;
  for (size_t i = first; i < last; ++i) {
    TernaryPart& part = gemm.parts[i - first];
    part = in.projections[i].part();
    part.codes = projections.part(i);
    part.code_scale = in.projection_scales[i]->floats()[0];
  }
  ternary_product(gemm, kernels, parallel);
}

// The context of every head of every sequence
void attend(const AttentionInputs& in, size_t heads, const ValidTokens& queries, const ValidTokens& tokens,
            const Projections& projections, const AttentionResult& result, const KernelTable& kernels,
            const Parallel& parallel) {
  const size_t hidden = projections.hidden, head_size = hidden / heads, sequences = tokens.begin.size() - 1;
  const float probabilities_scale = in.probabilities_scale->floats()[0];
  const float scores_scale =
      scores_scale_of(in.projection_scales[0]->floats()[0], in.projection_scales[1]->floats()[0], head_size);
  const float context_scale = probabilities_scale * in.projection_scales[2]->floats()[0];
  // A head of a short sequence is no work for a thread of its own.
  constexpr size_t kElementsPerTask = size_t{1} << 16;
  const size_t longest = static_cast<size_t>(in.x->shape.dims[1]);
  const size_t heads_per_task = kElementsPerTask / (longest * longest * 2 + longest * head_size) + 1;
  parallel.for_ranges(sequences * heads, heads_per_task, [&](size_t begin, size_t end) {
    for (size_t index = begin; index < end; ++index) {
      const size_t b = index / heads, column = index % heads * head_size;
      const size_t query = queries.begin[b] * hidden + column, key = tokens.begin[b] * hidden + column;
      const AttentionHead head = {queries.begin[b + 1] - queries.begin[b], tokens.begin[b + 1] - tokens.begin[b],
                                  head_size, hidden, scores_scale};
      const AttentionResult to = {result.y == nullptr ? nullptr : result.y + query,
                                  result.codes == nullptr ? nullptr : result.codes + query, result.code_scale};
      kernels.attention(head, projections.part(0) + query, projections.part(1) + key, projections.part(2) + key,
                        probabilities_scale, context_scale, to);
    }
  });
}

void run_attention_inputs(const Request& request, bool per_token, Output* outputs, const KernelTable& kernels,
                          const Parallel& parallel) {
  const AttentionInputs in(request, per_token);
  const ValidTokens tokens(*in.lengths, in.x->shape), queries(*in.queries, in.x->shape);
  const size_t hidden = static_cast<size_t>(in.x->shape.back()), count = queries.count();
  const Projections projections(count, tokens.count(), hidden);
  if (queries.padded == tokens.padded) {
    project(in, tokens, 0, 3, projections, kernels, parallel);
  } else {
    project(in, queries, 0, 1, projections, kernels, parallel);
    project(in, tokens, 1, 3, projections, kernels, parallel);
  }
  const Scratch summed(count * hidden * sizeof(float));
  float* sums = static_cast<float*>(summed.data());
  QuantizedTokens context(count, hidden, floats_or_null(in.output_input_scale));
  const AttentionResult result = per_token
                                     ? AttentionResult{sums, nullptr, 1.0f}
                                     : AttentionResult{nullptr, context.codes(), *in.output_input_scale->floats()};
  attend(in, static_cast<size_t>(request.heads), queries, tokens, projections, result, kernels, parallel);
  if (per_token) context.fill([&](size_t t) { return sums + t * hidden; }, kernels, parallel);
  TernaryGemm gemm = context.gemm();
  gemm.part_count = 1;
  gemm.parts[0] = in.output.part();
  gemm.parts[0].y = sums;
  ternary_product(gemm, kernels, parallel);
  add_norm_scatter(sums, *in.x, queries, in.norm, static_cast<float*>(outputs[0].data), kernels, parallel);
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
