#include "coordinator/serve_call.h"

#include <openssl/crypto.h>

#include "core/base/digest.h"

namespace nsic {

CallGate::CallGate(const std::string& token, Metrics* metrics, Executor* calls, Executor* transfers)
    : wanted_(token.empty() ? "" : Sha256Hex("Bearer " + token)), metrics_(metrics), calls_(calls), transfers_(transfers) {}

Status CallGate::Admit(const grpc::CallbackServerContext& context) const {
  if (wanted_.empty()) return OkStatus();
  const auto& metadata = context.client_metadata();
  const auto header = metadata.find("authorization");
  if (header != metadata.end()) {
    // Hashes of equal length, compared in constant time: the reply's timing tells nothing of the token.
    const std::string given = Sha256Hex(std::string_view(header->second.data(), header->second.size()));
    if (CRYPTO_memcmp(given.data(), wanted_.data(), wanted_.size()) == 0) return OkStatus();
  }
  return {StatusCode::kUnauthenticated, "this coordinator wants its token; give --token-file with a copy of the coordinator's file"};
}

}  // namespace nsic
