// One head of attention, read from and written to strided (tokens, hidden) views. Included only by the translation
// units that are compiled per instruction set.
#pragma once

#include "kernels/float_kernels.h"
#include "kernels/kernels.h"
#include "kernels/pair_product.h"
#include "kernels/scratch.h"

namespace ti_qat {
namespace {

constexpr size_t kQueryRows = 8;  // queries that are taken through the softmax together

// Working memory of one head: operands as pairs, and the integer sums of kQueryRows rows.
struct HeadMemory {
  size_t key_pairs, token_pairs, score_columns, context_columns;
  Scratch scratch;
  int16_t *key, *value, *rows;
  int32_t* sums;
  float *scores, *probabilities, *tree, *context;
  int8_t* codes;

  explicit HeadMemory(const AttentionHead& head)
      : key_pairs((head.head_size + 1) / 2),
        token_pairs((head.tokens + 1) / 2),
        score_columns(padded_columns(head.tokens)),
        context_columns(padded_columns(head.head_size)),
        scratch(bytes(head)) {
    const size_t widest = score_columns > context_columns ? score_columns : context_columns;
    char* at = static_cast<char*>(scratch.data());
    const auto take = [&at](size_t bytes) {
      char* taken = at;
      at += (bytes + 63) / 64 * 64;
      return static_cast<void*>(taken);
    };
    key = static_cast<int16_t*>(take(key_pairs * score_columns * 4));
    value = static_cast<int16_t*>(take(token_pairs * context_columns * 4));
    rows = static_cast<int16_t*>(take(kQueryRows * (key_pairs > token_pairs ? key_pairs : token_pairs) * 4));
    sums = static_cast<int32_t*>(take(kQueryRows * widest * 4));
    scores = static_cast<float*>(take(head.tokens * 4));
    probabilities = static_cast<float*>(take(head.tokens * 4));
    tree = static_cast<float*>(take(power_of_two_at_least(head.tokens) * 4));
    context = static_cast<float*>(take(head.head_size * 4));
    codes = static_cast<int8_t*>(take(head.tokens));
  }

 private:
  size_t bytes(const AttentionHead& head) const {
    const size_t widest = score_columns > context_columns ? score_columns : context_columns;
    const size_t pairs = key_pairs > token_pairs ? key_pairs : token_pairs;
    return 4 * (key_pairs * score_columns + token_pairs * context_columns + kQueryRows * (pairs + widest) +
                2 * head.tokens + power_of_two_at_least(head.tokens) + head.tokens + head.head_size) +
           9 * 64;
  }
};

// Calls store(row, sums (score_columns)) for the integer scores of `count` rows of `query`
template <typename Store>
inline void score_rows(const AttentionHead& head, const HeadMemory& memory, const int8_t* query, size_t first,
                       size_t count, Store store) {
  row_pairs(query + first * head.stride, count, head.head_size, head.stride, memory.rows);
  pair_product(memory.rows, count, memory.key, memory.key_pairs, memory.score_columns, memory.sums);
  for (size_t r = 0; r < count; ++r) store(r, memory.sums + r * memory.score_columns);
}

void attention_scores(const AttentionHead& head, const int8_t* query, const int8_t* key, float* out) {
  const HeadMemory memory(head);
  transposed_pairs(key, head.tokens, head.head_size, head.stride, memory.key);
  for (size_t first = 0; first < head.queries; first += kQueryRows) {
    const size_t count = head.queries - first < kQueryRows ? head.queries - first : kQueryRows;
    score_rows(head, memory, query, first, count, [&](size_t r, const int32_t* sums) {
      float* to = out + (first + r) * head.tokens;
      for (size_t t = 0; t < head.tokens; ++t) to[t] = static_cast<float>(sums[t]) * head.scale;
    });
  }
}

// Context of the rows whose probability codes lie in memory.rows
inline void context_rows(const AttentionHead& head, const HeadMemory& memory, size_t first, size_t count, float scale,
                         const AttentionResult& result) {
  pair_product(memory.rows, count, memory.value, memory.token_pairs, memory.context_columns, memory.sums);
  for (size_t r = 0; r < count; ++r) {
    const int32_t* sums = memory.sums + r * memory.context_columns;
    const size_t at = (first + r) * head.stride;
    float* y = result.y != nullptr ? result.y + at : memory.context;
    for (size_t c = 0; c < head.head_size; ++c) y[c] = static_cast<float>(sums[c]) * scale;
    if (result.codes != nullptr) quantize_all(y, head.head_size, result.code_scale, result.codes + at);
  }
}

void attention_context(const AttentionHead& head, const int8_t* probabilities, const int8_t* value, float* out) {
  const HeadMemory memory(head);
  interleaved_pairs(value, head.tokens, head.head_size, head.stride, memory.value);
  for (size_t first = 0; first < head.queries; first += kQueryRows) {
    const size_t count = head.queries - first < kQueryRows ? head.queries - first : kQueryRows;
    row_pairs(probabilities + first * head.tokens, count, head.tokens, head.tokens, memory.rows);
    context_rows(head, memory, first, count, head.scale, {out, nullptr, 1.0f});
  }
}

void attention(const AttentionHead& head, const int8_t* query, const int8_t* key, const int8_t* value,
               float probabilities_scale, float context_scale, const AttentionResult& result) {
  const HeadMemory memory(head);
  const size_t tokens = head.tokens, row_width = 2 * memory.token_pairs;
  transposed_pairs(key, tokens, head.head_size, head.stride, memory.key);
  interleaved_pairs(value, tokens, head.head_size, head.stride, memory.value);
  for (size_t first = 0; first < head.queries; first += kQueryRows) {
    const size_t count = head.queries - first < kQueryRows ? head.queries - first : kQueryRows;
    score_rows(head, memory, query, first, count, [&](size_t r, const int32_t* sums) {
      for (size_t t = 0; t < tokens; ++t) memory.scores[t] = static_cast<float>(sums[t]) * head.scale;
      softmax_row(memory.scores, tokens, memory.tree, memory.probabilities);
      quantize_all(memory.probabilities, tokens, probabilities_scale, memory.codes);
      row_pairs(memory.codes, 1, tokens, tokens, memory.rows + r * row_width);  // the query's are no longer needed
    });
    context_rows(head, memory, first, count, context_scale, result);
  }
}

}  // namespace
}  // namespace ti_qat
