// How fast this worker is with each model: measured on the tasks it does, and on a few synthetic tiles before the first of them.
#ifndef NSIC_WORKER_MEASURE_SPEED_H_
#define NSIC_WORKER_MEASURE_SPEED_H_

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "core/base/cancel.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/infer/engine.h"
#include "nsic/v1/work.pb.h"

namespace nsic {

// Thread-safe.
class SpeedBook {
 public:
  // `seconds` is what the slowest stage of the task took: stages overlap, so that is the pace. Older tasks count less and less.
  void Record(const std::string& model_id, double megapixels, double seconds, std::string_view precision);
  bool Knows(const std::string& model_id) const;
  std::vector<v1::ModelSpeed> Speeds() const;

 private:
  struct Entry {
    double megapixels = 0;  // both sums decay by the same factor with each task: long tasks weigh more than short ones
    double seconds = 0;
    std::string precision;
  };
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;  // guarded by mutex_
};

struct SpeedSample {
  double megapixels = 0;
  double seconds = 0;
};

// Enhances noise: one tile, and where that is quick a few more until half a second has passed.
Result<SpeedSample> BenchmarkEnhancer(Enhancer* enhancer, const Clock& clock, const CancelToken& cancel);

}  // namespace nsic

#endif  // NSIC_WORKER_MEASURE_SPEED_H_
