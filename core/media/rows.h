// Arithmetic on pictures that flow past row by row, so that finishing a picture of any size takes the memory of a few rows. No libvips in
// here, and no thread: the numbers depend on nothing but the input. Internal to core/media.
//
// libvips' own resize is not used: it enlarges with another kernel, quantises the kernel's position to 1/64 pixel, and rounds differently
// from one tile and thread count to the next.
#ifndef NSIC_CORE_MEDIA_ROWS_H_
#define NSIC_CORE_MEDIA_ROWS_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>

#include "core/base/geometry.h"
#include "core/base/status.h"

namespace nsic {

// To the nearest integer from 0 to 65535, halves to the even one, as lrint does, which is a call for each sample: adding 1.5 * 2^23 leaves
// no bits for the fraction, and the sum's lowest bits are the number.
inline uint16_t RoundToUint16(float value) {
  constexpr float kNoFraction = 12582912.0f;
  const float sum = std::min(std::max(value, 0.0f), 65535.0f) + kNoFraction;
  uint32_t bits = 0;
  std::memcpy(&bits, &sum, sizeof bits);
  return static_cast<uint16_t>(bits);
}

// Rows from the top down, interleaved floats on the scale 0 to 65535.
class RowSource {
 public:
  RowSource(Size size, int channels) : size_(size), channels_(channels) {}
  virtual ~RowSource() = default;
  Size size() const { return size_; }
  int channels() const { return channels_; }
  size_t row_samples() const { return static_cast<size_t>(size_.width) * static_cast<size_t>(channels_); }

  // Writes row_samples() floats. Not to be called more than size().height times.
  virtual Status Next(float* row) = 0;

 private:
  Size size_;
  int channels_;
};

// Pillow's LANCZOS (Resample.c): separable, a = 3, widened by the factor when it shrinks, horizontal first; but without rounding to 8 bits
// in between. Clipped to the scale. The same size gives the same numbers.
std::unique_ptr<RowSource> ResizeRows(std::unique_ptr<RowSource> in, Size size);

// (1 - strength) * under + strength * over. Both have the same size and channels.
std::unique_ptr<RowSource> BlendRows(std::unique_ptr<RowSource> under, std::unique_ptr<RowSource> over, double strength);

// Sharpening by k in [0, 1] as specs/ns-models.md tells it: Pillow's Sharpness at 1 + 2k, then, for k > 0.5, (k - 0.5) * 2 times the
// difference from Pillow's GaussianBlur(1) added. Each step is clipped to the scale.
std::unique_ptr<RowSource> SharpenRows(std::unique_ptr<RowSource> in, double k);

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_ROWS_H_
