// Has the farm's workers measure themselves: who is asked, who has answered, who fell silent.
//
// It lives in memory: a bench is over in minutes, its client asks about it all the time, and after a restart simply begins it anew.
#ifndef NSIC_COORDINATOR_BENCH_WORKERS_H_
#define NSIC_COORDINATOR_BENCH_WORKERS_H_

#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/db/models.h"
#include "coordinator/db/workers.h"
#include "core/base/status.h"
#include "nsic/v1/admin.pb.h"
#include "nsic/v1/work.pb.h"

namespace nsic {

struct Farm;

// Thread-safe.
class BenchBoard {
 public:
  // Admin.Bench, given the workers there are. The first call begins the bench, with those that are connected and take work.
  v1::BenchResponse Ask(const Farm& farm, const std::string& bench_id, const ModelRow& model, const std::vector<WorkerRow>& workers);

  // Whether a worker may have to be told to measure itself.
  bool waiting(const Farm& farm) const;
  // What this worker is to measure now, again and again until it has reported.
  std::optional<v1::Measure> Next(const Farm& farm, const WorkerRow& worker);
  // Work.Report. A repetition changes nothing, and what nobody waits for is dropped: the client may have gone, or this program restarted.
  Status Report(const Farm& farm, const WorkerRow& worker, const v1::ReportRequest& report);

 private:
  struct Entry {
    v1::WorkerBench bench;
    std::string told_session;  // that has been told to measure; empty: none yet
  };
  struct Bench {
    v1::Measure measure;
    int64_t begun_ms = 0;  // on the steady clock, as below
    int64_t asked_ms = 0;
    std::map<std::string, Entry> workers;  // by name
  };
  Bench* Find(const std::string& bench_id);  // with mutex_ held, as below
  void DropForgotten(const Farm& farm);

  mutable std::mutex mutex_;
  std::list<Bench> benches_;  // guarded by mutex_, in the order in which they began
};

// Admin.Bench, checked.
Result<v1::BenchResponse> BenchWorkers(const Farm& farm, const v1::BenchRequest& request);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_BENCH_WORKERS_H_
