// Element-wise and row-wise float32 kernels as plain loops in the order of ti_qat/artifact/reference.py.
// Included only by the translation units that are compiled per instruction set.
#pragma once

#include "kernels/kernels.h"
#include "kernels/numerics.h"
#include "kernels/quantize_kernels.h"
#include "kernels/scratch.h"

namespace ti_qat {
namespace {

// Largest value(i) for i in [0, count), at least `floor`; lanes let the compiler use vector maxima.
template <typename Value>
inline float maximum(size_t count, float floor, Value value) {
  constexpr size_t kLanes = 16;
  float lanes[kLanes];
  for (size_t l = 0; l < kLanes; ++l) lanes[l] = floor;
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t l = 0; l < kLanes; ++l) lanes[l] = value(i + l) > lanes[l] ? value(i + l) : lanes[l];
  }
  for (; i < count; ++i) lanes[0] = value(i) > lanes[0] ? value(i) : lanes[0];
  for (size_t l = 1; l < kLanes; ++l) lanes[0] = lanes[l] > lanes[0] ? lanes[l] : lanes[0];
  return lanes[0];
}

void quantize_per_token(const float* x, size_t rows, size_t width, int8_t* codes, float* scales) {
  for (size_t r = 0; r < rows; ++r) {
    const float* row = x + r * width;
    const float largest = maximum(width, 0.0f, [row](size_t i) { return std::fabs(row[i]); });
    scales[r] = largest > 0.0f ? largest / kCodeMax : 1.0f;
    quantize_all(row, width, scales[r], codes + r * width);
  }
}

// y (length) = softmax of x (length); buffer (power_of_two_at_least(length))
inline void softmax_row(const float* x, size_t length, float* __restrict buffer, float* __restrict y) {
  const size_t padded = power_of_two_at_least(length);
  const float largest = maximum(length, x[0], [x](size_t i) { return x[i]; });
  for (size_t i = 0; i < length; ++i) y[i] = exp_nonpositive(x[i] - largest);
  for (size_t i = 0; i < length; ++i) buffer[i] = y[i];
  for (size_t i = length; i < padded; ++i) buffer[i] = 0.0f;
  const float sum = tree_sum_in_place(buffer, padded);
  for (size_t i = 0; i < length; ++i) y[i] = y[i] / sum;
}

void softmax(const float* x, size_t rows, size_t width, size_t length, float* y) {
  const Scratch scratch(power_of_two_at_least(length) * sizeof(float));
  for (size_t r = 0; r < rows; ++r, x += width, y += width) {
    softmax_row(x, length, static_cast<float*>(scratch.data()), y);
    for (size_t i = length; i < width; ++i) y[i] = 0.0f;
  }
}

// y (width) = layer_norm of value(i), i in [0, width); buffer (power_of_two_at_least(width))
template <typename Value>
inline void layer_norm_row(Value value, size_t width, const float* gamma, const float* beta, float epsilon,
                           float* __restrict buffer, float* __restrict y) {
  const size_t padded = power_of_two_at_least(width);
  const float divisor = static_cast<float>(width);
  for (size_t i = 0; i < width; ++i) y[i] = value(i);
  for (size_t i = 0; i < width; ++i) buffer[i] = y[i];
  for (size_t i = width; i < padded; ++i) buffer[i] = 0.0f;
  const float mean = tree_sum_in_place(buffer, padded) / divisor;
  for (size_t i = 0; i < width; ++i) y[i] = y[i] - mean;
  for (size_t i = 0; i < width; ++i) buffer[i] = y[i] * y[i];
  for (size_t i = width; i < padded; ++i) buffer[i] = 0.0f;
  const float variance = tree_sum_in_place(buffer, padded) / divisor;
  const float inverse_deviation = 1.0f / std::sqrt(variance + epsilon);
  for (size_t i = 0; i < width; ++i) y[i] = (y[i] * inverse_deviation) * gamma[i] + beta[i];
}

void layer_norm(const float* x, size_t rows, size_t width, const float* gamma, const float* beta, float epsilon,
                float* y) {
  const Scratch scratch(power_of_two_at_least(width) * sizeof(float));
  float* buffer = static_cast<float*>(scratch.data());
  for (size_t r = 0; r < rows; ++r, x += width, y += width) {
    layer_norm_row([x](size_t i) { return x[i]; }, width, gamma, beta, epsilon, buffer, y);
  }
}

void add_layer_norm(const float* x, const float* residual, size_t width, const float* gamma, const float* beta,
                    float epsilon, float* y) {
  const Scratch scratch(power_of_two_at_least(width) * sizeof(float));
  layer_norm_row([x, residual](size_t i) { return x[i] + residual[i]; }, width, gamma, beta, epsilon,
                 static_cast<float*>(scratch.data()), y);
}

void gelu_all(const float* x, size_t count, float* y) {
  for (size_t i = 0; i < count; ++i) y[i] = gelu(x[i]);
}

void tanh_all(const float* x, size_t count, float* y) {
  for (size_t i = 0; i < count; ++i) y[i] = tanh(x[i]);
}

void embed(const uint8_t* w, float scale, const float* type, const float* position, size_t width, float* out) {
  for (size_t i = 0; i < width; ++i) {
    const int code = static_cast<int>((w[i / 4] >> (2 * (i % 4))) & 3) - 1;
    out[i] = (static_cast<float>(code) * scale + type[i]) + position[i];
  }
}

void classify(const float* x, const float* weight, const float* bias, size_t labels, size_t width, float* out) {
  const size_t padded = power_of_two_at_least(width);
  const Scratch scratch(padded * sizeof(float));
  float* buffer = static_cast<float*>(scratch.data());
  for (size_t l = 0; l < labels; ++l, weight += width) {
    for (size_t i = 0; i < width; ++i) buffer[i] = x[i] * weight[i];
    for (size_t i = width; i < padded; ++i) buffer[i] = 0.0f;
    out[l] = tree_sum_in_place(buffer, padded) + bias[l];
  }
}

}  // namespace
}  // namespace ti_qat
