// The entry that ONNX Runtime calls when a session registers this library.
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ort/custom_op.h"

namespace ti_qat {
namespace {

// Entries of the session's configuration. The instruction set wins over the environment; the number of threads that the
// session runs operators on (by default: all) decides how work is cut, and changes no result.
constexpr const char* kIsaEntry = "ti_qat.isa";
constexpr const char* kThreadsEntry = "ti_qat.threads";
constexpr size_t kMaxThreads = 1024;

// The value of an entry, or "" where there is none.
std::string config_entry(const OrtApi& api, const OrtSessionOptions* options, const char* name) {
  int given = 0;
  check(api.HasSessionConfigEntry(options, name, &given));
  if (!given) return "";
  size_t bytes = 0;
  check(api.GetSessionConfigEntry(options, name, nullptr, &bytes));
  std::vector<char> value(bytes + 1, '\0');
  check(api.GetSessionConfigEntry(options, name, value.data(), &bytes));
  return value.data();
}

size_t choose_threads(const std::string& text) {
  if (text.empty()) {
    const size_t all = std::thread::hardware_concurrency();
    return all < 1 ? 1 : all < kMaxThreads ? all : kMaxThreads;
  }
  const bool digits = text.size() <= 4 && text.find_first_not_of("0123456789") == std::string::npos;
  const size_t threads = digits ? std::stoul(text) : 0;
  if (threads >= 1 && threads <= kMaxThreads) return threads;
  throw OperatorError(std::string(kThreadsEntry) + ": expected 1 to 1024, found \"" + text + "\"");
}

// A domain of operators. Sessions refer to it without owning it, so it is kept until the process ends.
OrtCustomOpDomain* domain_of(const OrtApi& api, Isa isa, size_t threads) {
  struct Domain {
    std::unique_ptr<CustomOps> ops;
    OrtCustomOpDomain* handle;
  };
  static std::mutex mutex;
  static std::map<std::pair<Isa, size_t>, Domain> domains;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = domains.find({isa, threads});
  if (found != domains.end()) return found->second.handle;
  Domain domain = {std::make_unique<CustomOps>(isa, threads), nullptr};
  check(api.CreateCustomOpDomain(kDomain, &domain.handle));
  for (size_t i = 0; i < kOperatorCount; ++i) {
    OrtStatus* status = api.CustomOpDomain_Add(domain.handle, domain.ops->at(i));
    if (status == nullptr) continue;
    api.ReleaseCustomOpDomain(domain.handle);
    throw OrtFailure(status);
  }
  OrtCustomOpDomain* handle = domain.handle;
  domains.emplace(std::make_pair(isa, threads), std::move(domain));
  return handle;
}

// A runtime older than the interface we were built for: CreateStatus has been in place since its first version.
OrtStatus* too_old(const OrtApiBase& base) {
  const OrtApi* first = base.GetApi(1);
  if (first == nullptr) return nullptr;
  const std::string message =
      "ti_qat operators need ONNX Runtime 1.17 or newer, found " + std::string(base.GetVersionString());
  return first->CreateStatus(ORT_FAIL, message.c_str());
}

}  // namespace
}  // namespace ti_qat

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(kOrtApiVersion);
  if (api == nullptr) return ti_qat::too_old(*base);
  return ti_qat::status_of(*api, [&] {
    const ti_qat::Isa isa = ti_qat::choose_isa(ti_qat::config_entry(*api, options, ti_qat::kIsaEntry));
    const size_t threads = ti_qat::choose_threads(ti_qat::config_entry(*api, options, ti_qat::kThreadsEntry));
    ti_qat::check(api->AddCustomOpDomain(options, ti_qat::domain_of(*api, isa, threads)));
  });
}
