// The entry that ONNX Runtime calls when a session registers this library.
#include <map>
#include <mutex>
#include <vector>

#include "ort/custom_op.h"

namespace ti_qat {
namespace {

// Entry of the session's configuration that names an instruction set; it wins over the environment.
constexpr const char* kIsaEntry = "ti_qat.isa";

std::string session_isa(const OrtApi& api, const OrtSessionOptions* options) {
  int given = 0;
  check(api.HasSessionConfigEntry(options, kIsaEntry, &given));
  if (!given) return "";
  size_t bytes = 0;
  check(api.GetSessionConfigEntry(options, kIsaEntry, nullptr, &bytes));
  std::vector<char> value(bytes + 1, '\0');
  check(api.GetSessionConfigEntry(options, kIsaEntry, value.data(), &bytes));
  return value.data();
}

// The domain with the operators of `isa`. Sessions refer to it without owning it, so it is kept until the process ends.
OrtCustomOpDomain* domain_of(const OrtApi& api, Isa isa) {
  static std::mutex mutex;
  static std::map<Isa, OrtCustomOpDomain*> domains;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = domains.find(isa);
  if (found != domains.end()) return found->second;
  OrtCustomOpDomain* domain = nullptr;
  check(api.CreateCustomOpDomain(kDomain, &domain));
  for (size_t i = 0; i < kOperatorCount; ++i) {
    OrtStatus* status = api.CustomOpDomain_Add(domain, custom_op(isa, i));
    if (status == nullptr) continue;
    api.ReleaseCustomOpDomain(domain);
    throw OrtFailure(status);
  }
  domains.emplace(isa, domain);
  return domain;
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
    const ti_qat::Isa isa = ti_qat::choose_isa(ti_qat::session_isa(*api, options));
    ti_qat::check(api->AddCustomOpDomain(options, ti_qat::domain_of(*api, isa)));
  });
}
