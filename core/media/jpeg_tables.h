// How coarsely a JPEG file was quantised: what its maker's quality setting came to.
#ifndef NSIC_CORE_MEDIA_JPEG_TABLES_H_
#define NSIC_CORE_MEDIA_JPEG_TABLES_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "core/base/status.h"

namespace nsic {

// Steps of the 8x8 cosine coefficients, row by row from the mean on (the file's zigzag undone). A grey file's chroma equals its luma.
struct JpegQuantisation {
  std::array<uint16_t, 64> luma{};
  std::array<uint16_t, 64> chroma{};
};

// Of the first frame of the file; nothing when it is no JPEG or its header makes no sense, which decoding will tell. NOT_FOUND and so on
// when it cannot be read.
Result<std::optional<JpegQuantisation>> ReadJpegQuantisation(const std::string& path);

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_JPEG_TABLES_H_
