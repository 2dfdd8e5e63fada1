// The networks that judge a picture from tiles of its native resolution: architecture "tile-iqa" (the scorer) and "tile-c" (the
// classifier).
//
// The picture, and beside it what its neighbours do not say of each pixel (the difference from the mean of 3x3), where faults are as large
// as the picture is: cells of 2x2 pixels of both become channels (F of them, after a 3x3 convolution), cells of those become more channels
// three times over (2 F, 3 F, 4 F, each by a 1x1 convolution and a residual block of two 3x3 ones), so that every level costs less than the
// one before and nothing is resized. The logarithms of what each level sees on average over the tile, and of the last one's squares, go
// through two linear layers: faults differ in strength by powers of ten. The classifier's go through them once for a picture, averaged over
// its tiles before the logarithms: a character makes a drawing, whatever is painted behind it, and a sky says nothing. F = 16 costs 3.2 k
// multiply-adds a pixel, a fourteenth of the light enhancer, and has 173 k parameters. After 600 steps the classifier has a loss of 1.41;
// without the differences and the logarithms, 1.71.
//
// Parameters of a pack: "features" (F). Its tensors, each with ".weight" and ".bias": "head" (3x3, F x 24); "down<l>" (out x in; the cells'
// order is row, column, channel) and "block<l>.0", "block<l>.1" (3x3), l = 0 .. 2; "hidden" and "output" (out x in).
#ifndef NSIC_MODELS_ARCH_TILE_NET_H_
#define NSIC_MODELS_ARCH_TILE_NET_H_

#include <array>
#include <cstdint>
#include <memory>

#include "models/arch/network.h"
#include "models/arch/parameters.h"
#include "models/arch/trainable_net.h"
#include "models/arch/weights.h"

namespace nsic {

struct TileNetShape {
  int64_t features = 16;
  int64_t hints = 0;    // channels after the picture's three: a number about each picture, the same at every pixel
  int64_t outputs = 1;  // a logit for each class; of a scorer, that of score / 100
};
// The caller asks `reader` afterwards whether all was well.
TileNetShape TakeScorerShape(ParameterReader& reader);
TileNetShape TakeClassifierShape(ParameterReader& reader, int64_t classes);

constexpr int64_t kTileMultiple = 16;  // of the sides of a tile
constexpr int64_t kJpegHints = 3;

// What a classifier is told of a JPEG file: that it is one, and the logarithms of its tables' means, about 0 to 1. Of any other file it is
// told zeros.
std::array<float, kJpegHints> HintsOf(const std::array<uint16_t, 64>& luma, const std::array<uint16_t, 64>& chroma);

// Forward: N x (3 + hints) x h x w, the sides multiples of kTileMultiple -> N x channels, fp32: what was seen of each tile. Conclude: that,
// or its means over tiles -> N x outputs. With one thread (at::set_num_threads), a tile's row does not depend on the others in the batch.
std::unique_ptr<TrainableNet> MakeTrainableTileNet(const TileNetShape& shape);

// Takes the weights from `reader`; the caller asks `reader` afterwards whether all was well.
std::unique_ptr<Network> BuildTileNet(const TileNetShape& shape, const NetworkOptions& options, WeightReader& reader);

}  // namespace nsic

#endif  // NSIC_MODELS_ARCH_TILE_NET_H_
