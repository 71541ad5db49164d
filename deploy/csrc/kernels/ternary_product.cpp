#include "kernels/ternary_product.h"

#include "kernels/scratch.h"

namespace ti_qat {

void ternary_product(const TernaryGemm& gemm, const KernelTable& kernels, const Parallel& parallel) {
  const GemmKernel& kernel = *kernels.ternary_gemm;
  const GemmPlan plan = kernel.plan(gemm, parallel.threads());
  const Scratch workspace(plan.workspace_bytes);
  parallel.for_each(plan.prepare_tasks, [&](size_t task) { kernel.prepare(gemm, plan, workspace.data(), task); });
  parallel.for_each(plan.multiply_tasks, [&](size_t task) { kernel.multiply(gemm, plan, workspace.data(), task); });
}

}  // namespace ti_qat
