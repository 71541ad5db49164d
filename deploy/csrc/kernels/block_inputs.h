// The operands of a block's request, taken in the order of the operator's table row.
#pragma once

#include "kernels/block_stages.h"
#include "kernels/operator_checks.h"

namespace ti_qat {

class InputReader {
 public:
  explicit InputReader(const Request& request) : next_(request.inputs) {}
  const Operand* one() { return next_++; }
  const Operand* one_if(bool present) { return present ? next_++ : nullptr; }
  LinearOperands linear() {
    const Operand *weight = one(), *scale = one();
    return {weight, scale, one()};
  }
  NormOperands norm() {
    const Operand *gamma = one(), *beta = one();
    return {gamma, beta, one()};
  }

 private:
  const Operand* next_;
};

inline const float* floats_or_null(const Operand* operand) {
  return operand == nullptr ? nullptr : operand->floats();
}

inline void expect_scale_if_present(const char* what, const Operand* scale) {
  if (scale != nullptr) expect_shared_scale(what, *scale);
}

// Throws OperatorError unless `counts` says of every sequence of x how many of its tokens are meant, one at least.
inline void expect_tokens(const char* what, const Operand& x, const Operand& counts) {
  expect_rank("x", x.shape, 3);
  expect_shape(what, counts.shape, vector_of(x.shape.dims[0]));
  expect_ints_in(what, counts, 1, x.shape.dims[1]);
}

}  // namespace ti_qat
