// int8 x ternary matrix product in plain C++: the reference, and the kernel of any other processor.
#include <cstring>

#include "kernels/integer_dot.h"
#include "kernels/qs8_qc2w_gemm.h"
#include "kernels/scratch.h"

namespace ti_qat {
namespace {

size_t packed_bytes(size_t tiles, size_t k) {
  return tiles * kTileRows * padded_length(k) * sizeof(int16_t);
}

void pack(const TernaryGemm& gemm, void* packed, size_t begin, size_t end) {
  const size_t first = begin * kTileRows;
  const size_t last = end * kTileRows < gemm.m ? end * kTileRows : gemm.m;
  int16_t* dst = static_cast<int16_t*>(packed) + first * padded_length(gemm.k);
  widen_rows(gemm.x + first * gemm.k, last - first, gemm.k, gemm.k, dst);
}

// The four codes of every packed byte.
struct ByteCodes {
  int16_t codes[256][4];

  constexpr ByteCodes() : codes() {
    for (int byte = 0; byte < 256; ++byte) {
      for (int f = 0; f < 4; ++f) codes[byte][f] = static_cast<int16_t>(((byte >> (2 * f)) & 3) - 1);
    }
  }
};

constexpr ByteCodes kByteCodes;

// dst (kPanelChannels, padded_length(k)); channels that do not exist hold zeros
void unpack_panel(const TernaryGemm& gemm, size_t channel, size_t channels, int16_t* dst) {
  const size_t row_bytes = (gemm.k + 3) / 4, padded = padded_length(gemm.k);
  for (size_t c = 0; c < kPanelChannels; ++c, dst += padded) {
    const size_t bytes = c < channels ? row_bytes : 0;
    const uint8_t* row = gemm.w + (channel + c) * row_bytes;
    for (size_t b = 0; b < bytes; ++b) std::memcpy(dst + 4 * b, kByteCodes.codes[row[b]], sizeof kByteCodes.codes[0]);
    for (size_t i = 4 * bytes; i < padded; ++i) dst[i] = 0;
  }
}

void multiply(const TernaryGemm& gemm, const void* packed, size_t panel, size_t begin, size_t end) {
  const size_t padded = padded_length(gemm.k);
  const size_t channel = panel * kPanelChannels;
  const size_t channels = gemm.n - channel < kPanelChannels ? gemm.n - channel : kPanelChannels;
  const Scratch scratch(kPanelChannels * padded * sizeof(int16_t));
  int16_t* weights = static_cast<int16_t*>(scratch.data());
  unpack_panel(gemm, channel, channels, weights);
  const size_t first = begin * kTileRows;
  const size_t last = end * kTileRows < gemm.m ? end * kTileRows : gemm.m;
  const int16_t* x = static_cast<const int16_t*>(packed) + first * padded;
  for_each_dot(x, last - first, weights, channels, padded, [&gemm, first, channel](size_t r, size_t c, int32_t sum) {
    const size_t row = first + r, column = channel + c;
    const float scale = x_scale_of(gemm, row) * w_scale_of(gemm, column);
    gemm.y[row * gemm.n + column] = static_cast<float>(sum) * scale + gemm.bias[column];
  });
}

}  // namespace

extern const GemmKernel qs8_qc2w_gemm__scalar = {packed_bytes, pack, multiply};

}  // namespace ti_qat
