// Pixels as the networks see them: planar float samples, one plane a channel, rows without padding.
#ifndef NSIC_CORE_BASE_PLANAR_IMAGE_H_
#define NSIC_CORE_BASE_PLANAR_IMAGE_H_

#include <cstddef>
#include <vector>

#include "core/base/geometry.h"

namespace nsic {

// samples[(channel * height + y) * width + x]; R, G, B in [0, 1], gamma-encoded as in the file (usually sRGB).
struct PlanarImage {
  int channels = 0;
  int width = 0;
  int height = 0;
  std::vector<float> samples;

  PlanarImage() = default;
  PlanarImage(int channels_in, int width_in, int height_in)
      : channels(channels_in),
        width(width_in),
        height(height_in),
        samples(static_cast<size_t>(channels_in) * static_cast<size_t>(width_in) * static_cast<size_t>(height_in)) {}

  Size size() const { return {width, height}; }
  float* plane(int channel) { return samples.data() + static_cast<size_t>(channel) * width * height; }
  const float* plane(int channel) const { return samples.data() + static_cast<size_t>(channel) * width * height; }
};

}  // namespace nsic

#endif  // NSIC_CORE_BASE_PLANAR_IMAGE_H_
