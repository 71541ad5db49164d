// Operators between the query, key, value codes and the context.
#pragma once

#include "kernels/operator.h"

namespace ti_qat {

void prepare_attention_scores(const Request& request, Output* outputs);
void run_attention_scores(const Request& request, Output* outputs, const KernelTable& kernels,
                          const Parallel& parallel);

void prepare_softmax(const Request& request, Output* outputs);
void run_softmax(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel);

void prepare_attention_context(const Request& request, Output* outputs);
void run_attention_context(const Request& request, Output* outputs, const KernelTable& kernels,
                           const Parallel& parallel);

}  // namespace ti_qat
