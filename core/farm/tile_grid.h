// How a picture is cut into inference tiles: a pure function of the picture's size and the model pack, never of the machine.
//
// Coordinator and workers compute the same grid, so however a picture is split into tile tasks, every inference tile has the
// same pixels in the same place, and the results are the same bit for bit.
#ifndef NSIC_CORE_FARM_TILE_GRID_H_
#define NSIC_CORE_FARM_TILE_GRID_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/geometry.h"
#include "core/base/status.h"

namespace nsic {

// The weight of a tile's pixel where tiles overlap. The five windows of the original NS-IC program, over x, y in [-1, 1] with
// d = sqrt(x^2 + y^2), span the tile: their floor makes a step at its edge. Ours spans the overlap and ends at nothing.
enum class BlendWindow {
  kNone,              // tiles do not overlap in the output: exact halo, cropped
  kImprovedGaussian,  // sigma 0.7 where d <= 0.5, else 0.3; floor 0.1 (the original's default)
  kGaussian,          // sigma 0.5
  kLinear,            // 1 - d, floor 0.1
  kCosine,            // cos(d pi / 2) with d clamped to 1, floor 0.1
  kPoisson,           // exp(-3 d), floor 0.1, then 5-tap smoothing
  kFeather,           // r(x) r(y), r rising as a squared sine from the edge to 1 where the overlap ends
};

std::string_view BlendWindowName(BlendWindow window);  // "none", "improved-gaussian", ...
Result<BlendWindow> ParseBlendWindow(std::string_view name);

// What a model pack says about tiling. All in input pixels.
struct TileSpec {
  int tile = 256;    // side of the square that the network sees; a multiple of `multiple`
  int halo = 0;      // exact halo: the receptive field's radius, rounded up to `multiple`; 0 for models with an unbounded receptive field
  int overlap = 0;   // pixels that neighbouring tiles share when blended; 0 with an exact halo
  int multiple = 1;  // the network takes widths and heights that are multiples of this
  BlendWindow blend = BlendWindow::kNone;

  // INVALID_ARGUMENT unless tile > 2 * halo, tile > overlap, tile and halo are multiples of `multiple`, and exactly one of halo and
  // blend (with its overlap) is used. (halo == 0 and blend none is allowed: a pointwise network.)
  Status Validate() const;
};

struct GridTile {
  Rect input;   // what the network reads, clipped to the picture (the engine pads it to `multiple`)
  Rect output;  // what it contributes: with a halo the part it alone decides, with blending the same as `input`
};

// Immutable. Tiles are numbered row by row.
class TileGrid {
 public:
  // `picture` at least 1x1, `spec` valid.
  TileGrid(Size picture, const TileSpec& spec);

  int columns() const { return columns_; }
  int rows() const { return rows_; }
  int64_t count() const { return int64_t{columns_} * rows_; }
  Size picture() const { return picture_; }
  const TileSpec& spec() const { return spec_; }

  GridTile tile(int column, int row) const;

  // The half-open ranges of columns and rows whose output touches `region`.
  struct Range {
    int first_column, last_column, first_row, last_row;
  };
  Range Touching(const Rect& region) const;

  // The source pixels that are needed to compute `region`: the union of the inputs of the tiles that touch it.
  Rect InputFor(const Rect& region) const;

 private:
  Size picture_;
  TileSpec spec_;
  int step_;
  int columns_;
  int rows_;
};

// Cuts a picture into the regions of tile tasks: they cover it exactly, do not overlap, follow the grid's lines, and hold about
// `target_pixels` each (never fewer than one tile's output).
std::vector<Rect> PlanTileTasks(const TileGrid& grid, int64_t target_pixels);

}  // namespace nsic

#endif  // NSIC_CORE_FARM_TILE_GRID_H_
