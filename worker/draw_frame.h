// A picture to measure with, made on the spot.
#ifndef NSIC_WORKER_DRAW_FRAME_H_
#define NSIC_WORKER_DRAW_FRAME_H_

#include <cstdint>
#include <vector>

#include "core/base/geometry.h"

namespace nsic {

// "Dead leaves": discs of all sizes that cover each other, as things do in photographs. Edges, plain areas and spectrum are a photograph's,
// too. Shaded, with a camera's grain. The same for everybody: 3 planes of 8 bits.
std::vector<uint8_t> DrawFrame(Size size);

}  // namespace nsic

#endif  // NSIC_WORKER_DRAW_FRAME_H_
