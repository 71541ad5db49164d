#include "kernels/block_stages.h"
#include "kernels/operator_checks.h"
#include "kernels/operators_blocks.h"
#include "kernels/operators_linear.h"

namespace ti_qat {

void prepare_embedding_norm(const Request& request, Output* outputs) {
  prepare_ternary_embedding(request, outputs);
  constexpr size_t kFirst = 6;
  const Operand* in = request.inputs + kFirst;
  const NormOperands norm = {in, in + 1, in + 2};
  norm.expect(outputs[0].shape.back());
  expect_shape("lengths", in[3].shape, vector_of(outputs[0].shape.dims[0]));
  expect_ints_in("lengths", in[3], 1, outputs[0].shape.dims[1]);
}

void run_embedding_norm(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel) {
  constexpr size_t kFirst = 6;
  const Operand* norm = request.inputs + kFirst;
  const Shape& shape = outputs[0].shape;
  const ValidTokens tokens(norm[3], shape);
  const size_t hidden = static_cast<size_t>(shape.back());
  float* y = static_cast<float*>(outputs[0].data);
  zero_padding(tokens, shape, y);
  parallel.for_ranges(tokens.count(), tokens_per_task(hidden), [&](size_t begin, size_t end) {
    const Scratch embedded(hidden * sizeof(float));
    for (size_t t = begin; t < end; ++t) {
      embed_token(request, tokens.padded[t], kernels, static_cast<float*>(embedded.data()));
      kernels.layer_norm(static_cast<const float*>(embedded.data()), 1, hidden, norm[0].floats(), norm[1].floats(),
                         norm[2].floats()[0], y + tokens.padded[t] * hidden);
    }
  });
}

}  // namespace ti_qat
