// Compiled once per instruction set, with that set's flags and TI_QAT_ISA_NAME=scalar|sse41|..., a name of isa.h.
#include "kernels/attention_kernels.h"
#include "kernels/float_kernels.h"
#include "kernels/int8_dots.h"
#include "kernels/qs8_qc2w_gemm.h"

#define TI_QAT_JOIN_EXPANDED(prefix, suffix) prefix##suffix
#define TI_QAT_JOIN(prefix, suffix) TI_QAT_JOIN_EXPANDED(prefix, suffix)

namespace ti_qat {
extern const KernelTable TI_QAT_JOIN(kernels__, TI_QAT_ISA_NAME) = {
    &TI_QAT_JOIN(qs8_qc2w_gemm__, TI_QAT_ISA_NAME),
    quantize_all,
    quantize_per_token,
    attention_scores,
    attention_context,
    attention,
    softmax,
    layer_norm,
    add_layer_norm,
    gelu_all,
    tanh_all,
    embed,
    classify,
    int8_dots,
};

}  // namespace ti_qat
