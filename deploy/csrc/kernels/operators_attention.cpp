#include "kernels/operators_attention.h"

#include <cmath>

#include "kernels/operator_checks.h"

namespace ti_qat {
namespace {

// |a * b| <= 2^14, so fewer than 2^17 products stay inside int32.
constexpr int64_t kMaxProductK = (int64_t{1} << 17) - 1;

enum ScoresInput { kQuery, kQueryScale, kKey, kKeyScale };
enum ContextInput { kProbabilities, kProbabilitiesScale, kValue, kValueScale };
enum SoftmaxInput { kX, kLengths };

AttentionHead head_of(const Shape& shape, int64_t heads, float scale) {
  AttentionHead head = {};
  head.queries = head.tokens = static_cast<size_t>(shape.dims[1]);
  head.head_size = static_cast<size_t>(shape.back() / heads);
  head.stride = static_cast<size_t>(shape.back());
  head.scale = scale;
  return head;
}

Shape square_of(const Shape& shape, int64_t heads) {
  Shape square;
  square.rank = 4;
  square.dims[0] = shape.dims[0];
  square.dims[1] = heads;
  square.dims[2] = square.dims[3] = shape.dims[1];
  return square;
}

// Calls task(offset into (batch, tokens, hidden), offset into (batch, heads, tokens, tokens)) for every head.
template <typename Task>
void for_each_head(const Shape& shape, const AttentionHead& head, const Parallel& parallel, const Task& task) {
  const size_t heads = head.stride / head.head_size;
  parallel.for_each(static_cast<size_t>(shape.dims[0]) * heads, [&](size_t index) {
    const size_t batch = index / heads, which = index % heads;
    task(batch * head.tokens * head.stride + which * head.head_size, index * head.tokens * head.tokens);
  });
}

}  // namespace

void expect_heads(const char* what, const Shape& shape, int64_t heads) {
  expect_rank(what, shape, 3);
  if (heads < 1 || shape.back() % heads != 0) {
    refuse(what, "a last dimension that is a multiple of heads = " + std::to_string(heads), shape.text());
  }
  if (shape.back() / heads > kMaxProductK) refuse(what, "a head of fewer than 2^17 elements", shape.text());
  if (shape.dims[1] > kMaxProductK) refuse(what, "fewer than 2^17 tokens", shape.text());
}

float scores_scale_of(float query_scale, float key_scale, size_t head_size) {
  const float head_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_size)));
  return (query_scale * key_scale) * head_scale;
}

void prepare_attention_scores(const Request& request, Output* outputs) {
  const Shape& query = request.inputs[kQuery].shape;
  expect_heads("query", query, request.heads);
  expect_shape("key", request.inputs[kKey].shape, query);
  expect_shared_scale("query_scale", request.inputs[kQueryScale]);
  expect_shared_scale("key_scale", request.inputs[kKeyScale]);
  outputs[0].shape = square_of(query, request.heads);
}

void run_attention_scores(const Request& request, Output* outputs, const KernelTable& kernels,
                          const Parallel& parallel) {
  const Operand* in = request.inputs;
  const Shape& shape = in[kQuery].shape;
  const size_t head_size = static_cast<size_t>(shape.back() / request.heads);
  const float scale = scores_scale_of(in[kQueryScale].floats()[0], in[kKeyScale].floats()[0], head_size);
  const AttentionHead head = head_of(shape, request.heads, scale);
  float* out = static_cast<float*>(outputs[0].data);
  for_each_head(shape, head, parallel, [&](size_t at, size_t square) {
    kernels.attention_scores(head, in[kQuery].codes() + at, in[kKey].codes() + at, out + square);
  });
}

void prepare_softmax(const Request& request, Output* outputs) {
  const Shape& x = request.inputs[kX].shape;
  expect_rank("x", x, 4);
  expect_shape("lengths", request.inputs[kLengths].shape, vector_of(x.dims[0]));
  expect_ints_in("lengths", request.inputs[kLengths], 1, x.back());
  outputs[0].shape = x;
}

void run_softmax(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel) {
  const Shape& shape = request.inputs[kX].shape;
  const size_t width = static_cast<size_t>(shape.back());
  const size_t rows = static_cast<size_t>(shape.dims[2]);
  const size_t heads = static_cast<size_t>(shape.dims[1]);
  const float* x = request.inputs[kX].floats();
  float* y = static_cast<float*>(outputs[0].data);
  parallel.for_each(static_cast<size_t>(shape.dims[0]) * heads, [&](size_t index) {
    const size_t length = static_cast<size_t>(request.inputs[kLengths].ints()[index / heads]);
    kernels.softmax(x + index * rows * width, rows, width, length, y + index * rows * width);
  });
}

void prepare_attention_context(const Request& request, Output* outputs) {
  const Shape& value = request.inputs[kValue].shape;
  expect_heads("value", value, request.heads);
  expect_shape("probabilities", request.inputs[kProbabilities].shape, square_of(value, request.heads));
  expect_shared_scale("probabilities_scale", request.inputs[kProbabilitiesScale]);
  expect_shared_scale("value_scale", request.inputs[kValueScale]);
  outputs[0].shape = value;
}

void run_attention_context(const Request& request, Output* outputs, const KernelTable& kernels,
                           const Parallel& parallel) {
  const Operand* in = request.inputs;
  const Shape& shape = in[kValue].shape;
  const float scale = in[kProbabilitiesScale].floats()[0] * in[kValueScale].floats()[0];
  const AttentionHead head = head_of(shape, request.heads, scale);
  float* out = static_cast<float*>(outputs[0].data);
  for_each_head(shape, head, parallel, [&](size_t at, size_t square) {
    kernels.attention_context(head, in[kProbabilities].codes() + square, in[kValue].codes() + at, out + at);
  });
}

}  // namespace ti_qat
