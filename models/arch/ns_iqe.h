// NS-IQE, the Nagato-Sakura enhancer: an encoder to a quarter of the size, residual dense blocks, self-attention over the whole tile,
// bilinear upsampling and a sigmoid. No global residual: the network outputs the picture.
#ifndef NSIC_MODELS_ARCH_NS_IQE_H_
#define NSIC_MODELS_ARCH_NS_IQE_H_

#include <cstdint>
#include <memory>

#include "models/arch/network.h"
#include "models/arch/parameters.h"
#include "models/arch/trainable_net.h"
#include "models/arch/weights.h"

namespace nsic {

struct NsIqeShape {
  int64_t features = 64;
  int64_t blocks = 16;
};
NsIqeShape TakeNsIqeShape(ParameterReader& reader);  // the caller asks `reader` afterwards whether all was well

// A new network's weights are random, its attention starts at nothing (gamma 0).
std::unique_ptr<TrainableNet> MakeTrainableNsIqe(const NsIqeShape& shape);

// Takes its weights from `reader`; the caller asks `reader` afterwards whether all was well.
std::unique_ptr<Network> BuildNsIqe(const NsIqeShape& shape, const NetworkOptions& options, WeightReader& reader);

}  // namespace nsic

#endif  // NSIC_MODELS_ARCH_NS_IQE_H_
