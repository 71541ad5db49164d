// A ternary matrix product, cut into tasks.
#pragma once

#include "kernels/kernels.h"
#include "kernels/parallel.h"

namespace ti_qat {

void ternary_product(const TernaryGemm& gemm, const KernelTable& kernels, const Parallel& parallel);

}  // namespace ti_qat
