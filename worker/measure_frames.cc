#include "worker/measure_frames.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/farm/tile_grid.h"
#include "models/io/count_operations.h"
#include "worker/describe_machine.h"
#include "worker/draw_frame.h"
#include "worker/measure_peak.h"
#include "worker/stopwatch.h"

namespace nsic {
namespace {

constexpr Size kFrames[] = {{1280, 720}, {1920, 1080}, {3840, 2160}};
constexpr Size kReference = kFrames[1];
constexpr double kEnoughSeconds = 1.5;  // frames are repeated until so much is measured
constexpr double kMostSeconds = 8;      // a frame that would take longer is estimated
constexpr int kPeakRounds = 15;

// Input pixels of all tiles that are computed for `region`, those that several tiles read counted several times.
int64_t WorkFor(const TileGrid& grid, const Rect& region) {
  const TileGrid::Range range = grid.Touching(region);
  int64_t pixels = 0;
  for (int row = range.first_row; row < range.last_row; ++row) {
    for (int column = range.first_column; column < range.last_column; ++column) pixels += grid.tile(column, row).input.area();
  }
  return pixels;
}

class FrameMeter {
 public:
  FrameMeter(Enhancer* enhancer, Size size, const Clock* clock, const CancelToken* cancel)
      : enhancer_(enhancer), size_(size), grid_(size, enhancer->card().tiling), samples_(DrawFrame(size)), clock_(clock), cancel_(cancel) {}

  // `cold`: nothing has run through the enhancer yet.
  Result<v1::FrameSpeed> Measure(bool cold) {
    const Rect whole{0, 0, size_.width, size_.height};
    const Rect tile = grid_.tile(grid_.columns() / 2, grid_.rows() / 2).output;
    const Rect middle{tile.x + tile.width / 2, tile.y + tile.height / 2, 1, 1};  // of one tile, which is computed whole
    if (cold) NSIC_RETURN_IF_ERROR(Seconds(middle).status());
    NSIC_ASSIGN_OR_RETURN(const double probe, Seconds(middle));
    const double predicted = probe * static_cast<double>(WorkFor(grid_, whole)) / static_cast<double>(WorkFor(grid_, middle));
    v1::FrameSpeed speed;
    speed.set_width(size_.width);
    speed.set_height(size_.height);
    speed.set_estimated(predicted > kMostSeconds);
    if (speed.estimated()) {
      speed.set_frames_per_second(1 / predicted);
      return speed;
    }
    double seconds = 0;
    int frames = 0;
    for (; seconds < kEnoughSeconds; ++frames) {
      NSIC_ASSIGN_OR_RETURN(const double one, Seconds(whole));
      seconds += one;
    }
    speed.set_frames_per_second(frames / seconds);
    return speed;
  }

 private:
  Result<double> Seconds(const Rect& region) {
    const auto read = [this](const Rect& rect, float* planar) {
      for (size_t channel = 0; channel < 3; ++channel) {
        for (int y = rect.y; y < rect.bottom(); ++y) {
          const uint8_t* const row = samples_.data() + channel * static_cast<size_t>(size_.area()) +
                                     static_cast<size_t>(y) * static_cast<size_t>(size_.width) + rect.x;
          planar = std::transform(row, row + rect.width, planar, [](uint8_t sample) { return static_cast<float>(sample) / 255; });
        }
      }
      return OkStatus();
    };
    const auto write = [](const Rect& /*rect*/, const float* /*planar*/) { return OkStatus(); };
    const Stopwatch watch(clock_);
    NSIC_RETURN_IF_ERROR(enhancer_->Enhance(size_, region, read, write, *cancel_).status());
    return std::max(watch.seconds(), 1e-6);
  }

  Enhancer* const enhancer_;
  const Size size_;
  const TileGrid grid_;
  const std::vector<uint8_t> samples_;
  const Clock* const clock_;
  const CancelToken* const cancel_;
};

}  // namespace

Result<v1::Measurement> MeasureFrames(Enhancer* enhancer, int peak_threads, const Clock& clock, const CancelToken& cancel) {
  std::vector<double> peaks;
  const auto measure_peak = [&] {
    for (int round = 0; peak_threads > 0 && round < kPeakRounds; ++round) peaks.push_back(MeasureMultiplyAdds(peak_threads, clock));
  };
  v1::Measurement measurement;
  const bool memory_is_known = ResetPeakMemory();
  measure_peak();
  for (const Size size : kFrames) {
    FrameMeter meter(enhancer, size, &clock, &cancel);
    NSIC_ASSIGN_OR_RETURN(*measurement.add_frames(), meter.Measure(size == kFrames[0]));
    if (size != kReference) continue;
    const double pixels = measurement.frames().rbegin()->frames_per_second() * static_cast<double>(size.area());
    measurement.set_gflops(2e-9 * pixels * MultiplyAddsPerPixel(enhancer->card()));
  }
  measure_peak();
  if (!peaks.empty()) {
    std::nth_element(peaks.begin(), peaks.begin() + kPeakRounds, peaks.end());
    measurement.set_peak_gflops(2e-9 * peaks[kPeakRounds]);
  }
  measurement.set_precision(std::string(PrecisionName(enhancer->precision())));
  if (memory_is_known) measurement.set_peak_memory_bytes(PeakMemoryBytes());
  return measurement;
}

}  // namespace nsic
