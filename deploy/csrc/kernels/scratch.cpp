#include "kernels/scratch.h"

#include <cstdlib>
#include <new>

namespace ti_qat {

constexpr size_t kCacheLineBytes = 64;

Scratch::Scratch(size_t bytes) {
  const size_t rounded = (bytes / kCacheLineBytes + 1) * kCacheLineBytes;
  data_ = std::aligned_alloc(kCacheLineBytes, rounded);
  if (data_ == nullptr) throw std::bad_alloc();
}

Scratch::~Scratch() {
  std::free(data_);
}

void* Scratch::data() const {
  return data_;
}

}  // namespace ti_qat
