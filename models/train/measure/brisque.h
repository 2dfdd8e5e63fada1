// BRISQUE (Mittal, Moorthy, Bovik, "No-Reference Image Quality Assessment in the Spatial Domain", 2012), by OpenCV's quality module: what
// the scorer is measured beside.
#ifndef NSIC_MODELS_TRAIN_MEASURE_BRISQUE_H_
#define NSIC_MODELS_TRAIN_MEASURE_BRISQUE_H_

#include <functional>
#include <string>

#include "core/base/status.h"
#include "core/quality/metrics.h"

namespace nsic {

// `folder` has OpenCV's brisque_model_live.yml and brisque_range_live.yml (Debian's package opencv-doc keeps them among its examples of the
// quality module). The answer scores a picture from 0 (worst) to 100 (best), which is 100 less BRISQUE's.
Result<std::function<Result<double>(const Rgb8&)>> LoadBrisque(const std::string& folder);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_MEASURE_BRISQUE_H_
