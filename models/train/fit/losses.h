// How far a restored picture is from its target, as a weighted sum of terms to learn from.
#ifndef NSIC_MODELS_TRAIN_FIT_LOSSES_H_
#define NSIC_MODELS_TRAIN_FIT_LOSSES_H_

#include <ATen/core/Tensor.h>

namespace nsic {

// The weights of the terms; each term is a number for each picture, over all its samples in [0, 1].
struct LossWeights {
  double log_mse = 0;      // log(mean squared error + 1e-4): a picture counts by decibels up to 40 dB, nearly perfect ones do not rule
  double charbonnier = 0;  // mean sqrt(difference^2 + 1e-6), which is L1 with a round foot
  double ssim = 0;         // 1 - SSIM (11x11 Gaussian window, sigma 1.5, each channel by itself)
  double edge = 0;         // mean absolute difference of the Sobel gradients
  double frequency = 0;    // mean absolute difference of the real and imaginary parts of the orthonormal Fourier transform
};

// `output` and `target`: N x 3 x h x w, fp32, at least 11x11. N losses, with gradients.
at::Tensor Loss(const at::Tensor& output, const at::Tensor& target, const LossWeights& weights);

// SSIM as above of pictures of any number of channels, at least 11x11: N x C, the mean over each channel where the window lies inside.
at::Tensor SsimOfChannels(const at::Tensor& a, const at::Tensor& b);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_FIT_LOSSES_H_
