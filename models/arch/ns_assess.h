// The Nagato-Sakura networks that look at a whole picture of 256 x 256: the scorer NS-IQA and the classifier NS-C (EfficientNet-B0).
#ifndef NSIC_MODELS_ARCH_NS_ASSESS_H_
#define NSIC_MODELS_ARCH_NS_ASSESS_H_

#include <cstdint>
#include <memory>

#include "models/arch/network.h"
#include "models/arch/trainable_net.h"
#include "models/arch/weights.h"

namespace nsic {

constexpr int64_t kNsAssessSide = 256;  // of the pictures that both take, whatever the size of the original was

// A picture as both were trained on it: resized as torchvision does it (antialiased bilinear), with ImageNet's normalisation. 1 x 3 x h x w
// in [0, 1] -> 1 x 3 x 256 x 256.
at::Tensor ForNsAssess(const at::Tensor& picture);

// Both take their weights from `reader`; the caller asks `reader` afterwards whether all was well.
std::unique_ptr<Network> BuildNsIqa(WeightReader& reader);
std::unique_ptr<Network> BuildNsC(int64_t classes, WeightReader& reader);  // torchvision's key layout

// NS-IQA for training: N x 3 x 256 x 256 as ForNsAssess makes them -> N x 1, scores from 0 to 100 once it has learnt.
std::unique_ptr<TrainableNet> MakeTrainableNsIqa();

}  // namespace nsic

#endif  // NSIC_MODELS_ARCH_NS_ASSESS_H_
