// Makes a model pack of whatever file a user has: a pack's folder, a bundle, safetensors, or a PyTorch checkpoint.
#ifndef NSIC_CLIENT_READ_MODEL_FILE_H_
#define NSIC_CLIENT_READ_MODEL_FILE_H_

#include <string>

#include "core/base/status.h"
#include "models/io/model_pack.h"

namespace nsic {

// `name` empty: a pack keeps its own, a checkpoint is named after its file. Errors name the file and what is wrong with it; nothing in it
// is ever executed.
Result<ModelPack> ReadModelFile(const std::string& path, const std::string& name);

// "RealESRGAN x4 (v3).pth" becomes "realesrgan-x4-v3": what a model may be called.
std::string ModelNameFromFile(const std::string& path);

}  // namespace nsic

#endif  // NSIC_CLIENT_READ_MODEL_FILE_H_
