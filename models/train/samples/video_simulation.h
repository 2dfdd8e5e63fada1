// What coding as video leaves of a picture, in LibTorch, on whatever device the pictures are.
//
// Key frames of the codecs since H.264, simplified: 4:2:0 in BT.601's limited range; blocks of 4x4 up to a largest size, each predicted
// from its neighbours above and to the left in one of eleven ways and its rest transformed, quantised with one step for all frequencies and
// a dead zone, or dropped; sizes, ways and rests chosen by distortion + lambda x bits; the loop filter on luma's 8x8 grid. Of
// H.264 are the steps, the filter and lambda. It decides for all blocks at once: neighbours are those of a first, plainer pass.
#ifndef NSIC_MODELS_TRAIN_SAMPLES_VIDEO_SIMULATION_H_
#define NSIC_MODELS_TRAIN_SAMPLES_VIDEO_SIMULATION_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace nsic {

struct VideoSettings {
  int64_t quantiser = 30;  // H.264's QP, 0 to 51
  int64_t largest = 8;     // side of the largest block: 8, 16 or 32
  double adaptive = 0;     // by how much QP rises for each doubling of a 16x16 block's variance above the picture's mean; 1 is x264's habit
};

// `rgb`: N x 3 x h x w, fp32, whole numbers 0 to 255; settings for each picture. The decoded pictures, of the same kind. No gradients.
at::Tensor SimulateVideo(const at::Tensor& rgb, const std::vector<VideoSettings>& settings);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_SAMPLES_VIDEO_SIMULATION_H_
