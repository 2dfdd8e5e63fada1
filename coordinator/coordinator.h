// The coordinator: state, services and housekeeping, put together. nsic-coordinator runs one; tests run them in-process.
#ifndef NSIC_COORDINATOR_COORDINATOR_H_
#define NSIC_COORDINATOR_COORDINATOR_H_

#include <cstdint>
#include <memory>
#include <string>

#include "coordinator/farm.h"
#include "core/base/status.h"

namespace nsic {

class Coordinator {
 public:
  struct Options {
    std::string listen;         // "HOST:PORT"; port 0: any free one
    std::string state_folder;   // database and blobs; made if missing; used by one coordinator at a time
    std::string models_folder;  // shipped packs; empty: none
    std::string metrics;        // "HOST:PORT"; empty: not served
    std::string token;          // what every call must present; empty: nothing
    bool insecure = false;      // listen beyond loopback without a token
    int64_t quota = 0;          // bytes of blobs; 0: what the disk holds
    FarmOptions farm;
    const Clock* clock = nullptr;  // must outlive the coordinator
  };

  // Opens the state, brings it into order after a crash and serves. FAILED_PRECONDITION: another coordinator has the folder, or the
  // address is open to others without a token. UNAVAILABLE: the address is taken.
  static Result<std::unique_ptr<Coordinator>> Start(Options options);
  // Stops, see below.
  ~Coordinator();

  // "127.0.0.1:41234", the port as bound.
  const std::string& address() const;
  int metrics_port() const;  // 0 when not served

  // Answers waiting calls with UNAVAILABLE, lets running ones end for a few seconds, and closes. Idempotent.
  void Stop();

  const Farm& farm() const;

 private:
  struct Impl;
  explicit Coordinator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace nsic

#endif  // NSIC_COORDINATOR_COORDINATOR_H_
