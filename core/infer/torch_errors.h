// Turns what LibTorch throws into a Status. For core/infer only.
#ifndef NSIC_CORE_INFER_TORCH_ERRORS_H_
#define NSIC_CORE_INFER_TORCH_ERRORS_H_

#include <c10/util/Exception.h>

#include <exception>
#include <new>
#include <string>
#include <utility>

#include "core/base/status.h"

namespace nsic {

// Runs `body`, which returns a Status, and translates its exceptions: running out of memory (LibTorch's CPU allocator tells only by
// its text) is RESOURCE_EXHAUSTED, everything else INTERNAL.
template <typename Body>
Status CatchTorchErrors(const std::string& what, Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const std::bad_alloc&) {
    return ResourceExhaustedError(what + ": out of memory");
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    const bool memory = text.find("out of memory") != std::string::npos || text.find("can't allocate memory") != std::string::npos ||
                        text.find("not enough memory") != std::string::npos;
    return memory ? ResourceExhaustedError(what + ": " + text) : InternalError(what + ": LibTorch: " + text);
  } catch (const std::exception& error) {
    return InternalError(what + ": LibTorch: " + error.what());
  }
}

}  // namespace nsic

#endif  // NSIC_CORE_INFER_TORCH_ERRORS_H_
