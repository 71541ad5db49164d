// Checked calls to ONNX Runtime and its tensors as operands.
#pragma once

#include "kernels/operator.h"
#include "ort/ort_c_api.h"

namespace ti_qat {

// A status that ONNX Runtime returned; carried up as an exception and handed back unchanged.
class OrtFailure {
 public:
  explicit OrtFailure(OrtStatus* failed) : status(failed) {}
  OrtStatus* status;
};

inline void check(OrtStatus* status) {
  if (status != nullptr) throw OrtFailure(status);
}

ONNXTensorElementDataType onnx_type(ElementType type);

// Type, shape and data of a tensor. Throws OperatorError for a type or rank that no operator takes.
Operand operand_of(const OrtApi& api, const OrtValue* value);

// Runs `body` and turns what it throws into a status; null if it throws nothing.
template <typename Body>
OrtStatus* status_of(const OrtApi& api, const Body& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const OrtFailure& failure) {
    return failure.status;
  } catch (const std::exception& exception) {
    return api.CreateStatus(ORT_INVALID_ARGUMENT, exception.what());
  } catch (...) {
    return api.CreateStatus(ORT_FAIL, "ti_qat: unknown error");
  }
}

}  // namespace ti_qat
