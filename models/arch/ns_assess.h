// The Nagato-Sakura networks that look at a whole picture of 256 x 256: the scorer NS-IQA and the classifier NS-C (EfficientNet-B0).
#ifndef NSIC_MODELS_ARCH_NS_ASSESS_H_
#define NSIC_MODELS_ARCH_NS_ASSESS_H_

#include <cstdint>
#include <memory>

#include "models/arch/network.h"
#include "models/arch/weights.h"

namespace nsic {

// Both take their weights from `reader`; the caller asks `reader` afterwards whether all was well.
std::unique_ptr<Network> BuildNsIqa(WeightReader& reader);
std::unique_ptr<Network> BuildNsC(int64_t classes, WeightReader& reader);  // torchvision's key layout

}  // namespace nsic

#endif  // NSIC_MODELS_ARCH_NS_ASSESS_H_
