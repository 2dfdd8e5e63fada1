#include <algorithm>

#include "core/media/open_picture.h"
#include "core/media/rows.h"

namespace nsic {

WorkingPicture::WorkingPicture(const Rect& rect) : rect_(rect), samples_(static_cast<size_t>(rect.area()) * 3) {}

void WorkingPicture::Write(const Rect& rect, const float* planar) {
  const size_t plane = static_cast<size_t>(rect.area());
  for (int y = 0; y < rect.height; ++y) {
    const float* in = planar + static_cast<size_t>(y) * rect.width;
    const size_t row = static_cast<size_t>(rect.y - rect_.y + y) * rect_.width + (rect.x - rect_.x);
    uint16_t* out = samples_.data() + row * 3;
    for (int x = 0; x < rect.width; ++x, out += 3) {
      for (int channel = 0; channel < 3; ++channel) out[channel] = RoundToUint16(in[channel * plane + x] * 65535.0f);
    }
  }
}

Status WorkingPicture::Save(const std::string& path) const {
  NSIC_ASSIGN_OR_RETURN(const UniqueFd fd, CreateFile(path));
  vips_error_clear();
  try {
    vips::VImage image = vips::VImage::new_from_memory(const_cast<uint16_t*>(samples_.data()), samples_.size() * sizeof(uint16_t),
                                                       rect_.width, rect_.height, 3, VIPS_FORMAT_USHORT)
                             .copy(vips::VImage::option()->set("interpretation", VIPS_INTERPRETATION_RGB16));
    image.tiffsave_target(vips::VTarget::new_to_descriptor(fd.get()), vips::VImage::option()
                                                                          ->set("compression", VIPS_FOREIGN_TIFF_COMPRESSION_ZSTD)
                                                                          ->set("level", 1)
                                                                          ->set("predictor", VIPS_FOREIGN_TIFF_PREDICTOR_HORIZONTAL)
                                                                          ->set("bigtiff", true));
  } catch (const vips::VError&) {
    return VipsError(StatusCode::kInternal, "cannot write " + path);
  }
  return OkStatus();
}

Status WorkingPicture::SavePng(int depth, const std::string& path) const {
  NSIC_ASSIGN_OR_RETURN(const UniqueFd fd, CreateFile(path));
  std::vector<uint8_t> bytes;
  if (depth == 8) {
    bytes.reserve(samples_.size());
    for (const uint16_t sample : samples_) bytes.push_back(static_cast<uint8_t>((sample * 255u + 32767u) / 65535u));
  }
  const void* const pixels = depth == 8 ? static_cast<const void*>(bytes.data()) : samples_.data();
  const size_t size = depth == 8 ? bytes.size() : samples_.size() * sizeof(uint16_t);
  vips_error_clear();
  try {
    vips::VImage image =
        vips::VImage::new_from_memory(const_cast<void*>(pixels), size, rect_.width, rect_.height, 3,
                                      depth == 8 ? VIPS_FORMAT_UCHAR : VIPS_FORMAT_USHORT)
            .copy(vips::VImage::option()->set("interpretation", depth == 8 ? VIPS_INTERPRETATION_sRGB : VIPS_INTERPRETATION_RGB16));
    image.pngsave_target(vips::VTarget::new_to_descriptor(fd.get()));
  } catch (const vips::VError&) {
    return VipsError(StatusCode::kInternal, "cannot write " + path);
  }
  return OkStatus();
}

}  // namespace nsic
