#include "kernels/drive.h"

#include <cstdio>
#include <exception>

#include "kernels/packed_input.h"

namespace ti_qat {
namespace {

void run_serially(void*, Parallel::Task task, size_t count, void* user) {
  for (size_t i = 0; i < count; ++i) task(user, i);
}

Operand operand_of(const TiQatTensor& tensor) {
  if (tensor.rank < 0 || tensor.rank > static_cast<int32_t>(kMaxRank)) throw OperatorError("rank is not 0 to 8");
  if (tensor.type < 0 || tensor.type > static_cast<int32_t>(ElementType::kInt32)) throw OperatorError("unknown type");
  Operand operand;
  operand.type = static_cast<ElementType>(tensor.type);
  operand.shape.rank = static_cast<size_t>(tensor.rank);
  for (size_t i = 0; i < operand.shape.rank; ++i) operand.shape.dims[i] = tensor.dims[i];
  operand.data = tensor.data;
  return operand;
}

void describe(const OperatorSpec& spec, const Output* results, TiQatTensor* outputs) {
  for (size_t i = 0; i < spec.output_count; ++i) {
    outputs[i].type = static_cast<int32_t>(spec.output_types[i]);
    outputs[i].rank = static_cast<int32_t>(results[i].shape.rank);
    for (size_t d = 0; d < results[i].shape.rank; ++d) outputs[i].dims[d] = results[i].shape.dims[d];
  }
}

void run(const char* name, const char* isa, int64_t heads, const TiQatTensor* inputs, size_t input_count,
         TiQatTensor* outputs, size_t output_count) {
  const OperatorSpec* spec = find_operator(name);
  if (spec == nullptr) throw OperatorError(std::string("no operator named ") + name);
  if (input_count != spec->input_count || output_count != spec->output_count) {
    throw OperatorError(std::string(name) + ": wrong number of inputs or outputs");
  }
  const KernelTable& kernels = kernels_of(choose_isa(isa));
  Request request;
  request.heads = heads;
  for (size_t i = 0; i < input_count; ++i) {
    request.inputs[i] = operand_of(inputs[i]);
    check_operand(*spec, i, request.inputs[i]);
    if (spec->input_types[i] == ElementType::kUint8) PackedInput(*spec, i, request.inputs[i], request.packing);
  }
  Output results[kMaxOutputs];
  spec->prepare(request, results);
  check_outputs(*spec, results);
  const bool only_describe = outputs[0].data == nullptr;
  describe(*spec, results, outputs);
  if (only_describe) return;
  for (size_t i = 0; i < output_count; ++i) results[i].data = outputs[i].data;
  spec->run(request, results, kernels, Parallel(run_serially, nullptr, 1));
}

}  // namespace
}  // namespace ti_qat

int ti_qat_run_operator(const char* name, const char* isa, int64_t heads, const TiQatTensor* inputs, size_t input_count,
                        TiQatTensor* outputs, size_t output_count, char* error, size_t error_bytes) {
  try {
    ti_qat::run(name, isa, heads, inputs, input_count, outputs, output_count);
    return 0;
  } catch (const std::exception& exception) {
    std::snprintf(error, error_bytes, "%s", exception.what());
  } catch (...) {
    std::snprintf(error, error_bytes, "unknown error");
  }
  return 1;
}

int ti_qat_isa_supported(const char* isa) {
  for (int i = 0; i < ti_qat::kIsaCount; ++i) {
    const ti_qat::Isa candidate = static_cast<ti_qat::Isa>(i);
    if (std::string(ti_qat::isa_name(candidate)) == isa) return ti_qat::isa_supported(candidate) ? 1 : 0;
  }
  return -1;
}
