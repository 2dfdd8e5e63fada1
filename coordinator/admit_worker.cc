#include "coordinator/admit_worker.h"

#include <optional>
#include <vector>

#include "coordinator/db/attempts.h"
#include "coordinator/sweep_leases.h"
#include "core/base/digest.h"
#include "core/rpc/channel.h"

namespace nsic {
namespace {

constexpr size_t kMaxName = 128;
constexpr size_t kMaxText = 512;
constexpr int kMaxRoots = 256;

Status CheckRequest(const v1::RegisterRequest& request) {
  if (request.name().empty() || request.name().size() > kMaxName) return InvalidArgumentError("a worker needs a name of 1 to 128 bytes");
  for (const char c : request.name()) {
    if (static_cast<unsigned char>(c) < 32 || c == 127) return InvalidArgumentError("a worker's name must not have control characters");
  }
  if (request.version().size() > kMaxText || request.device().size() > kMaxText || request.device_name().size() > kMaxText) {
    return InvalidArgumentError("version and device may have at most 512 bytes");
  }
  if (request.media_roots_size() > kMaxRoots) return InvalidArgumentError("a worker may have at most 256 media roots");
  for (const std::string& root : request.media_roots()) {
    if (root.empty() || root.size() > kMaxText) return InvalidArgumentError("a media root's id must have 1 to 512 bytes");
  }
  return OkStatus();
}

}  // namespace

bool VersionsFit(const std::string& a, const std::string& b) { return a.substr(0, a.rfind('.')) == b.substr(0, b.rfind('.')); }

Result<v1::RegisterResponse> AdmitWorker(const Farm& farm, const v1::RegisterRequest& request) {
  NSIC_RETURN_IF_ERROR(CheckRequest(request));
  if (request.protocol() != kProtocolVersion || !VersionsFit(request.version(), farm.options.version)) {
    return FailedPreconditionError("worker " + request.name() + " has version " + request.version() + " (protocol " +
                                   std::to_string(request.protocol()) + "), which does not fit the coordinator's " + farm.options.version +
                                   " (protocol " + std::to_string(kProtocolVersion) + "); install the same version on both");
  }
  WorkerRow worker;
  worker.name = request.name();
  worker.session = RandomHex(16);
  worker.version = request.version();
  worker.device = request.device();
  worker.device_name = request.device_name();
  worker.cores = request.cores();
  worker.memory_bytes = request.memory_bytes();
  NSIC_RETURN_IF_ERROR(farm.database->Write([&](Transaction& transaction) {
    worker.last_seen_ms = farm.now_ms();
    PutWorker(transaction, &worker, {request.media_roots().begin(), request.media_roots().end()});
    return ExpireAttempts(farm, transaction, ActiveAttemptsOfWorker(transaction, worker.id), "started anew without giving its work back");
  }));
  v1::RegisterResponse response;
  response.set_session(worker.session);
  response.set_lease_ttl_ms(static_cast<int32_t>(farm.options.lease_ttl_ms));
  response.set_renew_every_ms(static_cast<int32_t>(farm.options.renew_every_ms));
  return response;
}

Result<WorkerRow> CheckSession(const Farm& farm, Transaction& transaction, const std::string& session) {
  std::optional<WorkerRow> worker = FindWorkerBySession(transaction, session);
  if (!worker) {
    return AbortedError(
        "this session is not known here, or another worker has registered under the same name; register again, and give "
        "each worker a --name of its own");
  }
  worker->last_seen_ms = farm.now_ms();
  TouchWorker(transaction, worker->id, worker->last_seen_ms);
  return *std::move(worker);
}

}  // namespace nsic
