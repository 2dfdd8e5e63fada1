// Lets training begin with what a pack has learnt.
#ifndef NSIC_MODELS_TRAIN_FIT_START_FROM_H_
#define NSIC_MODELS_TRAIN_FIT_START_FROM_H_

#include <c10/core/Device.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "models/arch/trainable_net.h"
#include "models/io/model_pack.h"

namespace nsic {

// What the pack says of the parameters of a network of this architecture: all, those of one member of an ensemble, or none.
std::map<std::string, int64_t> ParametersFrom(const ModelPack& pack, const std::string& architecture);

// Fills `net`, of the architecture and parameters given and on `device`, with the pack's weights. The pack is of the same network; a
// "light" one may have fewer hidden layers: the others begin as the identity, behind the pack's, and the network does what the pack's does.
// Or it is of one member of an ensemble, and the other stays as it is. INVALID_ARGUMENT when the pack is of another network.
Status StartFrom(const ModelPack& pack, const std::string& architecture, const std::map<std::string, int64_t>& parameters,
                 const at::Device& device, TrainableNet* net);

// The mean of the weights of packs of one network, in fp32, with the first one's card: often better than each of them where all are states
// of one training, above all where that was on different samples ("Model soups", Wortsman et al. 2022). INVALID_ARGUMENT when the packs are
// of different networks.
Result<ModelPack> MeanOf(const std::vector<ModelPack>& packs);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_FIT_START_FROM_H_
