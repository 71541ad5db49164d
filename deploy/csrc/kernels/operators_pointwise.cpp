#include "kernels/operators_pointwise.h"

#include <cmath>

#include "kernels/operator_checks.h"

namespace ti_qat {
namespace {

constexpr size_t kElementsPerTask = size_t{1} << 14;

enum QuantizeInput { kX, kScale };
enum LayerNormInput { kNormX, kGamma, kBeta, kEpsilon };

size_t rows_per_task(size_t width) {
  return kElementsPerTask / width + 1;
}

using Pointwise = void (*)(const float* x, size_t count, float* y);

void run_pointwise(const Request& request, Output* outputs, Pointwise kernel, const Parallel& parallel) {
  const float* x = request.inputs[kX].floats();
  float* y = static_cast<float*>(outputs[0].data);
  parallel.for_ranges(static_cast<size_t>(request.inputs[kX].shape.elements()), kElementsPerTask,
                      [&](size_t begin, size_t end) { kernel(x + begin, end - begin, y + begin); });
}

}  // namespace

void prepare_quantize(const Request& request, Output* outputs) {
  expect_shared_scale("scale", request.inputs[kScale]);
  outputs[0].shape = request.inputs[kX].shape;
}

void run_quantize(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel) {
  const float* x = request.inputs[kX].floats();
  const float scale = request.inputs[kScale].floats()[0];
  int8_t* codes = static_cast<int8_t*>(outputs[0].data);
  parallel.for_ranges(
      static_cast<size_t>(request.inputs[kX].shape.elements()), kElementsPerTask,
      [&](size_t begin, size_t end) { kernels.quantize(x + begin, end - begin, scale, codes + begin); });
}

void prepare_quantize_per_token(const Request& request, Output* outputs) {
  outputs[0].shape = request.inputs[kX].shape;
  outputs[1].shape = request.inputs[kX].shape.with_back(1);
}

void run_quantize_per_token(const Request& request, Output* outputs, const KernelTable& kernels,
                            const Parallel& parallel) {
  const size_t width = static_cast<size_t>(request.inputs[kX].shape.back());
  const float* x = request.inputs[kX].floats();
  int8_t* codes = static_cast<int8_t*>(outputs[0].data);
  float* scales = static_cast<float*>(outputs[1].data);
  parallel.for_ranges(
      static_cast<size_t>(request.inputs[kX].shape.rows()), rows_per_task(width), [&](size_t begin, size_t end) {
        kernels.quantize_per_token(x + begin * width, end - begin, width, codes + begin * width, scales + begin);
      });
}

void prepare_layer_norm(const Request& request, Output* outputs) {
  const Shape& x = request.inputs[kNormX].shape;
  expect_shape("gamma", request.inputs[kGamma].shape, vector_of(x.back()));
  expect_shape("beta", request.inputs[kBeta].shape, vector_of(x.back()));
  expect_shape("epsilon", request.inputs[kEpsilon].shape, vector_of(1));
  outputs[0].shape = x;
}

void run_layer_norm(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel) {
  const Operand* in = request.inputs;
  const size_t width = static_cast<size_t>(in[kNormX].shape.back());
  float* y = static_cast<float*>(outputs[0].data);
  parallel.for_ranges(static_cast<size_t>(in[kNormX].shape.rows()), rows_per_task(width),
                      [&](size_t begin, size_t end) {
                        kernels.layer_norm(in[kNormX].floats() + begin * width, end - begin, width, in[kGamma].floats(),
                                           in[kBeta].floats(), in[kEpsilon].floats()[0], y + begin * width);
                      });
}

void prepare_pointwise(const Request& request, Output* outputs) {
  outputs[0].shape = request.inputs[kX].shape;
}

void run_gelu(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel) {
  run_pointwise(request, outputs, kernels.gelu, parallel);
}

void run_tanh(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel) {
  run_pointwise(request, outputs, kernels.tanh, parallel);
}

}  // namespace ti_qat
