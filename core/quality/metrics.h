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

// Over all channels, of samples from 0 to 255. Both must have the same size.
double MeanSquaredError(const Rgb8& a, const Rgb8& b);

// Where two pictures differ: the largest difference of a pixel's channels in false colours (OpenCV's "inferno"), stretched so that the
// largest of the picture, but at least 16 of 255, is brightest; black where they are equal. INVALID_ARGUMENT as above, for any size.
Result<Rgb8> DifferenceHeatmap(const Rgb8& a, const Rgb8& b);

}  // namespace nsic

#endif  // NSIC_CORE_QUALITY_METRICS_H_
