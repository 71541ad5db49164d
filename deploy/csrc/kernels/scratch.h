// Working memory of one kernel call, aligned to a cache line.
#pragma once

#include <cstddef>

namespace ti_qat {

// Defined out of line: the kernels are compiled once per instruction set, and an inline function
// shared by those translation units could be linked from one that the machine cannot run.
class Scratch {
 public:
  explicit Scratch(size_t bytes);  // throws std::bad_alloc
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* data() const;

 private:
  void* data_;
};

}  // namespace ti_qat
