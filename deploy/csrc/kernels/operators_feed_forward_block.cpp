#include "kernels/block_inputs.h"
#include "kernels/operators_blocks.h"
#include "kernels/operators_linear.h"
#include "kernels/ternary_product.h"

namespace ti_qat {
namespace {

struct FeedForwardInputs {
  const Operand *x, *up_input_scale, *down_input_scale, *lengths;
  LinearOperands up, down;
  NormOperands norm;

  FeedForwardInputs(const Request& request, bool per_token) {
    InputReader in(request);
    x = in.one();
    up_input_scale = in.one_if(!per_token);
    up = in.linear();
    down_input_scale = in.one_if(!per_token);
    down = in.linear();
    norm = in.norm();
    lengths = in.one();
  }
};

void prepare_feed_forward_inputs(const Request& request, bool per_token, Output* outputs) {
  const FeedForwardInputs in(request, per_token);
  expect_tokens("lengths", *in.x, *in.lengths);
  const int64_t hidden = in.x->shape.back();
  expect_rank("up_bias", in.up.bias->shape, 1);
  expect_linear_width("x", in.x->shape);
  expect_linear_width("up_bias", in.up.bias->shape);
  in.up.expect("up", hidden, in.up.out_features());
  check_elements("up: ", in.x->shape.with_back(in.up.out_features()));
  in.down.expect("down", in.up.out_features(), hidden);
  in.norm.expect(hidden);
  expect_scale_if_present("up_input_scale", in.up_input_scale);
  expect_scale_if_present("down_input_scale", in.down_input_scale);
  outputs[0].shape = in.x->shape;
}

void run_feed_forward_inputs(const Request& request, bool per_token, Output* outputs, const KernelTable& kernels,
                             const Parallel& parallel) {
  const FeedForwardInputs in(request, per_token);
  const ValidTokens tokens(*in.lengths, in.x->shape);
  const size_t hidden = static_cast<size_t>(in.x->shape.back());
  const size_t width = static_cast<size_t>(in.up.out_features());
  QuantizedTokens activated(tokens.count(), width, floats_or_null(in.down_input_scale));
  {
    QuantizedTokens x(tokens.count(), hidden, floats_or_null(in.up_input_scale));
    x.fill([&](size_t t) { return in.x->floats() + tokens.padded[t] * hidden; }, kernels, parallel);
    TernaryGemm gemm = x.gemm();
    gemm.part_count = 1;
    gemm.parts[0] = in.up.part();
    gemm.parts[0].gelu = true;
    const Scratch floats(per_token ? tokens.count() * width * sizeof(float) : 0);
    if (per_token) {
      gemm.parts[0].y = static_cast<float*>(floats.data());
    } else {
      gemm.parts[0].codes = activated.codes();
      gemm.parts[0].code_scale = *in.down_input_scale->floats();
    }
    ternary_product(gemm, kernels, parallel);
    if (per_token) activated.fill([&](size_t t) { return gemm.parts[0].y + t * width; }, kernels, parallel);
  }
  const Scratch summed(tokens.count() * hidden * sizeof(float));
  TernaryGemm gemm = activated.gemm();
  gemm.part_count = 1;
  gemm.parts[0] = in.down.part();
  gemm.parts[0].y = static_cast<float*>(summed.data());
  ternary_product(gemm, kernels, parallel);
  add_norm_scatter(gemm.parts[0].y, *in.x, tokens, in.norm, static_cast<float*>(outputs[0].data), kernels, parallel);
}

}  // namespace

void prepare_feed_forward_block(const Request& request, Output* outputs) {
  prepare_feed_forward_inputs(request, false, outputs);
}

void run_feed_forward_block(const Request& request, Output* outputs, const KernelTable& kernels,
                            const Parallel& parallel) {
  run_feed_forward_inputs(request, false, outputs, kernels, parallel);
}

void prepare_feed_forward_block_per_token(const Request& request, Output* outputs) {
  prepare_feed_forward_inputs(request, true, outputs);
}

void run_feed_forward_block_per_token(const Request& request, Output* outputs, const KernelTable& kernels,
                                      const Parallel& parallel) {
  run_feed_forward_inputs(request, true, outputs, kernels, parallel);
}

}  // namespace ti_qat
