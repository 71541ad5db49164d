#include "kernels/operator.h"

namespace ti_qat {

const char* element_type_name(ElementType type) {
  constexpr const char* kTypeNames[] = {"float32", "uint8", "int8", "int32"};
  return kTypeNames[static_cast<int32_t>(type)];
}

size_t element_bytes(ElementType type) {
  return type == ElementType::kFloat32 || type == ElementType::kInt32 ? 4 : 1;
}

bool Shape::operator==(const Shape& other) const {
  if (rank != other.rank) return false;
  for (size_t i = 0; i < rank; ++i) {
    if (dims[i] != other.dims[i]) return false;
  }
  return true;
}

Shape Shape::with_back(int64_t dim) const {
  Shape shape = *this;
  shape.dims[rank - 1] = dim;
  return shape;
}

int64_t Shape::elements() const {
  int64_t product = 1;
  for (size_t i = 0; i < rank; ++i) product *= dims[i];
  return product;
}

int64_t Shape::rows() const {
  int64_t product = 1;
  for (size_t i = 0; i + 1 < rank; ++i) product *= dims[i];
  return product;
}

std::string Shape::text() const {
  std::string text = "(";
  for (size_t i = 0; i < rank; ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + ")";
}

const OperatorSpec* find_operator(const std::string& name) {
  for (const OperatorSpec& spec : kOperators) {
    if (name == spec.name) return &spec;
  }
  return nullptr;
}

void check_elements(const std::string& where, const Shape& shape) {
  constexpr int64_t kMaxElements = int64_t{1} << 40;
  int64_t elements = 1;
  for (size_t i = 0; i < shape.rank; ++i) {
    const int64_t dim = shape.dims[i];
    if (dim < 1 || dim > kMaxElements / elements) {
      throw OperatorError(where + "expected 1 to 2^40 elements, found shape " + shape.text());
    }
    elements *= dim;
  }
}

void check_operand(const OperatorSpec& spec, size_t index, const Operand& operand) {
  const std::string where = std::string(spec.name) + ": " + spec.input_names[index] + ": ";
  if (operand.type != spec.input_types[index]) {
    throw OperatorError(where + "expected " + element_type_name(spec.input_types[index]) + ", found " +
                        element_type_name(operand.type));
  }
  if (operand.shape.rank < 1) throw OperatorError(where + "expected rank 1 or more, found a scalar");
  check_elements(where, operand.shape);
  const size_t bytes = element_bytes(operand.type);
  if (reinterpret_cast<uintptr_t>(operand.data) % bytes != 0) {
    throw OperatorError(where + "expected data at a multiple of " + std::to_string(bytes) + " bytes");
  }
}

void check_outputs(const OperatorSpec& spec, const Output* outputs) {
  for (size_t i = 0; i < spec.output_count; ++i) {
    check_elements(std::string(spec.name) + ": result: ", outputs[i].shape);
  }
}

void check_packed_fields(const Operand& packed) {
  const uint8_t* bytes = packed.packed();
  const int64_t count = packed.shape.elements();
  unsigned forbidden = 0;
  for (int64_t i = 0; i < count; ++i) forbidden |= bytes[i] & (bytes[i] >> 1) & 0x55u;
  if (forbidden == 0) return;
  int64_t at = 0;
  while ((bytes[at] & (bytes[at] >> 1) & 0x55u) == 0) ++at;
  throw OperatorError("packed codes: byte " + std::to_string(at) + " holds the field 0b11, which is no ternary code");
}

}  // namespace ti_qat
