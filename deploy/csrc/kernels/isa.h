// Instruction sets that the kernels are compiled for, and the choice of one at run time.
#pragma once

#include <stdexcept>
#include <string>

namespace ti_qat {

// Within a processor family a later one is preferred to those before it.
enum class Isa { kScalar, kSse41, kAvx2, kAvxVnni, kAvx512Vnni, kNeon, kNeonDot };
constexpr int kIsaCount = 7;

// Environment variable that forces an instruction set.
constexpr const char* kIsaVariable = "TI_QAT_ISA";

// A request for an instruction set that is not known, or that this machine does not have.
class IsaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// "scalar", "sse41", "avx2", "avxvnni", "avx512vnni", "neon" or "neondot".
const char* isa_name(Isa isa);

// Whether the kernels are built for the processor's family, it has the instructions, and the operating system saves
// the registers they use.
bool isa_supported(Isa isa);

// The last supported instruction set.
Isa best_isa();

// `name` if it is not empty, else $TI_QAT_ISA if that is set and not empty, else the best. Throws IsaError.
Isa choose_isa(const std::string& name);

}  // namespace ti_qat
