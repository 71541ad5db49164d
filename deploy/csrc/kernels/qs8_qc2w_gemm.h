// int8 activations times ternary weights of two bits: one kernel per instruction set.
#pragma once

#include "kernels/kernels.h"

namespace ti_qat {

extern const GemmKernel qs8_qc2w_gemm__scalar;
#if defined(TI_QAT_X86)
extern const GemmKernel qs8_qc2w_gemm__avx2;
extern const GemmKernel qs8_qc2w_gemm__avx512vnni;
#endif

namespace {

inline float x_scale_of(const TernaryGemm& gemm, size_t row) {
  return gemm.x_scale[gemm.x_scale_shared ? 0 : row];
}

inline float w_scale_of(const TernaryGemm& gemm, size_t n) {
  return gemm.w_scale[gemm.w_scale_shared ? 0 : n];
}

}  // namespace
}  // namespace ti_qat
