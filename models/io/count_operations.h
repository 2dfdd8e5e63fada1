// How much arithmetic a network is, for the fraction of the device's peak that the engine reaches.
#ifndef NSIC_MODELS_IO_COUNT_OPERATIONS_H_
#define NSIC_MODELS_IO_COUNT_OPERATIONS_H_

#include "models/io/model_pack.h"

namespace nsic {

// Multiply-adds for each input pixel, of the network's convolutions and matrix products computed directly, however the engine goes about
// them; what tiles compute twice is not counted, nor what is computed once for a tile. 0 for an architecture that is not known here, and
// for the identity.
double MultiplyAddsPerPixel(const ModelCard& card);

}  // namespace nsic

#endif  // NSIC_MODELS_IO_COUNT_OPERATIONS_H_
