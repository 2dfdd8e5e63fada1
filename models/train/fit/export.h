// From a training run's checkpoint to a model pack.
#ifndef NSIC_MODELS_TRAIN_FIT_EXPORT_H_
#define NSIC_MODELS_TRAIN_FIT_EXPORT_H_

#include <string>

#include "core/base/status.h"
#include "models/io/model_pack.h"
#include "models/train/fit/checkpoint.h"

namespace nsic {

// Where a training run keeps the checkpoint of the run in the folder `state`.
std::string CheckpointPath(const std::string& state);

// The averaged weights in fp16, and a card that says what they were trained on (sources and licences), how long, where, by which recipe,
// and what the last validation measured. DATA_LOSS unless a training run wrote the checkpoint.
Result<ModelPack> PackOf(const Checkpoint& checkpoint);

// Writes the pack of the run in the folder `state`, which may be going on, to the folder `out`. NOT_FOUND when there is no checkpoint.
Status Export(const std::string& state, const std::string& out);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_FIT_EXPORT_H_
