// Operators: the kernels behind checked shapes. One table row each; whoever runs them (the ONNX Runtime
// glue, the tests) reads the row and knows nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "kernels/kernels.h"
#include "kernels/parallel.h"

namespace ti_qat {

enum class ElementType : int32_t { kFloat32 = 0, kUint8 = 1, kInt8 = 2, kInt32 = 3 };

const char* element_type_name(ElementType type);
size_t element_bytes(ElementType type);

// An operand that breaks the operator's contract: says which, what was expected and what was found.
class OperatorError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

constexpr size_t kMaxRank = 8;
constexpr size_t kMaxInputs = 24;
constexpr size_t kMaxOutputs = 2;

struct Shape {
  size_t rank = 0;
  int64_t dims[kMaxRank] = {};

  bool operator==(const Shape& other) const;
  int64_t back() const { return dims[rank - 1]; }
  Shape with_back(int64_t dim) const;
  // Product of the dimensions (of all but the last, for `rows`), which check_operand has bounded.
  int64_t elements() const;
  int64_t rows() const;
  std::string text() const;
};

struct Operand {
  ElementType type = ElementType::kFloat32;
  Shape shape;
  const void* data = nullptr;

  const float* floats() const { return static_cast<const float*>(data); }
  const int8_t* codes() const { return static_cast<const int8_t*>(data); }
  const uint8_t* packed() const { return static_cast<const uint8_t*>(data); }
  const int32_t* ints() const { return static_cast<const int32_t*>(data); }
};

struct Request {
  Operand inputs[kMaxInputs];
  int64_t heads = 0;    // attribute of the attention operators
  int64_t packing = 4;  // attribute of the operators that read packed codes: codes a byte, 4 or 5
};

struct Output {
  Shape shape;
  void* data = nullptr;
};

// An input of type kUint8 holds packed ternary codes.
struct OperatorSpec {
  const char* name;
  size_t input_count;
  const char* input_names[kMaxInputs];
  ElementType input_types[kMaxInputs];
  size_t output_count;
  ElementType output_types[kMaxOutputs];
  bool has_heads;
  // Checks shapes and values and gives the shapes of the outputs. Throws OperatorError.
  void (*prepare)(const Request& request, Output* outputs);
  // Computes the outputs; prepare() has passed.
  void (*run)(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel);
};

constexpr size_t kOperatorCount = 16;
extern const OperatorSpec kOperators[kOperatorCount];

// The row named `name`, or null.
const OperatorSpec* find_operator(const std::string& name);

// Products of sizes that pass the checks, in bytes too, stay inside size_t.
static_assert(sizeof(size_t) >= sizeof(int64_t), "a machine of 64 bits");

// Throws OperatorError unless every dimension is at least 1 and there are at most 2^40 elements.
void check_elements(const std::string& where, const Shape& shape);

// The same for the results that prepare() gave.
void check_outputs(const OperatorSpec& spec, const Output* outputs);

// Type, rank, size and alignment limits that hold for every operand. Throws OperatorError.
void check_operand(const OperatorSpec& spec, size_t index, const Operand& operand);

// Throws OperatorError if a two-bit field of the packed codes holds 3.
void check_packed_fields(const Operand& packed);

}  // namespace ti_qat
