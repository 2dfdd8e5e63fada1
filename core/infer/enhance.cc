#include <algorithm>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "core/infer/engine.h"
#include "core/infer/enhance_frames.h"
#include "core/infer/place_tiles.h"
#include "core/infer/tile_runner.h"

namespace nsic {
namespace {

class TiledEnhancer : public Enhancer {
 public:
  TiledEnhancer(ModelCard card, std::unique_ptr<TileRunner> runner, int64_t memory_budget)
      : card_(std::move(card)), runner_(std::move(runner)), memory_budget_(memory_budget) {}

  const ModelCard& card() const override { return card_; }
  Precision precision() const override { return runner_->precision(); }

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

  std::unique_ptr<FrameEnhancer> ForFrames(Size frame, float threshold) override {
    return MakeFrameEnhancer(card_, runner_.get(), memory_budget_, frame, threshold);
  }

 private:
  Result<EnhanceStats> EnhanceRegion(Size picture, const Rect& region, const ReadPixels& read, const WritePixels& write,
                                     const CancelToken& cancel) {
    const TileGrid grid(picture, card_.tiling);
    const Size largest = LargestTile(card_.tiling, picture);
    const bool blended = card_.tiling.blend != BlendWindow::kNone;
    NSIC_RETURN_IF_ERROR(CheckTileMemory(card_, *runner_, picture, region, memory_budget_));
    std::unique_ptr<TileSink> sink;
    if (blended) {
      sink = std::make_unique<BlendSink>(card_.tiling, largest, region, card_.scale, write);
    } else {
      sink = std::make_unique<CropSink>(region, card_.scale, write);
    }

    EnhanceStats stats;
    stats.pixels = region.area();
    const int64_t for_sink = blended ? BlendSink::Bytes(largest, region, card_.scale) : 0;
    std::vector<GridTile> tiles;
    const TileGrid::Range range = grid.Touching(region);
    for (int row = range.first_row; row < range.last_row; ++row) {
      for (int column = range.first_column; column < range.last_column; ++column) tiles.push_back(grid.tile(column, row));
    }
    TileStream stream(runner_.get(), card_.name, largest, static_cast<int64_t>(tiles.size()), memory_budget_ - for_sink, &stats);
    if (stream.batched() && !blended) {
      std::stable_sort(tiles.begin(), tiles.end(), [](const GridTile& a, const GridTile& b) {
        return std::pair(a.input.height, a.input.width) < std::pair(b.input.height, b.input.width);
      });
    }
    for (const GridTile& tile : tiles) {
      NSIC_RETURN_IF_ERROR(cancel.Check());
      NSIC_RETURN_IF_ERROR(stream.Add(
          tile.input, [&](float* in) { return read(tile.input, in); }, [&](const float* out) { return sink->Take(tile, out); }));
    }
    NSIC_RETURN_IF_ERROR(stream.Finish());
    NSIC_RETURN_IF_ERROR(sink->Finish());
    return stats;
  }

  const ModelCard card_;
  const std::unique_ptr<TileRunner> runner_;
  const int64_t memory_budget_;
};

}  // namespace

std::unique_ptr<Enhancer> MakeEnhancer(const ModelCard& card, std::unique_ptr<TileRunner> runner, int64_t memory_budget) {
  return std::make_unique<TiledEnhancer>(card, std::move(runner), memory_budget);
}

Result<std::unique_ptr<Enhancer>> LoadEnhancer(const ModelPack& pack, const EngineOptions& options) {
  if (pack.card.task != ModelTask::kEnhance) return InvalidArgumentError("model " + pack.card.name + " is no enhancer");
  const Status tiling = pack.card.tiling.Validate();
  if (!tiling.ok()) return tiling.WithContext("model " + pack.card.name);
  NSIC_ASSIGN_OR_RETURN(std::unique_ptr<TileRunner> runner, LoadTileRunner(pack, options));
  return MakeEnhancer(pack.card, std::move(runner), options.memory_budget);
}

}  // namespace nsic
