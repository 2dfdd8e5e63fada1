// Draws one picture that shows what packs make of another: a piece of it, spoilt, restored by each, and as it was.
#ifndef NSIC_MODELS_TRAIN_MEASURE_SIDE_BY_SIDE_H_
#define NSIC_MODELS_TRAIN_MEASURE_SIDE_BY_SIDE_H_

#include <string>
#include <vector>

#include "core/base/geometry.h"
#include "core/base/status.h"
#include "models/train/measure/evaluate.h"

namespace nsic {

struct SideBySideOptions {
  std::string picture;             // a file
  Spoiling spoiling;               // of the whole picture
  std::vector<std::string> packs;  // folders of enhancers of scale 1, in the order in which they are shown
  Rect piece;                      // of the picture, in pixels
  std::string out;                 // the PNG to write
};

// Each piece is drawn at twice its size, each pixel four times, under its name and its PSNR over R, G and B (dB, of the piece against the
// original). INVALID_ARGUMENT when the piece is not all in the picture.
Status DrawSideBySide(const SideBySideOptions& options);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_MEASURE_SIDE_BY_SIDE_H_
