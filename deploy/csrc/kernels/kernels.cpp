#include "kernels/kernels.h"

namespace ti_qat {

const KernelTable& kernels_of(Isa isa) {
#if defined(TI_QAT_X86)
  if (isa == Isa::kAvx512Vnni) return kernels__avx512vnni;
  if (isa == Isa::kAvx2) return kernels__avx2;
#endif
  (void)isa;
  return kernels__scalar;
}

}  // namespace ti_qat
