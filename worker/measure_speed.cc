#include "worker/measure_speed.h"

#include <cstdint>
#include <utility>

namespace nsic {
namespace {

constexpr double kDecay = 0.7;
constexpr double kEnoughSeconds = 0.2;  // for a first guess: each task that is done tells more
constexpr int kMostRuns = 8;

// Cheap noise that depends on nothing but the place; flat input would make an engine's checks for flat output look odd.
float Noise(uint32_t at) {
  at = at * 2654435761u + 12345u;
  at ^= at >> 15;
  return static_cast<float>(at & 0xffff) / 65535.0f;
}

}  // namespace

void SpeedBook::Record(const std::string& model_id, double megapixels, double seconds, std::string_view precision) {
  if (megapixels <= 0 || seconds <= 0) return;
  std::lock_guard<std::mutex> lock(mutex_);
  Entry& entry = entries_[model_id];
  entry.megapixels = entry.megapixels * kDecay + megapixels;
  entry.seconds = entry.seconds * kDecay + seconds;
  entry.precision = precision;
}

bool SpeedBook::Knows(const std::string& model_id) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return entries_.count(model_id) > 0;
}

std::vector<v1::ModelSpeed> SpeedBook::Speeds() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<v1::ModelSpeed> speeds;
  for (const auto& [id, entry] : entries_) {
    v1::ModelSpeed speed;
    speed.set_model_id(id);
    speed.set_megapixels_per_second(entry.megapixels / entry.seconds);
    speed.set_precision(entry.precision);
    speeds.push_back(std::move(speed));
  }
  return speeds;
}

Result<SpeedSample> BenchmarkEnhancer(Enhancer* enhancer, const Clock& clock, const CancelToken& cancel) {
  const int tile = enhancer->card().tiling.tile;
  const auto read = [](const Rect& rect, float* planar) {
    const int64_t samples = 3 * rect.area();
    for (int64_t i = 0; i < samples; ++i) planar[i] = Noise(static_cast<uint32_t>(i));
    return OkStatus();
  };
  const auto write = [](const Rect& /*rect*/, const float* /*planar*/) { return OkStatus(); };
  // The first run also warms up (kernels are chosen, memory is touched): it counts only where it is so slow that it is all we run.
  SpeedSample sample;
  Size picture{tile, tile};
  for (int run = 0; run < kMostRuns; ++run) {
    const int64_t start = clock.MonotonicUs();
    NSIC_ASSIGN_OR_RETURN(const EnhanceStats stats, enhancer->Enhance(picture, {0, 0, picture.width, picture.height}, read, write, cancel));
    const double seconds = static_cast<double>(clock.MonotonicUs() - start) * 1e-6;
    if (run == 1) sample = {};
    sample.megapixels += static_cast<double>(stats.pixels) * 1e-6;
    sample.seconds += seconds;
    if (sample.seconds >= kEnoughSeconds) break;
    picture = {2 * tile, 2 * tile};  // with neighbours, as in a picture: halos cost too
  }
  return sample;
}

}  // namespace nsic
