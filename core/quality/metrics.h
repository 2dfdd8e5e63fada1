// Full-reference quality of pictures.
#ifndef NSIC_CORE_QUALITY_METRICS_H_
#define NSIC_CORE_QUALITY_METRICS_H_

#include <cstdint>
#include <vector>

#include "core/base/geometry.h"
#include "core/base/status.h"

namespace nsic {

// 8-bit interleaved RGB: samples[(y * width + x) * 3 + channel].
struct Rgb8 {
  Size size;
  std::vector<uint8_t> samples;
};

struct QualityScores {
  double psnr_rgb = 0;  // dB over the mean squared error of all three channels; +infinity when equal
  double psnr_y = 0;    // dB on BT.601 full-range luma, unrounded
  double ssim_y = 0;    // luma, 11x11 Gaussian window of sigma 1.5, K1 0.01, K2 0.03, valid positions (Wang et al. 2004)
  double psnr_b = 0;    // dB on luma, with the blocking effect factor at 8x8 borders added to the error (Yim and Bovik 2011)
};

// INVALID_ARGUMENT unless both have the same size, at least 11x11.
Result<QualityScores> CompareQuality(const Rgb8& reference, const Rgb8& picture);

}  // namespace nsic

#endif  // NSIC_CORE_QUALITY_METRICS_H_
