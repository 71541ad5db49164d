// The operator table as ONNX Runtime custom operators.
#pragma once

#include "kernels/isa.h"
#include "ort/api.h"

namespace ti_qat {

constexpr const char* kDomain = "ti_qat";

// kOperatorCount custom operators that compute with the kernels of `isa`; they live as long as the process.
const OrtCustomOp* custom_op(Isa isa, size_t index);

}  // namespace ti_qat
