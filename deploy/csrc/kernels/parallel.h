// How an operator spreads its work: any runner that calls every task once. No result depends on the
// order of the tasks or on the number of threads.
#pragma once

#include <cstddef>
#include <exception>
#include <mutex>

namespace ti_qat {

class Parallel {
 public:
  using Task = void (*)(void* user, size_t index);
  using Runner = void (*)(void* context, Task task, size_t count, void* user);

  // `threads`: how many tasks are expected to run at once
  Parallel(Runner runner, void* context, size_t threads) : runner_(runner), context_(context), threads_(threads) {}

  size_t threads() const { return threads_; }

  // Calls task(i) for i in [0, count). An exception of a task is rethrown here, after all have ended:
  // it must not unwind through the runner's threads.
  template <typename Function>
  void for_each(size_t count, const Function& task) const {
    struct State {
      const Function& task;
      std::mutex mutex;
      std::exception_ptr error;
    } state{task, {}, nullptr};
    const Task call = [](void* user, size_t index) {
      State& shared = *static_cast<State*>(user);
      try {
        shared.task(index);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(shared.mutex);
        shared.error = std::current_exception();
      }
    };
    runner_(context_, call, count, &state);
    if (state.error) std::rethrow_exception(state.error);
  }

  // Calls task(begin, end) over [0, total) in chunks of `grain`.
  template <typename Function>
  void for_ranges(size_t total, size_t grain, const Function& task) const {
    const size_t step = grain > 0 ? grain : 1;
    for_each((total + step - 1) / step, [&](size_t i) {
      const size_t begin = i * step;
      task(begin, begin + step < total ? begin + step : total);
    });
  }

 private:
  Runner runner_;
  void* context_;
  size_t threads_;
};

}  // namespace ti_qat
