// What a file is, judged by its first bytes. Internal to core/media.
#ifndef NSIC_CORE_MEDIA_SNIFF_FILE_H_
#define NSIC_CORE_MEDIA_SNIFF_FILE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "core/base/geometry.h"
#include "core/base/status.h"
#include "core/media/picture.h"

namespace nsic {

struct SniffedPicture {
  PictureFormat format = PictureFormat::kPng;
  bool lossless_webp = false;    // its pixels are in a VP8L chunk
  std::optional<Size> bmp_size;  // BMP: from the header, because ImageMagick is not asked before the size is known to be sane
};

// The format of a picture that NSIC reads. DATA_LOSS for an empty file and for a BMP whose pixels are cut off; INVALID_ARGUMENT for
// anything that is no picture, an animation, or a picture of a format that is not read, each with its message.
Result<SniffedPicture> SniffPicture(const std::string& path);

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_SNIFF_FILE_H_
