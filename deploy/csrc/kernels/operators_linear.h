// Operators that read packed ternary codes, and the float classifier.
#pragma once

#include "kernels/operator.h"

namespace ti_qat {

// Throws OperatorError unless sums over the last dimension of x stay inside int32.
void expect_linear_width(const char* what, const Shape& x);

// out (hidden): the sum of the embeddings of token `index` of a TernaryEmbedding's request.
void embed_token(const Request& request, size_t index, const KernelTable& kernels, float* out);

void prepare_ternary_linear(const Request& request, Output* outputs);
void run_ternary_linear(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel);

void prepare_ternary_embedding(const Request& request, Output* outputs);
void run_ternary_embedding(const Request& request, Output* outputs, const KernelTable& kernels,
                           const Parallel& parallel);

void prepare_classifier(const Request& request, Output* outputs);
void run_classifier(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel);

}  // namespace ti_qat
