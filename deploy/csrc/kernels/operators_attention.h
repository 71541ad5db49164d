// Operators between the query, key, value codes and the context.
#pragma once

#include "kernels/operator.h"

namespace ti_qat {

// Throws OperatorError unless x is (batch, tokens, hidden), its heads equally wide, and every product inside int32.
void expect_heads(const char* what, const Shape& x, int64_t heads);

// (query_scale * key_scale) / sqrt(head_size), the root as in numerics.attention_scale: rounded once from binary64.
float scores_scale_of(float query_scale, float key_scale, size_t head_size);

void prepare_attention_scores(const Request& request, Output* outputs);
void run_attention_scores(const Request& request, Output* outputs, const KernelTable& kernels,
                          const Parallel& parallel);

void prepare_softmax(const Request& request, Output* outputs);
void run_softmax(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel);

void prepare_attention_context(const Request& request, Output* outputs);
void run_attention_context(const Request& request, Output* outputs, const KernelTable& kernels,
                           const Parallel& parallel);

}  // namespace ti_qat
