#include "worker/measure_peak.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "worker/measure_peak.cc"
#include <hwy/foreach_target.h>
// After foreach_target.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace nsic {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// `rounds` times 12 fused multiply-adds that do not wait for each other; returns how many single ones that was.
HWY_ATTR double MultiplyAdd(int64_t rounds, float* result) {
  const hn::ScalableTag<float> d;
  const auto factor = hn::Set(d, 0.999f);
  auto a0 = hn::Set(d, 1.0f), a1 = hn::Set(d, 1.1f), a2 = hn::Set(d, 1.2f), a3 = hn::Set(d, 1.3f);
  auto a4 = hn::Set(d, 1.4f), a5 = hn::Set(d, 1.5f), a6 = hn::Set(d, 1.6f), a7 = hn::Set(d, 1.7f);
  auto a8 = hn::Set(d, 1.8f), a9 = hn::Set(d, 1.9f), a10 = hn::Set(d, 2.0f), a11 = hn::Set(d, 2.1f);
  for (int64_t i = 0; i < rounds; ++i) {
    a0 = hn::MulAdd(a0, factor, factor), a1 = hn::MulAdd(a1, factor, factor), a2 = hn::MulAdd(a2, factor, factor);
    a3 = hn::MulAdd(a3, factor, factor), a4 = hn::MulAdd(a4, factor, factor), a5 = hn::MulAdd(a5, factor, factor);
    a6 = hn::MulAdd(a6, factor, factor), a7 = hn::MulAdd(a7, factor, factor), a8 = hn::MulAdd(a8, factor, factor);
    a9 = hn::MulAdd(a9, factor, factor), a10 = hn::MulAdd(a10, factor, factor), a11 = hn::MulAdd(a11, factor, factor);
  }
  const auto sum = hn::Add(hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)),
                           hn::Add(hn::Add(hn::Add(a4, a5), hn::Add(a6, a7)), hn::Add(hn::Add(a8, a9), hn::Add(a10, a11))));
  *result = hn::GetLane(hn::SumOfLanes(d, sum));
  return 12.0 * static_cast<double>(rounds) * static_cast<double>(hn::Lanes(d));
}

}  // namespace HWY_NAMESPACE
}  // namespace nsic
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <cstddef>
#include <thread>
#include <vector>

namespace nsic {
namespace {

HWY_EXPORT(MultiplyAdd);

constexpr int64_t kRounds = 4'000'000;
constexpr int kTimes = 5;  // the fastest counts: OpenMP's threads may still wait in a loop, on a core that one of these needs

double MeasureOnce(int threads, const Clock& clock) {
  const auto count = static_cast<size_t>(threads);
  std::vector<double> done(count);
  std::vector<float> sums(count);  // so that the compiler must compute them
  const int64_t start = clock.MonotonicUs();
  std::vector<std::thread> others;
  for (size_t i = 1; i < count; ++i) others.emplace_back([&, i] { done[i] = HWY_DYNAMIC_DISPATCH(MultiplyAdd)(kRounds, &sums[i]); });
  done[0] = HWY_DYNAMIC_DISPATCH(MultiplyAdd)(kRounds, sums.data());
  for (std::thread& other : others) other.join();
  const double seconds = static_cast<double>(clock.MonotonicUs() - start) * 1e-6;
  double all = 0;
  for (const double one : done) all += one;
  return seconds > 0 ? all / seconds : 0;
}

}  // namespace

double MeasureMultiplyAdds(int threads, const Clock& clock) {
  double best = 0;
  for (int time = 0; time < kTimes; ++time) best = std::max(best, MeasureOnce(threads, clock));
  return best;
}

}  // namespace nsic
#endif  // HWY_ONCE
