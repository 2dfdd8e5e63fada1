#include "core/farm/tile_grid.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace nsic {
namespace {

constexpr std::pair<BlendWindow, std::string_view> kWindowNames[] = {
    {BlendWindow::kNone, "none"},         {BlendWindow::kImprovedGaussian, "improved-gaussian"},
    {BlendWindow::kGaussian, "gaussian"}, {BlendWindow::kLinear, "linear"},
    {BlendWindow::kCosine, "cosine"},     {BlendWindow::kPoisson, "poisson"},
    {BlendWindow::kFeather, "feather"},
};

// More than any network wants; keeps every product of two of these within 32 bits.
constexpr int kMaxTile = 16384;

struct Span {
  int begin;
  int end;
};

int CountTiles(int length, const TileSpec& spec, int step) {
  const int covered_by_first = spec.blend == BlendWindow::kNone ? step : spec.tile;
  if (length <= covered_by_first) return 1;
  return 1 + (length - covered_by_first + step - 1) / step;
}

// What tile `index` contributes along one axis.
Span OutputSpan(int index, int length, const TileSpec& spec, int step) {
  if (spec.blend == BlendWindow::kNone) return {index * step, std::min((index + 1) * step, length)};
  // The last tile is moved back so that it ends at the border.
  const int begin = std::max(0, std::min(index * step, length - spec.tile));
  return {begin, std::min(begin + spec.tile, length)};
}

// The half-open range of tiles whose output touches [begin, end). Both ends of the spans grow with the index.
Span TouchingSpan(int begin, int end, int count, int length, const TileSpec& spec, int step) {
  Span range{0, count};
  while (range.begin < count && OutputSpan(range.begin, length, spec, step).end <= begin) ++range.begin;
  while (range.end > range.begin && OutputSpan(range.end - 1, length, spec, step).begin >= end) --range.end;
  return range;
}

int64_t DivideRoundingUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

std::string_view BlendWindowName(BlendWindow window) {
  for (const auto& [value, name] : kWindowNames) {
    if (value == window) return name;
  }
  return "unknown";
}

Result<BlendWindow> ParseBlendWindow(std::string_view name) {
  std::string known;
  for (const auto& [value, known_name] : kWindowNames) {
    if (known_name == name) return value;
    known += known.empty() ? "" : ", ";
    known += known_name;
  }
  return InvalidArgumentError("unknown blend window '" + std::string(name) + "'; known: " + known);
}

Status TileSpec::Validate() const {
  const auto bad = [](const std::string& what) { return InvalidArgumentError("tiling: " + what); };
  if (tile < 1 || tile > kMaxTile) return bad("tile is " + std::to_string(tile) + ", must be 1 to " + std::to_string(kMaxTile));
  if (multiple < 1 || tile % multiple != 0) {
    return bad("tile " + std::to_string(tile) + " is no multiple of multiple " + std::to_string(multiple));
  }
  if (halo < 0 || overlap < 0) return bad("halo and overlap must not be negative");
  if (halo % multiple != 0) return bad("halo " + std::to_string(halo) + " is no multiple of multiple " + std::to_string(multiple));
  if (tile <= 2 * int64_t{halo}) return bad("tile " + std::to_string(tile) + " must be more than twice halo " + std::to_string(halo));
  if (tile <= overlap) return bad("tile " + std::to_string(tile) + " must be more than overlap " + std::to_string(overlap));
  if (blend == BlendWindow::kNone) {
    if (overlap != 0) return bad("overlap needs a blend window");
  } else {
    if (halo != 0) return bad("halo and a blend window exclude each other");
    if (overlap == 0) return bad("a blend window needs an overlap");
  }
  return OkStatus();
}

TileGrid::TileGrid(Size picture, const TileSpec& spec)
    : picture_(picture),
      spec_(spec),
      step_(spec.blend == BlendWindow::kNone ? spec.tile - 2 * spec.halo : spec.tile - spec.overlap),
      columns_(CountTiles(picture.width, spec, step_)),
      rows_(CountTiles(picture.height, spec, step_)) {}

GridTile TileGrid::tile(int column, int row) const {
  const Span x = OutputSpan(column, picture_.width, spec_, step_);
  const Span y = OutputSpan(row, picture_.height, spec_, step_);
  const Rect output{x.begin, y.begin, x.end - x.begin, y.end - y.begin};
  const Rect reach{output.x - spec_.halo, output.y - spec_.halo, output.width + 2 * spec_.halo, output.height + 2 * spec_.halo};
  return {Intersect(reach, {0, 0, picture_.width, picture_.height}), output};
}

TileGrid::Range TileGrid::Touching(const Rect& region) const {
  const Span columns = TouchingSpan(region.x, region.right(), columns_, picture_.width, spec_, step_);
  const Span rows = TouchingSpan(region.y, region.bottom(), rows_, picture_.height, spec_, step_);
  return {columns.begin, columns.end, rows.begin, rows.end};
}

Rect TileGrid::InputFor(const Rect& region) const {
  const Range range = Touching(region);
  if (range.first_column >= range.last_column || range.first_row >= range.last_row) return {};
  const Rect first = tile(range.first_column, range.first_row).input;
  const Rect last = tile(range.last_column - 1, range.last_row - 1).input;
  return {first.x, first.y, last.right() - first.x, last.bottom() - first.y};
}

std::vector<Rect> PlanTileTasks(const TileGrid& grid, int64_t target_pixels) {
  const Size picture = grid.picture();
  const int64_t target = std::clamp<int64_t>(target_pixels, 1, picture.area());
  // Near-square regions: where tiles are blended, every cut computes one line of tiles twice.
  const double side = std::sqrt(static_cast<double>(target));
  const int64_t wanted_columns = std::min<int64_t>(std::lround(picture.width / side), DivideRoundingUp(picture.area(), target));
  const auto columns = static_cast<int>(std::clamp<int64_t>(wanted_columns, 1, grid.columns()));
  const int64_t wanted_rows = DivideRoundingUp(picture.area(), target * columns);
  const auto rows = static_cast<int>(std::clamp<int64_t>(wanted_rows, 1, grid.rows()));

  // Groups of whole tiles, so that every cut lies on a line of the grid.
  std::vector<int> x, y;
  for (int64_t group = 0; group < columns; ++group) x.push_back(grid.tile(static_cast<int>(group * grid.columns() / columns), 0).output.x);
  for (int64_t group = 0; group < rows; ++group) y.push_back(grid.tile(0, static_cast<int>(group * grid.rows() / rows)).output.y);
  x.push_back(picture.width);
  y.push_back(picture.height);

  std::vector<Rect> regions;
  regions.reserve(static_cast<size_t>(columns) * static_cast<size_t>(rows));
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      regions.push_back({x[column], y[row], x[column + 1] - x[column], y[row + 1] - y[row]});
    }
  }
  return regions;
}

}  // namespace nsic
