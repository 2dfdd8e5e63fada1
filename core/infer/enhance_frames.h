// FrameEnhancer over tiles, and what it shares with Enhance. For core/infer only.
#ifndef NSIC_CORE_INFER_ENHANCE_FRAMES_H_
#define NSIC_CORE_INFER_ENHANCE_FRAMES_H_

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/geometry.h"
#include "core/base/status.h"
#include "core/infer/engine.h"
#include "core/infer/tile_runner.h"
#include "models/io/model_pack.h"

namespace nsic {

// `runner` must outlive what is returned.
std::unique_ptr<FrameEnhancer> MakeFrameEnhancer(const ModelCard& card, TileRunner* runner, int64_t memory_budget, Size frame,
                                                 float threshold);

std::string RectText(const Rect& rect);  // "64x64 at (0, 128)"

// The size of all tiles of a picture, but for those that its edges cut short.
Size LargestTile(const TileSpec& tiling, Size picture);

// RESOURCE_EXHAUSTED unless a tile in flight and, where tiles are blended, their band fit the budget.
Status CheckTileMemory(const ModelCard& card, const TileRunner& runner, Size picture, const Rect& region, int64_t memory_budget);

}  // namespace nsic

#endif  // NSIC_CORE_INFER_ENHANCE_FRAMES_H_
