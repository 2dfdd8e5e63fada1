// An architecture's parameters, checked against what it takes.
#ifndef NSIC_MODELS_ARCH_PARAMETERS_H_
#define NSIC_MODELS_ARCH_PARAMETERS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "core/base/status.h"

namespace nsic {

// Remembers the first thing that is wrong, so that a builder reads like its definition.
class ParameterReader {
 public:
  // Keeps references to both.
  ParameterReader(const std::string& architecture, const std::map<std::string, int64_t>& parameters)
      : architecture_(architecture), parameters_(parameters) {}

  // What stands before the names that Take is given from now on.
  void SetPrefix(std::string prefix) { prefix_ = std::move(prefix); }

  // `low` after an error.
  int64_t Take(const std::string& short_name, int64_t low, int64_t high) {
    const std::string name = prefix_ + short_name;
    ++taken_;
    const auto found = parameters_.find(name);
    if (error_.ok() && (found == parameters_.end() || found->second < low || found->second > high)) {
      error_ = InvalidArgumentError("architecture " + architecture_ + " needs the parameter \"" + name + "\" from " + std::to_string(low) +
                                    " to " + std::to_string(high));
    }
    return error_.ok() ? found->second : low;
  }

  // INVALID_ARGUMENT when a parameter was missing or out of range, or nobody took it.
  Status Finish() const {
    NSIC_RETURN_IF_ERROR(error_);
    if (parameters_.size() == taken_) return OkStatus();
    return InvalidArgumentError("the architecture " + architecture_ + " does not know all the parameters that were given");
  }

 private:
  const std::string& architecture_;
  const std::map<std::string, int64_t>& parameters_;
  std::string prefix_;
  size_t taken_ = 0;
  Status error_;
};

}  // namespace nsic

#endif  // NSIC_MODELS_ARCH_PARAMETERS_H_
