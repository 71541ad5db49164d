// Integer matrix products of one attention head, read from and written to strided (tokens, hidden)
// views. Included only by the translation units that are compiled per instruction set.
#pragma once

#include "kernels/integer_dot.h"
#include "kernels/kernels.h"
#include "kernels/scratch.h"

namespace ti_qat {
namespace {

void attention_scores(const AttentionHead& head, const int8_t* query, const int8_t* key, float* out) {
  const size_t tokens = head.tokens, padded = padded_length(head.head_size);
  const size_t columns = round_up_to_4(tokens);
  const Scratch scratch((tokens + columns) * padded * sizeof(int16_t));
  int16_t* x = static_cast<int16_t*>(scratch.data());
  int16_t* w = x + tokens * padded;
  widen_rows(query, tokens, head.head_size, head.stride, x);
  widen_rows(key, tokens, head.head_size, head.stride, w);
  for (size_t i = tokens * padded; i < columns * padded; ++i) w[i] = 0;
  const float scale = head.scale;
  for_each_dot(x, tokens, w, tokens, padded, [out, tokens, scale](size_t row, size_t column, int32_t sum) {
    out[row * tokens + column] = static_cast<float>(sum) * scale;
  });
}

// dst (columns, padded_length(tokens)) = transposed src (tokens, stride), zero where src has no element
void widen_transposed(const int8_t* src, size_t tokens, size_t head_size, size_t stride, size_t columns, int16_t* dst) {
  const size_t padded = padded_length(tokens);
  for (size_t c = 0; c < columns; ++c) {
    for (size_t t = 0; t < padded; ++t) {
      dst[c * padded + t] = c < head_size && t < tokens ? src[t * stride + c] : 0;
    }
  }
}

void attention_context(const AttentionHead& head, const int8_t* probabilities, const int8_t* value, float* out) {
  const size_t tokens = head.tokens, padded = padded_length(tokens);
  const size_t columns = round_up_to_4(head.head_size);
  const Scratch scratch((tokens + columns) * padded * sizeof(int16_t));
  int16_t* x = static_cast<int16_t*>(scratch.data());
  int16_t* w = x + tokens * padded;
  widen_rows(probabilities, tokens, tokens, tokens, x);
  widen_transposed(value, tokens, head.head_size, head.stride, columns, w);
  const float scale = head.scale;
  const size_t stride = head.stride;
  for_each_dot(x, tokens, w, head.head_size, padded, [out, stride, scale](size_t row, size_t column, int32_t sum) {
    out[row * stride + column] = static_cast<float>(sum) * scale;
  });
}

}  // namespace
}  // namespace ti_qat
