// What an evaluation has measured, on the disk as it goes: one that was stopped, or whose machine went down, measures only the rest.
#ifndef NSIC_MODELS_TRAIN_MEASURE_MEASURED_H_
#define NSIC_MODELS_TRAIN_MEASURE_MEASURED_H_

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/base/files.h"
#include "core/base/status.h"

namespace nsic {

// Values by key in a file of lines, each a JSON array of a key and its values; a line that was cut off is measured again. Not thread-safe.
class Measured {
 public:
  // The file in `folder` for what `subject` says (all that the values depend on: packs by identity, settings) on these pictures, each
  // counted by path, size and time of change: where any of that is another, so is the file, and nothing is known yet. An empty `folder`
  // keeps nothing. `name` begins the file's name. FAILED_PRECONDITION while another process measures the same into it; DATA_LOSS names a
  // file that something else has written to.
  static Result<Measured> Open(const std::string& folder, const std::string& name, const std::string& subject,
                               const std::vector<std::string>& pictures);

  // The `count` values known of `key`; where there are none, those that `measure` returns, which are in the file before this returns.
  Result<std::vector<double>> Remember(const std::string& key, size_t count, const std::function<Result<std::vector<double>>()>& measure);

  size_t size() const { return known_.size(); }

 private:
  std::string path_;
  UniqueFd fd_;  // at the file's end, locked; invalid without a folder
  std::map<std::string, std::vector<double>> known_;
};

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_MEASURE_MEASURED_H_
