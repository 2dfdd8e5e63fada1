// Puts the tiles' outputs together: cropped where a halo decides, blended where they overlap.
#ifndef NSIC_CORE_INFER_PLACE_TILES_H_
#define NSIC_CORE_INFER_PLACE_TILES_H_

#include <cstdint>
#include <vector>

#include "core/base/geometry.h"
#include "core/base/planar_image.h"
#include "core/base/status.h"
#include "core/farm/tile_grid.h"
#include "core/infer/engine.h"

namespace nsic {

Rect Scaled(const Rect& rect, int scale);

// Copies `rect` out of a planar picture that covers `from` into one that covers `to`. All three in the same coordinates.
void CopyPart(const float* planar, const Rect& from, const Rect& rect, float* out, const Rect& to);

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
  // `write` must outlive the sink.
  CropSink(const Rect& region, int scale, const WritePixels& write) : region_(region), scale_(scale), write_(write) {}
  Status Take(const GridTile& tile, const float* planar) override;
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
  // `tile` is the size of every tile of this picture. `write` must outlive the sink.
  BlendSink(const TileSpec& tiling, Size tile, const Rect& region, int scale, const WritePixels& write);
  static int64_t Bytes(Size tile, const Rect& region, int scale);
  Status Take(const GridTile& tile, const float* planar) override;
  Status Finish() override { return WriteRowsAbove(region_.bottom()); }

 private:
  Status WriteRowsAbove(int y);

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

}  // namespace nsic

#endif  // NSIC_CORE_INFER_PLACE_TILES_H_
