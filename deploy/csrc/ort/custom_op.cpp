#include "ort/custom_op.h"

#include "kernels/packed_input.h"

namespace ti_qat {
namespace {

struct TernaryOp : OrtCustomOp {
  const OperatorSpec* spec;
  const KernelTable* kernels;
  size_t threads;
};

// What a node keeps between calls.
struct Node {
  const OrtApi* api;
  const TernaryOp* op;
  int64_t heads;
  int64_t packing;
  std::unique_ptr<const PackedInput> constants[kMaxInputs];  // packed inputs that are constants of the model
};

const OperatorSpec& spec_of(const OrtCustomOp* op) {
  return *static_cast<const TernaryOp*>(op)->spec;
}

// Checks, and at 1.6 bits unpacks, packed codes that are a constant of the model once, when the node is made.
std::unique_ptr<const PackedInput> packed_constant(const OrtKernelInfo* info, const Node& node, size_t index) {
  int is_constant = 0;
  const OrtValue* value = nullptr;
  check(node.api->KernelInfoGetConstantInput_tensor(info, index, &is_constant, &value));
  if (!is_constant) return nullptr;
  const Operand packed = operand_of(*node.api, value);
  check_operand(*node.op->spec, index, packed);
  return std::make_unique<const PackedInput>(*node.op->spec, index, packed, node.packing);
}

// The attribute `packing`, or its default: models from before it lack it.
int64_t packing_of(const OrtApi& api, const OrtKernelInfo* info) {
  int64_t packing = kTwoBitPacking;
  OrtStatus* missing = api.KernelInfoGetAttribute_int64(info, "packing", &packing);
  if (missing == nullptr) return packing;
  api.ReleaseStatus(missing);
  return kTwoBitPacking;
}

OrtStatusPtr create_kernel(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info, void** kernel) {
  return status_of(*api, [&] {
    auto node = std::make_unique<Node>();
    node->api = api;
    node->op = static_cast<const TernaryOp*>(op);
    node->heads = 0;
    if (spec_of(op).has_heads) check(api->KernelInfoGetAttribute_int64(info, "heads", &node->heads));
    const OperatorSpec& spec = spec_of(op);
    node->packing = packing_of(*api, info);
    check_packing(spec, node->packing);
    for (size_t i = 0; i < spec.input_count; ++i) {
      if (spec.input_types[i] == ElementType::kUint8) node->constants[i] = packed_constant(info, *node, i);
    }
    *kernel = node.release();
  });
}

struct Pool {
  const OrtApi* api;
  OrtKernelContext* context;
};

void run_on_pool(void* user, Parallel::Task task, size_t count, void* task_user) {
  const Pool& pool = *static_cast<Pool*>(user);
  if (count == 1) return task(task_user, 0);
  check(pool.api->KernelContext_ParallelFor(pool.context, task, count, 0, task_user));
}

// The inputs and attributes of one call; packed inputs that are no constants are checked and unpacked here.
class Call {
 public:
  Call(const Node& node, OrtKernelContext* context) {
    const OperatorSpec& spec = *node.op->spec;
    request_.heads = node.heads;
    request_.packing = node.packing;
    for (size_t i = 0; i < spec.input_count; ++i) {
      const OrtValue* value = nullptr;
      check(node.api->KernelContext_GetInput(context, i, &value));
      request_.inputs[i] = operand_of(*node.api, value);
      check_operand(spec, i, request_.inputs[i]);
      if (spec.input_types[i] == ElementType::kUint8) read_packed(node, i);
    }
  }

  const Request& request() const { return request_; }

 private:
  void read_packed(const Node& node, size_t index) {
    Operand& operand = request_.inputs[index];
    if (!node.constants[index]) {
      variables_[index] = std::make_unique<const PackedInput>(*node.op->spec, index, operand, node.packing);
    }
    const PackedInput& packed = node.constants[index] ? *node.constants[index] : *variables_[index];
    if (packed.is_unpacked()) operand = packed.unpacked();
  }

  Request request_;
  std::unique_ptr<const PackedInput> variables_[kMaxInputs];
};

OrtStatusPtr compute(void* kernel, OrtKernelContext* context) {
  const Node& node = *static_cast<const Node*>(kernel);
  const OrtApi& api = *node.api;
  const OperatorSpec& spec = *node.op->spec;
  return status_of(api, [&] {
    size_t input_count = 0;
    check(api.KernelContext_GetInputCount(context, &input_count));
    if (input_count != spec.input_count) throw OperatorError(std::string(spec.name) + ": wrong number of inputs");
    const Call call(node, context);
    Output outputs[kMaxOutputs];
    spec.prepare(call.request(), outputs);
    check_outputs(spec, outputs);
    for (size_t i = 0; i < spec.output_count; ++i) {
      OrtValue* value = nullptr;
      check(api.KernelContext_GetOutput(context, i, outputs[i].shape.dims, outputs[i].shape.rank, &value));
      check(api.GetTensorMutableData(value, &outputs[i].data));
    }
    Pool pool{&api, context};
    spec.run(call.request(), outputs, *node.op->kernels, Parallel(run_on_pool, &pool, node.op->threads));
  });
}

TernaryOp make_op(const OperatorSpec& spec, Isa isa, size_t threads) {
  TernaryOp op = {};
  op.spec = &spec;
  op.kernels = &kernels_of(isa);
  op.threads = threads;
  op.version = kOrtApiVersion;
  op.GetName = [](const OrtCustomOp* self) { return spec_of(self).name; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  op.GetInputTypeCount = [](const OrtCustomOp* self) { return spec_of(self).input_count; };
  op.GetInputType = [](const OrtCustomOp* self, size_t i) { return onnx_type(spec_of(self).input_types[i]); };
  op.GetOutputTypeCount = [](const OrtCustomOp* self) { return spec_of(self).output_count; };
  op.GetOutputType = [](const OrtCustomOp* self, size_t i) { return onnx_type(spec_of(self).output_types[i]); };
  op.GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
  op.GetVariadicInputMinArity = op.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicInputHomogeneity = op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.CreateKernelV2 = create_kernel;
  op.KernelComputeV2 = compute;
  op.KernelDestroy = [](void* kernel) { delete static_cast<Node*>(kernel); };
  op.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  op.GetEndVersion = [](const OrtCustomOp*) { return INT32_MAX; };
  return op;
}

}  // namespace

struct CustomOps::Table {
  TernaryOp ops[kOperatorCount];
};

CustomOps::CustomOps(Isa isa, size_t threads) : table_(std::make_unique<Table>()) {
  for (size_t i = 0; i < kOperatorCount; ++i) table_->ops[i] = make_op(kOperators[i], isa, threads);
}

CustomOps::~CustomOps() = default;

const OrtCustomOp* CustomOps::at(size_t index) const {
  return &table_->ops[index];
}

}  // namespace ti_qat
