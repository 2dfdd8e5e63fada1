// The precisions that this machine has chosen for its models, on disk: measuring takes seconds, and what was measured once stays, so that a
// worker's results do not change from one start to the next.
#ifndef NSIC_WORKER_REMEMBER_PRECISION_H_
#define NSIC_WORKER_REMEMBER_PRECISION_H_

#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "core/base/status.h"
#include "core/infer/choose_precision.h"
#include "core/infer/engine.h"

namespace nsic {

// Thread-safe. One process a file.
class PrecisionBook {
 public:
  // `machine` says everything that a choice depends on besides the model: device, driver, software. The file need not be there; what
  // another machine wrote into it stays.
  PrecisionBook(std::string file, std::string machine) : file_(std::move(file)), machine_(std::move(machine)) {}

  using Measure = std::function<Result<PrecisionChoice>()>;

  // What was chosen for this model on this machine; measured and written down if nothing was. A file that cannot be read as ours is logged
  // and written anew. Errors are those of `measure` and of writing.
  Result<Precision> Choose(const std::string& model_id, const Measure& measure);

 private:
  std::map<std::string, std::map<std::string, std::string>> Read() const;

  const std::string file_;
  const std::string machine_;
  std::mutex mutex_;  // held while measuring too: two measurements at once would disturb each other
};

}  // namespace nsic

#endif  // NSIC_WORKER_REMEMBER_PRECISION_H_
