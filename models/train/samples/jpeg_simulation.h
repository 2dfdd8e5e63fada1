// JPEG compression and decompression as libjpeg does them, in LibTorch, on whatever device the pictures are.
//
// Every step is libjpeg's own integer arithmetic (colour conversion, chroma subsampling, the "slow" DCT and its inverse, quantisation,
// fancy upsampling), done in floating point on whole numbers that it holds exactly: on every device the result is what libjpeg decodes, bit
// for bit. No entropy coding: it loses nothing. Not differentiable.
#ifndef NSIC_MODELS_TRAIN_SAMPLES_JPEG_SIMULATION_H_
#define NSIC_MODELS_TRAIN_SAMPLES_JPEG_SIMULATION_H_

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

namespace nsic {

enum class ChromaSampling { k444, k420 };

// libjpeg's standard tables in row order (not zigzag), scaled for `quality` (1 to 100) and limited to baseline (1 to 255).
std::array<int, 64> LuminanceTable(int quality);
std::array<int, 64> ChrominanceTable(int quality);

// `rgb`: N x 3 x h x w, fp32, whole numbers 0 to 255. `quality`: N, int64, on the CPU, one for each picture.
// The decoded pictures, of the same kind.
at::Tensor SimulateJpeg(const at::Tensor& rgb, const at::Tensor& quality, ChromaSampling sampling);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_SAMPLES_JPEG_SIMULATION_H_
