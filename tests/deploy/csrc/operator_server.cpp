// Runs operator calls that arrive on standard input and answers on standard output, until the input ends.
//
// A call: strings `name` and `isa`, int64 heads, uint32 input and output counts, then the inputs, each a TiQatTensor
// without its pointer and the elements. A string is a uint32 length and its bytes. The answer: int32 0 and the outputs,
// laid out as inputs are, or int32 1 and a string, the error. An empty `name` asks whether `isa` is supported; the
// answer is the int32 of ti_qat_isa_supported.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/drive.h"

namespace {

constexpr size_t kElementBytes[] = {4, 1, 1, 4};  // by ti_qat::ElementType
constexpr size_t kHeaderBytes = sizeof(TiQatTensor) - sizeof(void*);

// False where the input ends.
bool read_bytes(void* to, size_t bytes) {
  return std::fread(to, 1, bytes, stdin) == bytes;
}

void read_or_exit(void* to, size_t bytes) {
  if (read_bytes(to, bytes)) return;
  std::fputs("operator_server: the input ends inside a call\n", stderr);
  std::exit(2);
}

void write_bytes(const void* from, size_t bytes) {
  if (std::fwrite(from, 1, bytes, stdout) != bytes) std::exit(2);
}

template <typename Value>
Value read_value() {
  Value value;
  read_or_exit(&value, sizeof value);
  return value;
}

std::string read_string(uint32_t length) {
  std::string text(length, '\0');
  read_or_exit(text.data(), length);
  return text;
}

void write_status(int32_t status) {
  write_bytes(&status, sizeof status);
}

size_t bytes_of(const TiQatTensor& tensor) {
  size_t bytes = kElementBytes[tensor.type];
  for (int32_t i = 0; i < tensor.rank; ++i) bytes *= static_cast<size_t>(tensor.dims[i]);
  return bytes;
}

struct Call {
  std::string name, isa;
  int64_t heads;
  std::vector<TiQatTensor> inputs, outputs;
  std::vector<std::vector<char>> memory;

  void read_inputs() {
    heads = read_value<int64_t>();
    inputs.resize(read_value<uint32_t>());
    outputs.resize(read_value<uint32_t>());
    for (TiQatTensor& tensor : inputs) {
      read_or_exit(&tensor, kHeaderBytes);
      read_or_exit(own(tensor), bytes_of(tensor));
    }
  }

  void* own(TiQatTensor& tensor) {
    memory.emplace_back(bytes_of(tensor));
    return tensor.data = memory.back().data();
  }

  bool run() {
    char error[500] = "";
    const auto call = [&] {
      return ti_qat_run_operator(name.c_str(), isa.c_str(), heads, inputs.data(), inputs.size(), outputs.data(),
                                 outputs.size(), error, sizeof error) == 0;
    };
    bool done = call();
    if (done) {
      for (TiQatTensor& tensor : outputs) own(tensor);
      done = call();
    }
    if (done) return true;
    const std::string message = error;
    const uint32_t length = static_cast<uint32_t>(message.size());
    write_status(1);
    write_bytes(&length, sizeof length);
    write_bytes(message.data(), message.size());
    return false;
  }
};

}  // namespace

int main() {
  uint32_t length;
  while (read_bytes(&length, sizeof length)) {
    Call call = {};
    call.name = read_string(length);
    call.isa = read_string(read_value<uint32_t>());
    if (call.name.empty()) {
      write_status(ti_qat_isa_supported(call.isa.c_str()));
    } else {
      call.read_inputs();
      if (call.run()) {
        write_status(0);
        for (const TiQatTensor& tensor : call.outputs) {
          write_bytes(&tensor, kHeaderBytes);
          write_bytes(tensor.data, bytes_of(tensor));
        }
      }
    }
    std::fflush(stdout);
  }
  return 0;
}
