#include "client/upload_sources.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>

namespace nsic {
namespace {

constexpr size_t kStreams = 4;

// The coordinator's refusals that concern every file alike.
bool ConcernsAll(const Status& status) {
  switch (status.code()) {
    case StatusCode::kCancelled:
    case StatusCode::kUnauthenticated:
    case StatusCode::kUnimplemented: return true;
    default: return false;
  }
}

}  // namespace

Status UploadSources(FarmConnection* farm, const std::vector<PlannedFile>& files, const UploadHooks& hooks, const CancelToken& cancel) {
  // Files of the same content are one blob.
  std::vector<std::string> names;
  std::unordered_map<std::string, std::vector<size_t>> users;
  for (size_t i = 0; i < files.size(); ++i) {
    if (!hooks.wanted(i)) continue;
    std::vector<size_t>& same = users[files[i].sha256];
    if (same.empty()) names.push_back(files[i].sha256);
    same.push_back(i);
  }
  NSIC_ASSIGN_OR_RETURN(const std::vector<std::string> missing, farm->FindMissing(names, cancel));

  std::atomic<size_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  Status failure;
  const auto send = [&] {
    for (size_t i = next.fetch_add(1); i < missing.size() && !stop; i = next.fetch_add(1)) {
      const auto same = users.find(missing[i]);
      if (same == users.end()) continue;  // we did not ask for it
      // A copy that has changed does not matter while another one has the bytes.
      Status status = DataLossError("no source");
      for (const size_t file : same->second) {
        if (!hooks.wanted(file)) continue;
        const PlannedFile& source = files[file];
        do {
          status = farm->patient_blobs().UploadFile(source.input, source.sha256, source.bytes, cancel, hooks.progress);
        } while (status.code() == StatusCode::kResourceExhausted && hooks.wait_for_room(status));
        if (status.ok() || ConcernsAll(status)) break;
        hooks.lost(file, status);
      }
      if (!status.ok() && ConcernsAll(status)) {
        std::lock_guard<std::mutex> lock(mutex);
        if (failure.ok()) failure = status;
        stop = true;
      }
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < std::min(kStreams, missing.size()); ++i) threads.emplace_back(send);
  for (std::thread& thread : threads) thread.join();
  return failure;
}

}  // namespace nsic
