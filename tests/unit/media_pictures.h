// Pictures for the tests of core/media, made and read with libvips directly.
#ifndef NSIC_TESTS_UNIT_MEDIA_PICTURES_H_
#define NSIC_TESTS_UNIT_MEDIA_PICTURES_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>
#include <vips/vips8>

#include "core/base/digest.h"

namespace nsic {

using vips::VImage;
using vips::VOption;

class PictureTest : public testing::Test {
 protected:
  PictureTest() : folder_(std::filesystem::temp_directory_path() / ("nsic-media-" + RandomHex(8))) {
    std::filesystem::create_directories(folder_);
  }
  ~PictureTest() override { std::filesystem::remove_all(folder_); }
  std::string Path(const std::string& name) const { return folder_ / name; }

  std::filesystem::path folder_;
};

inline std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

inline void Spill(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

// Noise over slow gradients, the same every time: every bit of a sample matters somewhere, and still a lossy codec has something to keep.
inline VImage Noise(int width, int height, int bands, VipsBandFormat format) {
  std::vector<uint16_t> samples(static_cast<size_t>(width) * height * bands);
  uint32_t state = 12345;
  size_t i = 0;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int band = 0; band < bands; ++band) {
        state = state * 1664525u + 1013904223u;
        const uint32_t slow =
            (static_cast<uint32_t>(x) * 300 + static_cast<uint32_t>(y) * (200 + 100 * static_cast<uint32_t>(band))) & 0xBFFF;
        samples[i++] = static_cast<uint16_t>(slow + (state >> 18));
      }
    }
  }
  VImage image = VImage(vips_image_new_from_memory_copy(samples.data(), samples.size() * 2, width, height, bands, VIPS_FORMAT_USHORT));
  const bool grey = bands < 3;
  if (format == VIPS_FORMAT_UCHAR) image = (image / 256).cast(VIPS_FORMAT_UCHAR);
  const bool wide = format == VIPS_FORMAT_USHORT;
  return image.copy(VImage::option()->set("interpretation", grey ? (wide ? VIPS_INTERPRETATION_GREY16 : VIPS_INTERPRETATION_B_W)
                                                                 : (wide ? VIPS_INTERPRETATION_RGB16 : VIPS_INTERPRETATION_sRGB)));
}

struct Decoded {
  int width = 0, height = 0, bands = 0, depth = 0;
  std::vector<uint16_t> samples;  // interleaved
  int at(int x, int y, int band) const { return samples[(static_cast<size_t>(y) * width + x) * bands + band]; }
  friend bool operator==(const Decoded& a, const Decoded& b) {
    return a.width == b.width && a.height == b.height && a.bands == b.bands && a.depth == b.depth && a.samples == b.samples;
  }
};

inline Decoded Decode(const VImage& image) {
  Decoded decoded{image.width(), image.height(), image.bands(), image.format() == VIPS_FORMAT_USHORT ? 16 : 8, {}};
  size_t size = 0;
  void* memory = image.cast(VIPS_FORMAT_USHORT).write_to_memory(&size);
  const auto* samples = static_cast<const uint16_t*>(memory);
  decoded.samples.assign(samples, samples + size / 2);
  g_free(memory);
  return decoded;
}

inline Decoded DecodeFile(const std::string& path) { return Decode(VImage::new_from_file(path.c_str())); }

}  // namespace nsic

#endif  // NSIC_TESTS_UNIT_MEDIA_PICTURES_H_
