#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <utility>

#include "core/infer/blend_window.h"
#include "core/infer/engine.h"
#include "core/infer/tile_runner.h"

namespace nsic {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);

Rect Scaled(const Rect& rect, int scale) { return {rect.x * scale, rect.y * scale, rect.width * scale, rect.height * scale}; }

std::string RectText(const Rect& rect) {
  return std::to_string(rect.width) + "x" + std::to_string(rect.height) + " at (" + std::to_string(rect.x) + ", " + std::to_string(rect.y) +
         ")";
}

// Copies `rect` out of a planar picture that covers `from`.
void CopyPart(const float* planar, const Rect& from, const Rect& rect, float* out) {
  for (int channel = 0; channel < 3; ++channel) {
    for (int y = rect.y; y < rect.bottom(); ++y) {
      const float* row = planar + (int64_t{channel} * from.height + (y - from.y)) * from.width + (rect.x - from.x);
      out = std::copy(row, row + rect.width, out);
    }
  }
}

// Takes the tiles' outputs in raster order and writes finished pixels.
class TileSink {
 public:
  virtual ~TileSink() = default;
  // `planar` covers the tile's input, scaled.
  virtual Status Take(const GridTile& tile, const float* planar) = 0;
  virtual Status Finish() = 0;
};

// Exact halo: the part that a tile alone decides is final.
class CropSink : public TileSink {
 public:
  CropSink(const Rect& region, int scale, const WritePixels& write) : region_(region), scale_(scale), write_(write) {}

  Status Take(const GridTile& tile, const float* planar) override {
    const Rect rect = Scaled(Intersect(tile.output, region_), scale_);
    part_.resize(static_cast<size_t>(3 * rect.area()));
    CopyPart(planar, Scaled(tile.input, scale_), rect, part_.data());
    return write_(rect, part_.data());
  }
  Status Finish() override { return OkStatus(); }

 private:
  const Rect region_;
  const int scale_;
  const WritePixels& write_;
  std::vector<float> part_;
};

// Overlapping tiles, weighted and summed in one band of rows. A pixel's tiles are added in raster order whatever the region is, so
// its sum has the same bits in every call. A row is final once the tiles begin below it.
class BlendSink : public TileSink {
 public:
  // `tile` is the size of every tile of this picture.
  BlendSink(BlendWindow window, Size tile, const Rect& region, int scale, const WritePixels& write)
      : region_(Scaled(region, scale)),
        scale_(scale),
        write_(write),
        tile_{tile.width * scale, tile.height * scale},
        weights_(BlendWeights(window, tile_)),
        band_{region_.x, region_.y, region_.width, tile_.height},
        sums_(3, band_.width, band_.height),
        weight_sums_(1, band_.width, band_.height) {}

  static int64_t Bytes(Size tile, const Rect& region, int scale) {
    const int64_t band = int64_t{region.width} * tile.height;
    // Sums of colours and weights; finished rows on their way out; the window.
    return kFloatBytes * scale * scale * (4 * band + 3 * band + tile.area());
  }

  Status Take(const GridTile& tile, const float* planar) override {
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

  Status Finish() override { return WriteRowsAbove(region_.bottom()); }

 private:
  // Divides, writes and forgets the band's rows above `y`, and moves the others up.
  Status WriteRowsAbove(int y) {
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

  const Rect region_;  // this and all below in output pixels
  const int scale_;
  const WritePixels& write_;
  const Size tile_;
  const std::vector<float> weights_;
  Rect band_;
  PlanarImage sums_;
  PlanarImage weight_sums_;
  std::vector<float> finished_;
};

class TiledEnhancer : public Enhancer {
 public:
  TiledEnhancer(ModelCard card, std::unique_ptr<TileRunner> runner, int64_t memory_budget)
      : card_(std::move(card)), runner_(std::move(runner)), memory_budget_(memory_budget) {}

  const ModelCard& card() const override { return card_; }
  Precision precision() const override { return Precision::kFloat32; }

  Result<EnhanceStats> Enhance(Size picture, const Rect& region, const ReadPixels& read, const WritePixels& write,
                               const CancelToken& cancel) override {
    if (picture.width < 1 || picture.height < 1 || region.empty() || !Rect{0, 0, picture.width, picture.height}.Contains(region)) {
      return InvalidArgumentError("the region " + RectText(region) + " is not inside the picture of " + std::to_string(picture.width) +
                                  "x" + std::to_string(picture.height));
    }
    try {
      return EnhanceRegion(picture, region, read, write, cancel);
    } catch (const std::bad_alloc&) {
      return ResourceExhaustedError("out of memory while enhancing " + RectText(region) + " with " + card_.name);
    }
  }

 private:
  Result<EnhanceStats> EnhanceRegion(Size picture, const Rect& region, const ReadPixels& read, const WritePixels& write,
                                     const CancelToken& cancel) {
    const TileGrid grid(picture, card_.tiling);
    const Size largest{std::min(card_.tiling.tile, picture.width), std::min(card_.tiling.tile, picture.height)};
    const bool blended = card_.tiling.blend != BlendWindow::kNone;

    const int64_t band_bytes = blended ? BlendSink::Bytes(largest, region, card_.scale) : 0;
    const int64_t tile_bytes = runner_->TileBytes(largest);
    if (band_bytes + tile_bytes > memory_budget_) {
      return ResourceExhaustedError("one tile of " + card_.name + " needs " + std::to_string((band_bytes + tile_bytes) >> 20) +
                                    " MiB, more than the memory budget of " + std::to_string(memory_budget_ >> 20) +
                                    " MiB; allow more memory or use a smaller model");
    }
    std::unique_ptr<TileSink> sink;
    if (blended) {
      sink = std::make_unique<BlendSink>(card_.tiling.blend, largest, region, card_.scale, write);
    } else {
      sink = std::make_unique<CropSink>(region, card_.scale, write);
    }

    EnhanceStats stats;
    stats.pixels = region.area();
    std::vector<float> in, out;
    const TileGrid::Range range = grid.Touching(region);
    for (int row = range.first_row; row < range.last_row; ++row) {
      for (int column = range.first_column; column < range.last_column; ++column) {
        NSIC_RETURN_IF_ERROR(cancel.Check());
        const GridTile tile = grid.tile(column, row);
        const Size size{tile.input.width, tile.input.height};
        in.resize(static_cast<size_t>(3 * size.area()));
        out.resize(in.size() * static_cast<size_t>(card_.scale) * static_cast<size_t>(card_.scale));
        NSIC_RETURN_IF_ERROR(read(tile.input, in.data()));
        const Status status = runner_->Run(size, in.data(), out.data(), &stats.tiles_redone);
        if (!status.ok()) return status.WithContext(card_.name + ", tile " + RectText(tile.input));
        NSIC_RETURN_IF_ERROR(sink->Take(tile, out.data()));
        ++stats.tiles;
      }
    }
    NSIC_RETURN_IF_ERROR(sink->Finish());
    return stats;
  }

  const ModelCard card_;
  const std::unique_ptr<TileRunner> runner_;
  const int64_t memory_budget_;
};

}  // namespace

Result<std::unique_ptr<Enhancer>> LoadEnhancer(const ModelPack& pack, const EngineOptions& options) {
  if (pack.card.task != ModelTask::kEnhance) return InvalidArgumentError("model " + pack.card.name + " is no enhancer");
  const Status tiling = pack.card.tiling.Validate();
  if (!tiling.ok()) return tiling.WithContext("model " + pack.card.name);
  NSIC_ASSIGN_OR_RETURN(std::unique_ptr<TileRunner> runner, LoadTileRunner(pack, options));
  return std::unique_ptr<Enhancer>(std::make_unique<TiledEnhancer>(pack.card, std::move(runner), options.memory_budget));
}

}  // namespace nsic
