// How fast a model would run, where no worker has measured it yet.
#ifndef NSIC_COORDINATOR_ESTIMATE_SPEED_H_
#define NSIC_COORDINATOR_ESTIMATE_SPEED_H_

#include <cstdint>

#include "models/io/model_pack.h"

namespace nsic {

// Source megapixels a second of video on an ordinary desktop processor, by the network's multiply-adds for a pixel. Where those
// are not known, the weights of its bundle (two bytes each) are taken to be used once a pixel.
double EstimateSpeed(const ModelCard& card, int64_t bundle_bytes);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_ESTIMATE_SPEED_H_
