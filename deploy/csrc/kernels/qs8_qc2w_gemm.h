// int8 activations times ternary weights of two bits: one kernel per instruction set.
#pragma once

#include "kernels/kernels.h"

namespace ti_qat {

extern const GemmKernel qs8_qc2w_gemm__scalar;
#if defined(TI_QAT_X86)
extern const GemmKernel qs8_qc2w_gemm__sse41;
extern const GemmKernel qs8_qc2w_gemm__avx2;
extern const GemmKernel qs8_qc2w_gemm__avxvnni;
extern const GemmKernel qs8_qc2w_gemm__avx512vnni;
#elif defined(TI_QAT_AARCH64)
extern const GemmKernel qs8_qc2w_gemm__neon;
extern const GemmKernel qs8_qc2w_gemm__neondot;
#endif

}  // namespace ti_qat
