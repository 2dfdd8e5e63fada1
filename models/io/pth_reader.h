// Reads PyTorch checkpoints (.pth, .pt: a zip of a pickle and raw storages) without PyTorch and without trusting them.
//
// The pickle is run by a restricted machine that knows dicts, lists, tuples, numbers, strings, OrderedDict and
// torch._utils._rebuild_tensor_v2 / _rebuild_parameter, and nothing else: a checkpoint that names any other global (os.system, ...)
// is refused by that name. Sizes, depths and the zip's directory are checked before anything is allocated.
#ifndef NSIC_MODELS_IO_PTH_READER_H_
#define NSIC_MODELS_IO_PTH_READER_H_

#include <string>
#include <string_view>

#include "core/base/status.h"
#include "models/io/tensor_map.h"

namespace nsic {

// All tensors of the checkpoint's state dict. A dict wrapped in "params_ema", "params", "state_dict", "model_state_dict" or
// "generator_state_dict" (tried in that order) is unwrapped; a "module." prefix is dropped. Strided tensors come out contiguous.
// PERMISSION_DENIED for a pickle that names a forbidden global, DATA_LOSS for a broken zip, INVALID_ARGUMENT for the old
// (pre-1.6, not zip) format and for anything that is no state dict, RESOURCE_EXHAUSTED over the limits.
Result<TensorMap> ReadPth(const std::string& path);
Result<TensorMap> ParsePth(std::string_view bytes, const std::string& what);

}  // namespace nsic

#endif  // NSIC_MODELS_IO_PTH_READER_H_
