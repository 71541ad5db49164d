#include "kernels/block_stages.h"

#include <algorithm>

#include "kernels/operator_checks.h"

namespace ti_qat {

ValidTokens::ValidTokens(const Operand& lengths, const Shape& x) {
  const size_t batch = static_cast<size_t>(x.dims[0]), width = static_cast<size_t>(x.dims[1]);
  begin.reserve(batch + 1);
  padded.reserve(batch * width);
  for (size_t b = 0; b < batch; ++b) {
    begin.push_back(padded.size());
    const size_t length = static_cast<size_t>(lengths.ints()[b]);
    for (size_t t = 0; t < length; ++t) padded.push_back(b * width + t);
  }
  begin.push_back(padded.size());
}

void LinearOperands::expect(const char* what, int64_t in_features, int64_t out_features) const {
  const std::string name = what;
  expect_shape((name + "_bias").c_str(), bias->shape, vector_of(out_features));
  expect_panels((name + "_weight").c_str(), weight->shape, out_features, in_features);
  expect_one_or((name + "_weight_scale").c_str(), scale->shape, out_features);
}

TernaryPart LinearOperands::part() const {
  TernaryPart part = {};
  part.n = static_cast<size_t>(out_features());
  part.w = weight->packed();
  part.w_scale = scale->floats();
  part.w_scale_shared = scale->shape.elements() == 1;
  part.bias = bias->floats();
  return part;
}

void NormOperands::expect(int64_t width) const {
  expect_shape("gamma", gamma->shape, vector_of(width));
  expect_shape("beta", beta->shape, vector_of(width));
  expect_shape("epsilon", epsilon->shape, vector_of(1));
}

QuantizedTokens::QuantizedTokens(size_t tokens, size_t width, const float* static_scale)
    : tokens_(tokens),
      width_(width),
      static_scale_(static_scale),
      codes_(tokens * width),
      scales_(static_scale == nullptr ? tokens * sizeof(float) : 0) {}

TernaryGemm QuantizedTokens::gemm() const {
  TernaryGemm gemm = {};
  gemm.m = tokens_;
  gemm.k = width_;
  gemm.x = codes();
  gemm.x_scale_shared = static_scale_ != nullptr;
  gemm.x_scale = gemm.x_scale_shared ? static_scale_ : static_cast<const float*>(scales_.data());
  return gemm;
}

void zero_padding(const ValidTokens& tokens, const Shape& shape, float* y) {
  const size_t width = static_cast<size_t>(shape.back()), longest = static_cast<size_t>(shape.dims[1]);
  for (size_t b = 0; b + 1 < tokens.begin.size(); ++b) {
    const size_t length = tokens.begin[b + 1] - tokens.begin[b];
    std::fill(y + (b * longest + length) * width, y + (b + 1) * longest * width, 0.0f);
  }
}

void add_norm_scatter(const float* summed, const Operand& x, const ValidTokens& tokens, const NormOperands& norm,
                      float* y, const KernelTable& kernels, const Parallel& parallel) {
  const size_t width = static_cast<size_t>(x.shape.back());
  zero_padding(tokens, x.shape, y);
  parallel.for_ranges(tokens.count(), tokens_per_task(width), [&](size_t begin, size_t end) {
    for (size_t t = begin; t < end; ++t) {
      const size_t at = tokens.padded[t] * width;
      kernels.add_layer_norm(summed + t * width, x.floats() + at, width, norm.gamma->floats(), norm.beta->floats(),
                             norm.epsilon->floats()[0], y + at);
    }
  });
}

}  // namespace ti_qat
