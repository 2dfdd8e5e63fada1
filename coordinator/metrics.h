// What Prometheus is told: counters that the services feed, and gauges that are read from the database at each scrape.
#ifndef NSIC_COORDINATOR_METRICS_H_
#define NSIC_COORDINATOR_METRICS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/status.h"

namespace nsic {

struct Farm;

// Thread-safe. Counters work from the start; Serve() makes them visible.
class Metrics {
 public:
  Metrics();
  ~Metrics();

  void CountRpc(std::string_view method, std::string_view code, double seconds);
  void CountDone(const std::string& worker, const std::string& model, double seconds, double megapixels);
  void CountFailure(const std::string& worker, const std::string& model, std::string_view failure_class);
  void CountExpirations(int64_t count);

  // Serves /metrics at HOST:PORT (port 0: any) until destroyed, with the gauges of `farm`, which must outlive it. Returns the bound port.
  Result<int> Serve(const std::string& address, const Farm* farm);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nsic

#endif  // NSIC_COORDINATOR_METRICS_H_
