// The light enhancer, architecture "light": plain 3x3 convolutions with ReLU on pixel-unshuffled(2) pictures, added to the input.
//
// Parameters of its pack: "features" (channels of the hidden layers) and "layers" (hidden layers between the first and the last
// convolution). Its tensors: "convs.<i>.weight" (out x in x 3 x 3) and "convs.<i>.bias", i = 0 .. layers + 1. features = 64, layers = 8
// costs 77 k multiply-adds a pixel and has 309,324 parameters. The receptive field is bounded.
#ifndef NSIC_MODELS_ARCH_LIGHT_NET_H_
#define NSIC_MODELS_ARCH_LIGHT_NET_H_

#include <cstdint>
#include <memory>

#include "models/arch/network.h"
#include "models/arch/parameters.h"
#include "models/arch/trainable_net.h"
#include "models/arch/weights.h"

namespace nsic {

struct LightShape {
  int64_t features = 64;
  int64_t layers = 8;
};
LightShape TakeLightShape(ParameterReader& reader);  // the caller asks `reader` afterwards whether all was well

std::unique_ptr<TrainableNet> MakeTrainableLight(const LightShape& shape);

// Takes the weights from `reader`; the caller asks `reader` afterwards whether all was well.
std::unique_ptr<Network> BuildLight(const LightShape& shape, const NetworkOptions& options, WeightReader& reader);

}  // namespace nsic

#endif  // NSIC_MODELS_ARCH_LIGHT_NET_H_
