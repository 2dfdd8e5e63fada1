#include "models/train/corpora/decode_picture.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/media/picture.h"

namespace nsic {

std::shared_ptr<void> StartDecoding() { return std::make_shared<MediaLibrary>(/*threads=*/1); }

Result<DecodedPicture> DecodePicture(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<PictureReader> reader, PictureReader::Open(path));
  const Size size = reader->info().size;
  DecodedPicture picture;
  picture.width = size.width;
  picture.height = size.height;
  picture.rgb.resize(static_cast<size_t>(size.area()) * 3);
  std::vector<float> line(static_cast<size_t>(size.width) * 3);
  for (int y = 0; y < size.height; ++y) {
    NSIC_RETURN_IF_ERROR(reader->Read({0, y, size.width, 1}, line.data()));
    uint8_t* out = picture.rgb.data() + static_cast<size_t>(y) * static_cast<size_t>(size.width) * 3;
    for (int x = 0; x < size.width; ++x) {
      for (int c = 0; c < 3; ++c) *out++ = static_cast<uint8_t>(std::lround(line[static_cast<size_t>(c * size.width + x)] * 255.0f));
    }
  }
  return picture;
}

}  // namespace nsic
