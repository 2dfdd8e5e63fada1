#include "core/infer/place_tiles.h"

#include <algorithm>

#include "core/infer/blend_window.h"

namespace nsic {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);

}  // namespace

Rect Scaled(const Rect& rect, int scale) { return {rect.x * scale, rect.y * scale, rect.width * scale, rect.height * scale}; }

void CopyPart(const float* planar, const Rect& from, const Rect& rect, float* out, const Rect& to) {
  for (int channel = 0; channel < 3; ++channel) {
    for (int y = rect.y; y < rect.bottom(); ++y) {
      const float* row = planar + (int64_t{channel} * from.height + (y - from.y)) * from.width + (rect.x - from.x);
      std::copy(row, row + rect.width, out + (int64_t{channel} * to.height + (y - to.y)) * to.width + (rect.x - to.x));
    }
  }
}

Status CropSink::Take(const GridTile& tile, const float* planar) {
  const Rect rect = Scaled(Intersect(tile.output, region_), scale_);
  part_.resize(static_cast<size_t>(3 * rect.area()));
  CopyPart(planar, Scaled(tile.input, scale_), rect, part_.data(), rect);
  return write_(rect, part_.data());
}

BlendSink::BlendSink(const TileSpec& tiling, Size tile, const Rect& region, int scale, const WritePixels& write)
    : region_(Scaled(region, scale)),
      scale_(scale),
      write_(write),
      tile_{tile.width * scale, tile.height * scale},
      weights_(BlendWeights(tiling.blend, tile_, tiling.overlap * scale)),
      band_{region_.x, region_.y, region_.width, tile_.height},
      sums_(3, band_.width, band_.height),
      weight_sums_(1, band_.width, band_.height) {}

int64_t BlendSink::Bytes(Size tile, const Rect& region, int scale) {
  const int64_t band = int64_t{region.width} * tile.height;
  // Sums of colours and weights; finished rows on their way out; the window.
  return kFloatBytes * scale * scale * (4 * band + 3 * band + tile.area());
}

Status BlendSink::Take(const GridTile& tile, const float* planar) {
  const Rect from = Scaled(tile.output, scale_);
  NSIC_RETURN_IF_ERROR(WriteRowsAbove(from.y));
  const Rect rect = Intersect(from, region_);
  for (int y = rect.y; y < rect.bottom(); ++y) {
    const int64_t weight_at = int64_t{y - from.y} * from.width + (rect.x - from.x);
    const int64_t band_at = int64_t{y - band_.y} * band_.width + (rect.x - band_.x);
    const float* weights = weights_.data() + weight_at;
    float* weight_sums = weight_sums_.samples.data() + band_at;
    for (int x = 0; x < rect.width; ++x) weight_sums[x] += weights[x];
    for (int channel = 0; channel < 3; ++channel) {
      const float* samples = planar + int64_t{channel} * from.area() + weight_at;
      float* sums = sums_.plane(channel) + band_at;
      for (int x = 0; x < rect.width; ++x) sums[x] += samples[x] * weights[x];
    }
  }
  return OkStatus();
}

// Divides, writes and forgets the band's rows above `y`, and moves the others up.
Status BlendSink::WriteRowsAbove(int y) {
  const int rows = std::min(y, region_.bottom()) - band_.y;
  if (rows <= 0) return OkStatus();
  const int64_t done = int64_t{rows} * band_.width;
  const int64_t left = band_.area() - done;
  finished_.resize(static_cast<size_t>(3 * done));
  for (int channel = 0; channel < 3; ++channel) {
    float* sums = sums_.plane(channel);
    const float* weights = weight_sums_.samples.data();
    float* out = finished_.data() + channel * done;
    for (int64_t i = 0; i < done; ++i) out[i] = sums[i] / weights[i];
    std::copy(sums + done, sums + band_.area(), sums);
    std::fill(sums + left, sums + band_.area(), 0.0f);
  }
  std::vector<float>& weights = weight_sums_.samples;
  std::copy(weights.begin() + done, weights.end(), weights.begin());
  std::fill(weights.begin() + left, weights.end(), 0.0f);
  const Rect rect{band_.x, band_.y, band_.width, rows};
  band_.y += rows;
  return write_(rect, finished_.data());
}

}  // namespace nsic
