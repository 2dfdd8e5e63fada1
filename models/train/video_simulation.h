// What coding as video leaves of a picture, in LibTorch, on whatever device the pictures are.
//
// H.264's key frames, simplified: 4:2:0 in BT.601's limited range, an 8x8 transform (4x4 for colour) with one quantiser step for all
// frequencies and a dead zone of two thirds, and the loop filter on luma's block edges. There is no prediction: it decides where the error
// falls rather than how large it is.
#ifndef NSIC_MODELS_TRAIN_VIDEO_SIMULATION_H_
#define NSIC_MODELS_TRAIN_VIDEO_SIMULATION_H_

#include <ATen/core/Tensor.h>

namespace nsic {

// `rgb`: N x 3 x h x w, fp32, whole numbers 0 to 255. `quantiser`: N, int64, on the CPU: H.264's QP, 0 to 51, one for each picture.
// The decoded pictures, of the same kind. No gradients.
at::Tensor SimulateVideo(const at::Tensor& rgb, const at::Tensor& quantiser);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_VIDEO_SIMULATION_H_
