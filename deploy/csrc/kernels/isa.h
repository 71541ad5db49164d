// Instruction sets that the kernels are compiled for, and the choice of one at run time.
#pragma once

#include <stdexcept>
#include <string>

namespace ti_qat {

enum class Isa { kScalar = 0, kAvx2 = 1, kAvx512Vnni = 2 };
constexpr int kIsaCount = 3;

// Environment variable that forces an instruction set.
constexpr const char* kIsaVariable = "TI_QAT_ISA";

// A request for an instruction set that is not known, or that this machine does not have.
class IsaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// "scalar", "avx2" or "avx512vnni".
const char* isa_name(Isa isa);

// Whether the processor has the instructions and the operating system saves the registers they use.
bool isa_supported(Isa isa);

// The widest supported instruction set.
Isa best_isa();

// `name` if it is not empty, else $TI_QAT_ISA if that is set and not empty, else the best. Throws IsaError.
Isa choose_isa(const std::string& name);

}  // namespace ti_qat
