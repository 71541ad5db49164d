// Stands in for the compiler's header in builds that emulate x86: SIMDe's portable code under the intrinsics' own
// names.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

// The VEX encoding of AVX-VNNI has names of its own.
#define _mm256_dpbusd_avx_epi32 simde_mm256_dpbusd_epi32
