// What the benches share.
#ifndef NSIC_TESTS_BENCH_BENCH_TOOLS_H_
#define NSIC_TESTS_BENCH_BENCH_TOOLS_H_

#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "core/base/status.h"

namespace nsic {

// The value, or the end of the program with the error.
template <typename T>
T Need(Result<T> result) {
  if (result.ok()) return *std::move(result);
  std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
  std::exit(1);
}
inline void Need(const Status& status) { (void)Need(status.ok() ? Result<int>(0) : Result<int>(status)); }

// Of this process, all threads.
inline double CpuSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace nsic

#endif  // NSIC_TESTS_BENCH_BENCH_TOOLS_H_
