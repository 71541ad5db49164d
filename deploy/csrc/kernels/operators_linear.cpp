#include "kernels/operators_linear.h"

#include "kernels/base3_codes.h"
#include "kernels/operator_checks.h"
#include "kernels/packed_input.h"
#include "kernels/ternary_product.h"

namespace ti_qat {
namespace {

// |x * (code + 1)| <= 256, so 2^22 of them stay inside int32.
constexpr int64_t kMaxTernaryK = int64_t{1} << 22;

enum LinearInput { kCodes, kScale, kWeight, kWeightScale, kBias };
enum EmbeddingInput { kInputIds, kTypeIds, kWord, kWordScale, kPosition, kTokenType };
enum ClassifierInput { kX, kClassWeight, kClassBias };

}  // namespace

void expect_linear_width(const char* what, const Shape& x) {
  if (x.back() > kMaxTernaryK) refuse(what, "at most 2^22 features", x.text());
}

void prepare_ternary_linear(const Request& request, Output* outputs) {
  const Shape& codes = request.inputs[kCodes].shape;
  const Operand& weight = request.inputs[kWeight];
  expect_linear_width("codes", codes);
  const Shape& bias = request.inputs[kBias].shape;
  expect_rank("bias", bias, 1);
  const int64_t n = bias.back();
  expect_panels("weight", weight.shape, n, codes.back());
  const Shape& scale = request.inputs[kScale].shape;
  if (!(scale == vector_of(1))) expect_shape("scale", scale, codes.with_back(1));
  expect_one_or("weight_scale", request.inputs[kWeightScale].shape, n);
  outputs[0].shape = codes.with_back(n);
}

void run_ternary_linear(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel) {
  const Operand* in = request.inputs;
  TernaryGemm gemm = {};
  gemm.m = static_cast<size_t>(in[kCodes].shape.rows());
  gemm.k = static_cast<size_t>(in[kCodes].shape.back());
  gemm.x = in[kCodes].codes();
  gemm.x_scale = in[kScale].floats();
  gemm.x_scale_shared = in[kScale].shape.elements() == 1;
  gemm.part_count = 1;
  TernaryPart& part = gemm.parts[0];
  part.n = static_cast<size_t>(in[kBias].shape.back());
  part.w = in[kWeight].packed();
  part.w_scale = in[kWeightScale].floats();
  part.w_scale_shared = in[kWeightScale].shape.elements() == 1;
  part.bias = in[kBias].floats();
  part.y = static_cast<float*>(outputs[0].data);
  ternary_product(gemm, kernels, parallel);
}

void prepare_ternary_embedding(const Request& request, Output* outputs) {
  const Operand* in = request.inputs;
  expect_rank("input_ids", in[kInputIds].shape, 2);
  expect_shape("token_type_ids", in[kTypeIds].shape, in[kInputIds].shape);
  expect_rank("position", in[kPosition].shape, 2);
  expect_rank("token_type", in[kTokenType].shape, 2);
  const int64_t hidden = in[kPosition].shape.back();
  expect_packed_width("word", in[kWord].shape, hidden, request.packing);
  expect_one_or("word_scale", in[kWordScale].shape, in[kWord].shape.dims[0]);
  if (in[kTokenType].shape.back() != hidden) {
    refuse("token_type", std::to_string(hidden) + " columns", in[kTokenType].shape.text());
  }
  if (in[kInputIds].shape.back() > in[kPosition].shape.dims[0]) {
    refuse("input_ids", "at most " + std::to_string(in[kPosition].shape.dims[0]) + " tokens",
           in[kInputIds].shape.text());
  }
  expect_ints_in("input_ids", in[kInputIds], 0, in[kWord].shape.dims[0] - 1);
  expect_ints_in("token_type_ids", in[kTypeIds], 0, in[kTokenType].shape.dims[0] - 1);
  Shape out = in[kInputIds].shape;
  out.rank = 3;
  out.dims[2] = hidden;
  outputs[0].shape = out;
}

void embed_token(const Request& request, size_t index, const KernelTable& kernels, float* out) {
  const Operand* in = request.inputs;
  const size_t tokens = static_cast<size_t>(in[kInputIds].shape.back());
  const size_t hidden = static_cast<size_t>(in[kPosition].shape.back());
  const size_t id = static_cast<size_t>(in[kInputIds].ints()[index]);
  const size_t type = static_cast<size_t>(in[kTypeIds].ints()[index]);
  const bool shared = in[kWordScale].shape.elements() == 1;
  const auto embed = [&](const uint8_t* row) {
    kernels.embed(row, in[kWordScale].floats()[shared ? 0 : id], in[kTokenType].floats() + type * hidden,
                  in[kPosition].floats() + (index % tokens) * hidden, hidden, out);
  };
  const uint8_t* row = in[kWord].packed() + id * static_cast<size_t>(in[kWord].shape.back());
  if (request.packing == kTwoBitPacking) return embed(row);
  const Scratch two_bit((hidden + 3) / 4);
  unpack_base3(row, hidden, static_cast<uint8_t*>(two_bit.data()));
  embed(static_cast<const uint8_t*>(two_bit.data()));
}

void run_ternary_embedding(const Request& request, Output* outputs, const KernelTable& kernels,
                           const Parallel& parallel) {
  const size_t hidden = static_cast<size_t>(outputs[0].shape.back());
  float* out = static_cast<float*>(outputs[0].data);
  constexpr size_t kTokensPerTask = 32;
  parallel.for_ranges(static_cast<size_t>(outputs[0].shape.rows()), kTokensPerTask, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) embed_token(request, i, kernels, out + i * hidden);
  });
}

void prepare_classifier(const Request& request, Output* outputs) {
  const Shape& x = request.inputs[kX].shape;
  const Shape& weight = request.inputs[kClassWeight].shape;
  expect_rank("x", x, 2);
  expect_rank("weight", weight, 2);
  if (weight.back() != x.back()) refuse("weight", std::to_string(x.back()) + " columns", weight.text());
  expect_shape("bias", request.inputs[kClassBias].shape, vector_of(weight.dims[0]));
  outputs[0].shape = x.with_back(weight.dims[0]);
}

void run_classifier(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel) {
  const Operand* in = request.inputs;
  const size_t width = static_cast<size_t>(in[kX].shape.back());
  const size_t labels = static_cast<size_t>(in[kClassWeight].shape.dims[0]);
  float* out = static_cast<float*>(outputs[0].data);
  parallel.for_each(static_cast<size_t>(in[kX].shape.dims[0]), [&](size_t row) {
    kernels.classify(in[kX].floats() + row * width, in[kClassWeight].floats(), in[kClassBias].floats(), labels, width,
                     out + row * labels);
  });
}

}  // namespace ti_qat
