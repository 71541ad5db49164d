// Operators that read packed ternary codes, and the float classifier.
#pragma once

#include "kernels/operator.h"

namespace ti_qat {

void prepare_ternary_linear(const Request& request, Output* outputs);
void run_ternary_linear(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel);

void prepare_ternary_embedding(const Request& request, Output* outputs);
void run_ternary_embedding(const Request& request, Output* outputs, const KernelTable& kernels,
                           const Parallel& parallel);

void prepare_classifier(const Request& request, Output* outputs);
void run_classifier(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel);

}  // namespace ti_qat
