// The operator table as ONNX Runtime custom operators.
#pragma once

#include <memory>

#include "kernels/isa.h"
#include "ort/api.h"

namespace ti_qat {

constexpr const char* kDomain = "ti_qat";

// The operators with the kernels of `isa`, cut for `threads` threads. Sessions refer to them without owning them.
class CustomOps {
 public:
  CustomOps(Isa isa, size_t threads);
  ~CustomOps();
  CustomOps(const CustomOps&) = delete;
  CustomOps& operator=(const CustomOps&) = delete;

  const OrtCustomOp* at(size_t index) const;

 private:
  struct Table;
  std::unique_ptr<Table> table_;
};

}  // namespace ti_qat
