// Runs a bundle without Python: ONNX Runtime's C interface and the library of operators.
//
//   classify BUNDLE OPERATORS.so [--threads N] ID... [/ ID...]
//
// The IDs are a text's tokens, special tokens included; those after "/" are of the second text of a pair. Prints the
// logits, one a line, with the digits that tell every float32 apart.
#include <onnxruntime_c_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

const OrtApi* api = nullptr;

void check(OrtStatus* status) {
  if (status == nullptr) return;
  const std::string message = api->GetErrorMessage(status);
  api->ReleaseStatus(status);
  throw std::runtime_error(message);
}

// Owns what ONNX Runtime hands out, and gives it back.
template <typename T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

struct Request {
  std::string bundle, operators;
  int threads = 0;  // 0: all cores
  std::vector<int32_t> ids, types;
};

int32_t integer(const char* text) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*text == '\0' || *end != '\0' || value < 0 || value > INT32_MAX) {
    throw std::runtime_error(std::string("expected a number, found ") + text);
  }
  return static_cast<int32_t>(value);
}

Request parse(int count, char** arguments) {
  if (count < 4) throw std::runtime_error("usage: classify BUNDLE OPERATORS.so [--threads N] ID... [/ ID...]");
  Request request;
  request.bundle = arguments[1];
  request.operators = arguments[2];
  int first = 3;
  if (std::strcmp(arguments[first], "--threads") == 0 && count > first + 2) {
    request.threads = integer(arguments[first + 1]);
    first += 2;
  }
  int32_t type = 0;
  for (int i = first; i < count; ++i) {
    if (std::strcmp(arguments[i], "/") == 0) {
      type = 1;
      continue;
    }
    request.ids.push_back(integer(arguments[i]));
    request.types.push_back(type);
  }
  if (request.ids.empty()) throw std::runtime_error("expected token ids, found none");
  return request;
}

Owned<OrtSession> open_session(const OrtEnv* env, const Request& request) {
  OrtSessionOptions* raw_options = nullptr;
  check(api->CreateSessionOptions(&raw_options));
  const Owned<OrtSessionOptions> options(raw_options, api->ReleaseSessionOptions);
  // The operators cut their work for the session's threads; they are told how many there are.
  if (request.threads > 0) {
    check(api->SetIntraOpNumThreads(options.get(), request.threads));
    const std::string threads = std::to_string(request.threads);
    check(api->AddSessionConfigEntry(options.get(), "ti_qat.threads", threads.c_str()));
  }
  check(api->RegisterCustomOpsLibrary_V2(options.get(), request.operators.c_str()));
  const std::string model = request.bundle + "/model.onnx";
  OrtSession* session = nullptr;
  check(api->CreateSession(env, model.c_str(), options.get(), &session));
  return {session, api->ReleaseSession};
}

// A tensor over memory that stays the caller's.
Owned<OrtValue> tensor(const OrtMemoryInfo* memory, std::vector<int32_t>& data, const std::vector<int64_t>& shape) {
  OrtValue* value = nullptr;
  check(api->CreateTensorWithDataAsOrtValue(memory, data.data(), data.size() * sizeof(int32_t), shape.data(),
                                            shape.size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, &value));
  return {value, api->ReleaseValue};
}

std::vector<float> logits(OrtSession* session, Request& request) {
  OrtMemoryInfo* raw_memory = nullptr;
  check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &raw_memory));
  const Owned<OrtMemoryInfo> memory(raw_memory, api->ReleaseMemoryInfo);
  const int64_t tokens = static_cast<int64_t>(request.ids.size());
  std::vector<int32_t> lengths = {static_cast<int32_t>(tokens)};
  const Owned<OrtValue> ids = tensor(memory.get(), request.ids, {1, tokens});
  const Owned<OrtValue> types = tensor(memory.get(), request.types, {1, tokens});
  const Owned<OrtValue> length = tensor(memory.get(), lengths, {1});

  const char* input_names[] = {"input_ids", "token_type_ids", "lengths"};
  const char* output_names[] = {"logits"};
  const OrtValue* inputs[] = {ids.get(), types.get(), length.get()};
  OrtValue* raw_output = nullptr;
  check(api->Run(session, nullptr, input_names, inputs, 3, output_names, 1, &raw_output));
  const Owned<OrtValue> output(raw_output, api->ReleaseValue);

  OrtTensorTypeAndShapeInfo* raw_shape = nullptr;
  check(api->GetTensorTypeAndShape(output.get(), &raw_shape));
  const Owned<OrtTensorTypeAndShapeInfo> shape(raw_shape, api->ReleaseTensorTypeAndShapeInfo);
  size_t labels = 0;
  check(api->GetTensorShapeElementCount(shape.get(), &labels));
  void* data = nullptr;
  check(api->GetTensorMutableData(output.get(), &data));
  const float* values = static_cast<const float*>(data);
  return {values, values + labels};
}

}  // namespace

int main(int count, char** arguments) {
  try {
    Request request = parse(count, arguments);
    api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (api == nullptr) throw std::runtime_error("the ONNX Runtime library is older than its header");
    OrtEnv* raw_env = nullptr;
    check(api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "classify", &raw_env));
    const Owned<OrtEnv> env(raw_env, api->ReleaseEnv);
    const Owned<OrtSession> session = open_session(env.get(), request);
    for (const float logit : logits(session.get(), request)) std::printf("%.9g\n", static_cast<double>(logit));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "classify: %s\n", error.what());
    return 1;
  }
}
