// Everything that training needs to go on, in one file that is written atomically.
#ifndef NSIC_MODELS_TRAIN_FIT_CHECKPOINT_H_
#define NSIC_MODELS_TRAIN_FIT_CHECKPOINT_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>

#include "core/base/status.h"
#include "models/io/tensor_map.h"

namespace nsic {

using NamedTensors = std::map<std::string, at::Tensor>;

// Copies to the host, contiguous, as `type` (fp32 or fp16).
TensorMap ToHost(const NamedTensors& tensors, at::ScalarType type);

struct Checkpoint {
  std::string settings;    // JSON object of what must not change between runs
  std::string notes;       // JSON object of what may: for the pack's card
  int64_t step = 0;        // steps done
  int64_t elapsed_us = 0;  // time that they took
  NamedTensors weights;    // fp32, on the CPU; this and the next three have the same names and shapes
  NamedTensors averaged;   // exponential moving average of the weights
  NamedTensors mean;       // Adam's moments
  NamedTensors variance;
  NamedTensors statistics;  // of batch norms, where the network has some
};

Status WriteCheckpoint(const std::string& path, const Checkpoint& checkpoint);

// NOT_FOUND when there is none yet, DATA_LOSS when it is broken.
Result<Checkpoint> ReadCheckpoint(const std::string& path);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_FIT_CHECKPOINT_H_
