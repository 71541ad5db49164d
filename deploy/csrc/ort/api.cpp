#include "ort/api.h"

namespace ti_qat {
namespace {

ElementType element_type(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
      return ElementType::kFloat32;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
      return ElementType::kUint8;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
      return ElementType::kInt8;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
      return ElementType::kInt32;
    default:
      throw OperatorError("unsupported element type " + std::to_string(static_cast<int>(type)));
  }
}

// Releases a description of a tensor at the end of the scope.
class TensorInfo {
 public:
  TensorInfo(const OrtApi& api, const OrtValue* value) : api_(api) { check(api.GetTensorTypeAndShape(value, &info_)); }
  ~TensorInfo() { api_.ReleaseTensorTypeAndShapeInfo(info_); }
  TensorInfo(const TensorInfo&) = delete;
  TensorInfo& operator=(const TensorInfo&) = delete;
  const OrtTensorTypeAndShapeInfo* get() const { return info_; }

 private:
  const OrtApi& api_;
  OrtTensorTypeAndShapeInfo* info_ = nullptr;
};

}  // namespace

ONNXTensorElementDataType onnx_type(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case ElementType::kUint8:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    case ElementType::kInt8:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
    case ElementType::kInt32:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

Operand operand_of(const OrtApi& api, const OrtValue* value) {
  if (value == nullptr) throw OperatorError("an input is missing");
  const TensorInfo info(api, value);
  Operand operand;
  ONNXTensorElementDataType type;
  check(api.GetTensorElementType(info.get(), &type));
  operand.type = element_type(type);
  check(api.GetDimensionsCount(info.get(), &operand.shape.rank));
  if (operand.shape.rank > kMaxRank) throw OperatorError("a tensor has more than 8 dimensions");
  check(api.GetDimensions(info.get(), operand.shape.dims, operand.shape.rank));
  void* data = nullptr;
  // The interface has no read-only access to a tensor; nothing is written through this pointer.
  check(api.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  operand.data = data;
  return operand;
}

}  // namespace ti_qat
