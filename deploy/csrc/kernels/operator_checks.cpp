#include "kernels/operator_checks.h"

#include <cmath>

namespace ti_qat {

void refuse(const char* what, const std::string& expected, const std::string& found) {
  throw OperatorError(std::string(what) + ": expected " + expected + ", found " + found);
}

void expect_rank(const char* what, const Shape& shape, size_t rank) {
  if (shape.rank != rank) refuse(what, "rank " + std::to_string(rank), "shape " + shape.text());
}

void expect_shape(const char* what, const Shape& shape, const Shape& expected) {
  if (!(shape == expected)) refuse(what, "shape " + expected.text(), shape.text());
}

float expect_shared_scale(const char* what, const Operand& scale) {
  expect_shape(what, scale.shape, vector_of(1));
  const float value = scale.floats()[0];
  if (!(value > 0.0f) || !std::isfinite(value)) refuse(what, "a positive scale", std::to_string(value));
  return value;
}

void expect_one_or(const char* what, const Shape& shape, int64_t count) {
  if (shape == vector_of(1) || shape == vector_of(count)) return;
  refuse(what, "shape (1) or (" + std::to_string(count) + ")", shape.text());
}

void expect_packed_width(const char* what, const Shape& packed, int64_t codes_per_row, int64_t codes_per_byte) {
  expect_rank(what, packed, 2);
  const int64_t bytes = (codes_per_row + codes_per_byte - 1) / codes_per_byte;
  if (packed.back() == bytes) return;
  refuse(what, std::to_string(bytes) + " bytes a row for " + std::to_string(codes_per_row) + " codes",
         "shape " + packed.text());
}

void expect_panels(const char* what, const Shape& weight, int64_t n, int64_t k) {
  constexpr int64_t kChannels = kPanelChannels, kCodes = kWordCodes;
  Shape expected;
  expected.rank = 4;
  expected.dims[0] = (n + kChannels - 1) / kChannels;
  expected.dims[1] = (k + kCodes - 1) / kCodes;
  expected.dims[2] = kChannels;
  expected.dims[3] = kWordBytes;
  if (weight == expected) return;
  refuse(what, "shape " + expected.text() + " for " + std::to_string(n) + " x " + std::to_string(k) + " codes",
         weight.text());
}

void expect_ints_in(const char* what, const Operand& values, int64_t low, int64_t high) {
  const int64_t count = values.shape.elements();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t value = values.ints()[i];
    if (value >= low && value <= high) continue;
    refuse(what, "values from " + std::to_string(low) + " to " + std::to_string(high),
           std::to_string(value) + " at element " + std::to_string(i));
  }
}

}  // namespace ti_qat
