// The stages that the blocks are made of, each over the tokens that exist.
#pragma once

#include <vector>

#include "kernels/operator.h"
#include "kernels/scratch.h"

namespace ti_qat {

// The tokens of a padded batch that exist, one after the other.
struct ValidTokens {
  std::vector<size_t> begin;   // (batch + 1): the first valid token of each sequence, and the end
  std::vector<size_t> padded;  // of each valid token, its place in the padded batch

  ValidTokens(const Operand& lengths, const Shape& x);

  size_t count() const { return padded.size(); }
};

// A ternary linear's operands.
struct LinearOperands {
  const Operand *weight, *scale, *bias;

  int64_t out_features() const { return bias->shape.back(); }
  // Throws OperatorError unless they take `in_features` and give `out_features`.
  void expect(const char* what, int64_t in_features, int64_t out_features) const;
  TernaryPart part() const;
};

struct NormOperands {
  const Operand *gamma, *beta, *epsilon;

  void expect(int64_t width) const;
};

// int8 codes of valid tokens and their scale: one static, or one for every token.
class QuantizedTokens {
 public:
  QuantizedTokens(size_t tokens, size_t width, const float* static_scale);

  // Quantises the floats of token t, row(t) (width).
  template <typename Row>
  void fill(Row row, const KernelTable& kernels, const Parallel& parallel);
  // Operands of a product of these codes, as yet without parts.
  TernaryGemm gemm() const;

  int8_t* codes() const { return static_cast<int8_t*>(codes_.data()); }

 private:
  size_t tokens_, width_;
  const float* static_scale_;  // null: one for every token
  Scratch codes_, scales_;
};

// How many tokens of `width` floats make a task worth its start.
inline size_t tokens_per_task(size_t width) {
  constexpr size_t kElementsPerTask = size_t{1} << 14;
  return kElementsPerTask / width + 1;
}

template <typename Row>
void QuantizedTokens::fill(Row row, const KernelTable& kernels, const Parallel& parallel) {
  float* scales = static_cast<float*>(scales_.data());
  parallel.for_ranges(tokens_, tokens_per_task(width_), [&](size_t begin, size_t end) {
    for (size_t t = begin; t < end; ++t) {
      if (static_scale_ != nullptr) {
        kernels.quantize(row(t), width_, *static_scale_, codes() + t * width_);
      } else {
        kernels.quantize_per_token(row(t), 1, width_, codes() + t * width_, scales + t);
      }
    }
  });
}

// Writes layer_norm(summed (tokens, width) + x) of the valid tokens to y, and zeros for padding; x, y (padded, width)
void add_norm_scatter(const float* summed, const Operand& x, const ValidTokens& tokens, const NormOperands& norm,
                      float* y, const KernelTable& kernels, const Parallel& parallel);

// Zeros the tokens of y (padded, width) that do not exist.
void zero_padding(const ValidTokens& tokens, const Shape& shape, float* y);

}  // namespace ti_qat
