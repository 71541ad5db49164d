// A plain C entry that runs one operator without ONNX Runtime: what the tests and benchmarks call.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct TiQatTensor {
  int32_t type;  // ti_qat::ElementType
  int32_t rank;
  int64_t dims[8];
  void* data;  // of an output: null on the first call, which only fills in type, rank and dims
};

// Runs operator `name` on one thread with instruction set `isa` ("" for the automatic choice). Returns 0, or 1 with
// a message in `error`.
__attribute__((visibility("default"))) int ti_qat_run_operator(const char* name, const char* isa, int64_t heads,
                                                               const TiQatTensor* inputs, size_t input_count,
                                                               TiQatTensor* outputs, size_t output_count, char* error,
                                                               size_t error_bytes);

// 1 if this machine can run the instruction set, 0 if it cannot, -1 if there is none of that name.
__attribute__((visibility("default"))) int ti_qat_isa_supported(const char* isa);
}
