#include "core/infer/enhance_frames.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "core/farm/tile_grid.h"
#include "core/infer/place_tiles.h"

namespace nsic {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);

// Whether no sample of `a` differs by more than `threshold` from that of `b`.
bool RowsMatch(const float* a, const float* b, int count, float threshold) {
  if (threshold == 0) return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(float)) == 0;
  int far = 0;
  for (int i = 0; i < count; ++i) far |= std::fabs(a[i] - b[i]) > threshold;
  return far == 0;
}

class TiledFrameEnhancer : public FrameEnhancer {
 public:
  TiledFrameEnhancer(const ModelCard& card, TileRunner* runner, int64_t memory_budget, Size frame, float threshold)
      : card_(card),
        runner_(runner),
        memory_budget_(memory_budget),
        grid_(frame, card.tiling),
        frame_{0, 0, frame.width, frame.height},
        blended_(card.tiling.blend != BlendWindow::kNone),
        threshold_(threshold) {}

  int64_t memory_bytes() const override {
    int64_t pixels = 0;
    for (int row = 0; row < grid_.rows(); ++row) {
      for (int column = 0; column < grid_.columns(); ++column) pixels += grid_.tile(column, row).input.area();
    }
    const int64_t outputs = blended_ ? int64_t{card_.scale} * card_.scale : 0;
    return 3 * kFloatBytes * pixels * ((threshold_ > 0 ? 1 : 0) + outputs);
  }

  Result<EnhanceStats> Enhance(const float* before, float* after, const CancelToken& cancel) override {
    try {
      NSIC_RETURN_IF_ERROR(CheckTileMemory(card_, *runner_, grid_.picture(), frame_, memory_budget_));
      Result<EnhanceStats> stats = blended_ ? Blend(before, after, cancel) : Crop(before, after, cancel);
      previous_before_ = before;
      previous_after_ = after;
      return stats;
    } catch (const std::bad_alloc&) {
      return ResourceExhaustedError("out of memory while enhancing a frame with " + card_.name);
    }
  }

 private:
  // With an exact halo, what a tile decides stands in the frame before.
  Result<EnhanceStats> Crop(const float* before, float* after, const CancelToken& cancel) {
    const Rect all = Scaled(frame_, card_.scale);
    EnhanceStats stats;
    stats.pixels = frame_.area();
    TileStream stream = Stream(&stats);
    NSIC_RETURN_IF_ERROR(ForEachTile(cancel, [&](size_t number, const GridTile& tile) -> Status {
      const Rect decided = Scaled(tile.output, card_.scale);
      if (Repeats(number, tile.input, before)) {
        CopyPart(previous_after_, all, decided, after, all);
        ++stats.tiles_repeated;
        return OkStatus();
      }
      return Infer(number, tile, before, &stream, [this, tile, decided, all, after](const float* output) {
        CopyPart(output, Scaled(tile.input, card_.scale), decided, after, all);
        return OkStatus();
      });
    }));
    NSIC_RETURN_IF_ERROR(stream.Finish());
    return stats;
  }

  // Blended, a tile's own output stands nowhere in the frame before: each is kept.
  Result<EnhanceStats> Blend(const float* before, float* after, const CancelToken& cancel) {
    outputs_.resize(static_cast<size_t>(grid_.count()));
    EnhanceStats stats;
    stats.pixels = frame_.area();
    TileStream stream = Stream(&stats);
    NSIC_RETURN_IF_ERROR(ForEachTile(cancel, [&](size_t number, const GridTile& tile) -> Status {
      if (Repeats(number, tile.input, before)) {
        ++stats.tiles_repeated;
        return OkStatus();
      }
      const int64_t floats = 3 * tile.input.area() * card_.scale * card_.scale;
      return Infer(number, tile, before, &stream, [this, number, floats](const float* made) {
        outputs_[number].assign(made, made + floats);
        return OkStatus();
      });
    }));
    NSIC_RETURN_IF_ERROR(stream.Finish());

    const Rect all = Scaled(frame_, card_.scale);
    const WritePixels write = [&](const Rect& rect, const float* planar) {
      CopyPart(planar, rect, rect, after, all);
      return OkStatus();
    };
    BlendSink sink(card_.tiling, LargestTile(card_.tiling, grid_.picture()), frame_, card_.scale, write);
    NSIC_RETURN_IF_ERROR(
        ForEachTile(cancel, [&](size_t number, const GridTile& tile) { return sink.Take(tile, outputs_[number].data()); }));
    NSIC_RETURN_IF_ERROR(sink.Finish());
    return stats;
  }

  TileStream Stream(EnhanceStats* stats) {
    const Size largest = LargestTile(card_.tiling, grid_.picture());
    const int64_t for_sink = blended_ ? BlendSink::Bytes(largest, frame_, card_.scale) : 0;
    return TileStream(runner_, card_.name, largest, grid_.count(), memory_budget_ - for_sink, stats);
  }

  template <typename Body>
  Status ForEachTile(const CancelToken& cancel, const Body& body) {
    for (int row = 0; row < grid_.rows(); ++row) {
      for (int column = 0; column < grid_.columns(); ++column) {
        NSIC_RETURN_IF_ERROR(cancel.Check());
        NSIC_RETURN_IF_ERROR(
            body(static_cast<size_t>(row) * static_cast<size_t>(grid_.columns()) + static_cast<size_t>(column), grid_.tile(column, row)));
      }
    }
    return OkStatus();
  }

  // Whether the output that is there for this tile holds for this frame. Where only equal tiles repeat, the input of what is there has
  // always the samples of the frame before, so that no other copy of it is needed.
  bool Repeats(size_t number, const Rect& input, const float* before) const {
    if (previous_before_ == nullptr) return false;
    const Rect& from = threshold_ > 0 ? input : frame_;
    const float* const reference = threshold_ > 0 ? inputs_[number].data() : previous_before_;
    for (int channel = 0; channel < 3; ++channel) {
      for (int y = input.y; y < input.bottom(); ++y) {
        const float* const row = before + (int64_t{channel} * frame_.height + y) * frame_.width + input.x;
        const float* const then = reference + (int64_t{channel} * from.height + (y - from.y)) * from.width + (input.x - from.x);
        if (!RowsMatch(row, then, input.width, threshold_)) return false;
      }
    }
    return true;
  }

  Status Infer(size_t number, const GridTile& tile, const float* before, TileStream* stream, TileStream::Take take) {
    const auto fill = [&](float* in) {
      CopyPart(before, frame_, tile.input, in, tile.input);
      if (threshold_ > 0) {
        inputs_.resize(static_cast<size_t>(grid_.count()));
        inputs_[number].assign(in, in + 3 * tile.input.area());
      }
      return OkStatus();
    };
    return stream->Add(tile.input, fill, std::move(take));
  }

  const ModelCard card_;
  TileRunner* const runner_;
  const int64_t memory_budget_;
  const TileGrid grid_;
  const Rect frame_;
  const bool blended_;
  const float threshold_;

  const float* previous_before_ = nullptr;
  const float* previous_after_ = nullptr;
  std::vector<std::vector<float>> inputs_;   // with a threshold: by tile, what its output was computed from
  std::vector<std::vector<float>> outputs_;  // blended: by tile
};

}  // namespace

std::unique_ptr<FrameEnhancer> MakeFrameEnhancer(const ModelCard& card, TileRunner* runner, int64_t memory_budget, Size frame,
                                                 float threshold) {
  return std::make_unique<TiledFrameEnhancer>(card, runner, memory_budget, frame, threshold);
}

std::string RectText(const Rect& rect) {
  return std::to_string(rect.width) + "x" + std::to_string(rect.height) + " at (" + std::to_string(rect.x) + ", " + std::to_string(rect.y) +
         ")";
}

Size LargestTile(const TileSpec& tiling, Size picture) {
  return {std::min(tiling.tile, picture.width), std::min(tiling.tile, picture.height)};
}

Status CheckTileMemory(const ModelCard& card, const TileRunner& runner, Size picture, const Rect& region, int64_t memory_budget) {
  const Size largest = LargestTile(card.tiling, picture);
  const bool blended = card.tiling.blend != BlendWindow::kNone;
  const int64_t bytes = runner.TileBytes(largest) + (blended ? BlendSink::Bytes(largest, region, card.scale) : 0);
  if (bytes <= memory_budget) return OkStatus();
  return ResourceExhaustedError("one tile of " + card.name + " needs " + std::to_string(bytes >> 20) +
                                " MiB, more than the memory budget of " + std::to_string(memory_budget >> 20) +
                                " MiB; allow more memory or use a smaller model");
}

}  // namespace nsic
