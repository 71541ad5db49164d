// Inputs of packed ternary codes: checked, and in the form that the kernels read.
#pragma once

#include <memory>

#include "kernels/operator.h"
#include "kernels/scratch.h"

namespace ti_qat {

// The attribute `packing`: codes a byte.
constexpr int64_t kTwoBitPacking = 4;
constexpr int64_t kBase3Packing = 5;

// Throws OperatorError unless `packing` is one of the two.
void check_packing(const OperatorSpec& spec, int64_t packing);

// One packed input. At 1.6 bits a linear's weight, (panels, bytes), is unpacked to panels (panels, words, 32, 4); a
// table whose rows are gathered stays as it is.
class PackedInput {
 public:
  // Throws OperatorError for bytes that hold no codes, and for a shape or padding that no weight has.
  PackedInput(const OperatorSpec& spec, size_t index, const Operand& packed, int64_t packing);

  // Whether the operator reads `unpacked` instead of the input itself.
  bool is_unpacked() const { return bytes_ != nullptr; }
  Operand unpacked() const;

 private:
  void unpack_panels(const std::string& where, const Operand& packed);

  Shape shape_;
  std::unique_ptr<Scratch> bytes_;
};

}  // namespace ti_qat
