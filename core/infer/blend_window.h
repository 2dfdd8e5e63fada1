// The weights with which overlapping tiles are blended.
#ifndef NSIC_CORE_INFER_BLEND_WINDOW_H_
#define NSIC_CORE_INFER_BLEND_WINDOW_H_

#include <vector>

#include "core/base/geometry.h"
#include "core/farm/tile_grid.h"

namespace nsic {

// One weight a pixel of a tile, row by row, all above zero. `window` is not kNone; `overlap` is in the tile's pixels.
std::vector<float> BlendWeights(BlendWindow window, Size tile, int overlap);

}  // namespace nsic

#endif  // NSIC_CORE_INFER_BLEND_WINDOW_H_
