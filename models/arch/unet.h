// Architecture "unet", one half of the standard enhancers: residual blocks in the shape of a U on pixel-unshuffled(2) pictures, added to
// the input.
//
// Three levels of F, 2 F and 4 F channels at a half, a quarter and an eighth of the picture's size, so that a block costs the same at each.
// Going down and coming up again, each of the upper levels has B residual blocks, the lowest 2 B in all; a block is
// x + conv(relu(conv(x))), both 3x3. Between the levels, 2x2 cells become channels and channels cells, with a 1x1 convolution; coming up, a
// level adds what it was going down. The shape is DRUNet's (Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior", arXiv
// 2008.13751) without its full-size level, whose work the unshuffled cells do at a quarter of the cost.
//
// Parameters of its pack: "features" (F) and "blocks" (B). Its tensors, each with ".weight" and ".bias": "head" and "tail" (3x3);
// "down<l>" and "up<l>" (out x in; cells in the order row, column, channel), l = 0, 1; and of the blocks "encode<l>.<i>", "middle.<i>" and
// "decode<l>.<i>" the convolutions ".0" and ".1". features = 48, blocks = 2 costs 130 k multiply-adds a pixel and has 3.6 M parameters.
#ifndef NSIC_MODELS_ARCH_UNET_H_
#define NSIC_MODELS_ARCH_UNET_H_

#include <cstdint>
#include <memory>

#include "models/arch/network.h"
#include "models/arch/parameters.h"
#include "models/arch/trainable_net.h"
#include "models/arch/weights.h"

namespace nsic {

struct UNetShape {
  int64_t features = 48;
  int64_t blocks = 2;
};
UNetShape TakeUNetShape(ParameterReader& reader);  // the caller asks `reader` afterwards whether all was well

std::unique_ptr<TrainableNet> MakeTrainableUNet(const UNetShape& shape);

// Takes the weights from `reader`; the caller asks `reader` afterwards whether all was well.
std::unique_ptr<Network> BuildUNet(const UNetShape& shape, const NetworkOptions& options, WeightReader& reader);

}  // namespace nsic

#endif  // NSIC_MODELS_ARCH_UNET_H_
