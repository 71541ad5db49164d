// Operators that work element by element or row by row.
#pragma once

#include "kernels/operator.h"

namespace ti_qat {

void prepare_quantize(const Request& request, Output* outputs);
void run_quantize(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel);

void prepare_quantize_per_token(const Request& request, Output* outputs);
void run_quantize_per_token(const Request& request, Output* outputs, const KernelTable& kernels,
                            const Parallel& parallel);

void prepare_layer_norm(const Request& request, Output* outputs);
void run_layer_norm(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel);

void prepare_pointwise(const Request& request, Output* outputs);
void run_gelu(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel);
void run_tanh(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel);

}  // namespace ti_qat
