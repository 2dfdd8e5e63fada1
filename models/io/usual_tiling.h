// How a network's pictures are tiled unless somebody knows better: what importing and training write into a new pack.
#ifndef NSIC_MODELS_IO_USUAL_TILING_H_
#define NSIC_MODELS_IO_USUAL_TILING_H_

#include <cstdint>
#include <map>
#include <string>

#include "core/farm/tile_grid.h"

namespace nsic {

// A parameter that is missing counts as 0. For an architecture without a habit of its own: a TileSpec as it is made.
TileSpec UsualTiling(const std::string& architecture, const std::map<std::string, int64_t>& parameters);

}  // namespace nsic

#endif  // NSIC_MODELS_IO_USUAL_TILING_H_
