// How fast this machine multiplies int8 codes, measured.
#include "kernels/int8_peak.h"

#include <chrono>

#include "kernels/kernels.h"

namespace ti_qat {
namespace {

constexpr uint64_t kRoundsAtOnce = 2000;
constexpr double kSliceSeconds = 0.008;
constexpr int kSlices = 6;  // the first one warms up: clocks and upper halves of registers wake

double slice_rate(uint64_t (*dots)(uint64_t)) {
  using Clock = std::chrono::steady_clock;
  uint64_t macs = 0;
  const Clock::time_point start = Clock::now();
  double seconds = 0;
  do {
    macs += dots(kRoundsAtOnce);
    seconds = std::chrono::duration<double>(Clock::now() - start).count();
  } while (seconds < kSliceSeconds);
  return static_cast<double>(macs) / seconds;
}

}  // namespace
}  // namespace ti_qat

double ti_qat_int8_peak_macs_per_second(const char* isa) {
  try {
    const ti_qat::KernelTable& kernels = ti_qat::kernels_of(ti_qat::choose_isa(isa));
    double best = 0;
    for (int slice = 0; slice < ti_qat::kSlices; ++slice) {
      const double rate = ti_qat::slice_rate(kernels.int8_dots);
      if (slice > 0 && rate > best) best = rate;
    }
    return best;
  } catch (...) {
    return -1;
  }
}
