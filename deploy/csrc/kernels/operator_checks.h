// Checks that several operators make of their operands.
#pragma once

#include "kernels/operator.h"

namespace ti_qat {

[[noreturn]] void refuse(const char* what, const std::string& expected, const std::string& found);

void expect_rank(const char* what, const Shape& shape, size_t rank);
void expect_shape(const char* what, const Shape& shape, const Shape& expected);
// A scale that one tensor shares: shape (1,), positive and finite.
float expect_shared_scale(const char* what, const Operand& scale);
// (1,) or (count,)
void expect_one_or(const char* what, const Shape& shape, int64_t count);
// Rows of `codes_per_row` codes, `codes_per_byte` a byte.
void expect_packed_width(const char* what, const Shape& packed, int64_t codes_per_row, int64_t codes_per_byte);
// A linear weight in panels, of a linear with `k` inputs and `n` outputs.
void expect_panels(const char* what, const Shape& weight, int64_t n, int64_t k);
void expect_ints_in(const char* what, const Operand& values, int64_t low, int64_t high);

inline Shape vector_of(int64_t count) {
  Shape shape;
  shape.rank = 1;
  shape.dims[0] = count;
  return shape;
}

}  // namespace ti_qat
