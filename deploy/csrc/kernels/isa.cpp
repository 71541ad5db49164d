#include "kernels/isa.h"

#include <cstdint>
#include <cstdlib>

#if defined(TI_QAT_X86) && !defined(TI_QAT_EMULATED)
#include <cpuid.h>
#elif defined(TI_QAT_AARCH64)
#include <sys/auxv.h>
#endif

namespace ti_qat {
namespace {

constexpr const char* kNames[kIsaCount] = {"scalar", "sse41", "avx2", "avxvnni", "avx512vnni", "neon", "neondot"};

#if defined(TI_QAT_EMULATED)

// The kernels are compiled as portable code, for tests.
bool detect(Isa isa) {
  return isa < Isa::kNeon;
}

#elif defined(TI_QAT_X86)

bool has(uint32_t value, unsigned bit) {
  return (value >> bit) & 1u;
}

// The register states that the operating system saves on a context switch (XCR0); 0 without XSAVE.
uint64_t saved_states() {
  uint32_t a, b, c, d;
  constexpr unsigned kOsXsave = 27;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, kOsXsave)) return 0;
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

bool detect(Isa isa) {
  if (isa == Isa::kScalar) return true;
  uint32_t a, b, c, d;
  if (isa == Isa::kSse41) return __get_cpuid(1, &a, &b, &c, &d) && has(c, 9) && has(c, 19);  // SSSE3, SSE4.1
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr uint64_t kYmmState = 0x6, kZmmState = 0xe6;  // XMM | YMM; and opmask | ZMM_Hi256 | Hi16_ZMM
  const uint64_t states = saved_states();
  const bool avx2 = has(b, 5) && (states & kYmmState) == kYmmState;
  if (isa == Isa::kAvx2) return avx2;
  if (isa == Isa::kAvxVnni) {
    uint32_t extended, unused;
    return avx2 && __get_cpuid_count(7, 1, &extended, &unused, &unused, &unused) && has(extended, 4);
  }
  if (isa != Isa::kAvx512Vnni) return false;
  const bool foundation = has(b, 16) && has(b, 17) && has(b, 30) && has(b, 31);  // F, DQ, BW, VL
  const bool vnni = has(c, 11);
  return avx2 && foundation && vnni && (states & kZmmState) == kZmmState;
}

#elif defined(TI_QAT_AARCH64)

bool detect(Isa isa) {
  constexpr unsigned long kDotProduct = 1ul << 20;  // HWCAP_ASIMDDP; every processor of the family has NEON
  if (isa == Isa::kNeonDot) return (getauxval(AT_HWCAP) & kDotProduct) != 0;
  return isa == Isa::kNeon || isa == Isa::kScalar;
}

#else

bool detect(Isa isa) {
  return isa == Isa::kScalar;
}

#endif

std::string supported_names() {
  std::string names;
  for (int i = 0; i < kIsaCount; ++i) {
    if (!isa_supported(static_cast<Isa>(i))) continue;
    if (!names.empty()) names += ", ";
    names += kNames[i];
  }
  return names;
}

}  // namespace

const char* isa_name(Isa isa) {
  return kNames[static_cast<int>(isa)];
}

bool isa_supported(Isa isa) {
  struct Supported {
    bool values[kIsaCount];
    Supported() {
      for (int i = 0; i < kIsaCount; ++i) values[i] = detect(static_cast<Isa>(i));
    }
  };
  static const Supported supported;
  return supported.values[static_cast<int>(isa)];
}

Isa best_isa() {
  for (int i = kIsaCount - 1; i > 0; --i) {
    if (isa_supported(static_cast<Isa>(i))) return static_cast<Isa>(i);
  }
  return Isa::kScalar;
}

Isa choose_isa(const std::string& name) {
  const char* variable = std::getenv(kIsaVariable);
  const bool from_variable = name.empty() && variable != nullptr && *variable != '\0';
  const std::string wanted = from_variable ? variable : name;
  if (wanted.empty()) return best_isa();
  const std::string source = from_variable ? kIsaVariable : "isa";
  for (int i = 0; i < kIsaCount; ++i) {
    if (wanted != kNames[i]) continue;
    if (isa_supported(static_cast<Isa>(i))) return static_cast<Isa>(i);
    throw IsaError(source + ": this machine does not support " + wanted + "; it supports " + supported_names());
  }
  throw IsaError(source + ": unknown instruction set \"" + wanted + "\"; this machine supports " + supported_names());
}

}  // namespace ti_qat
