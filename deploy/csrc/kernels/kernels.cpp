#include "kernels/kernels.h"

namespace ti_qat {

const KernelTable& kernels_of(Isa isa) {
#if defined(TI_QAT_X86)
  if (isa == Isa::kAvx512Vnni) return kernels__avx512vnni;
  if (isa == Isa::kAvxVnni) return kernels__avxvnni;
  if (isa == Isa::kAvx2) return kernels__avx2;
  if (isa == Isa::kSse41) return kernels__sse41;
#elif defined(TI_QAT_AARCH64)
  if (isa == Isa::kNeonDot) return kernels__neondot;
  if (isa == Isa::kNeon) return kernels__neon;
#endif
  (void)isa;
  return kernels__scalar;
}

}  // namespace ti_qat
