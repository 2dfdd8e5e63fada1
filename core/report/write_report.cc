#include "core/report/report.h"

namespace nsic {

std::string_view FileStateName(FileState state) {
  switch (state) {
    case FileState::kDone: return "done";
    case FileState::kFailed: return "failed";
    case FileState::kSkipped: return "skipped";
    case FileState::kCancelled: return "cancelled";
  }
  return "unknown";
}

}  // namespace nsic
