#include "models/io/usual_tiling.h"

#include <algorithm>

namespace nsic {
namespace {

TileSpec ExactHalo(int64_t halo, int smallest_tile, int multiple) {
  constexpr int64_t kLargest = 2048;  // beyond what any network needs: keeps the numbers small whatever a file claims
  TileSpec spec;
  spec.halo = static_cast<int>(std::min(halo, kLargest));
  spec.tile = std::max(smallest_tile, 4 * spec.halo);
  spec.multiple = multiple;
  return spec;
}

TileSpec Blended(int tile, int overlap, int multiple) {
  TileSpec spec;
  spec.tile = tile;
  spec.overlap = overlap;
  spec.multiple = multiple;
  spec.blend = BlendWindow::kFeather;
  return spec;
}

}  // namespace

TileSpec UsualTiling(const std::string& architecture, const std::map<std::string, int64_t>& parameters) {
  const auto layers = [&] {
    const auto found = parameters.find("layers");
    return found == parameters.end() ? 0 : found->second;
  };
  // A pixel hears from `layers + 2` cells of 2x2 pixels in each direction, and from the far side of its own cell. In tiles of 512 the halo
  // of 8 layers costs a fifth; of more, no more than a quarter as far as tiles of 1024 go.
  if (architecture == "light") {
    const int64_t halo = 2 * (layers() + 2 + 1);
    return ExactHalo(halo, static_cast<int>(std::clamp<int64_t>(16 * halo, 512, 1024)), 2);
  }
  // Each 3x3 convolution sees one pixel farther.
  if (architecture == "srvgg-compact") return ExactHalo(layers(), 256, 1);
  // The receptive field is bounded, but it reaches farther than it looks: an exact halo would more than double the work.
  if (architecture == "unet" || architecture == "ensemble") return Blended(512, 64, 8);
  // The tile of the original program: each tile attends over itself, so that another size is another function. The original blends an
  // overlap of 64 with a window whose floor leaves steps. From 32 on, feathered, what the tiles change steps no more across their borders
  // than inside: 0.010 against 0.012 of 1/255, where the original has 5.1 (tests/bench/ns_iqe_bench.cc, seams).
  if (architecture == "ns-iqe") return Blended(256, 32, 4);
  // A score or a verdict a tile.
  if (architecture == "tile-iqa" || architecture == "tile-c") return ExactHalo(0, 128, 16);
  return TileSpec();
}

}  // namespace nsic
