// Picture files to 8-bit RGB. One of two files implements it: decode_picture.cc with core/media, or decode_picture_absent.cc on a machine
// without libvips, where nsic-train reads packed corpora only.
#ifndef NSIC_MODELS_TRAIN_CORPORA_DECODE_PICTURE_H_
#define NSIC_MODELS_TRAIN_CORPORA_DECODE_PICTURE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/status.h"

namespace nsic {

// Starts the image libraries that this build has. One in a process, before any DecodePicture; they stop when the handle goes.
std::shared_ptr<void> StartDecoding();

struct DecodedPicture {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;  // rgb[(y * width + x) * 3 + channel]
};

// Upright, without alpha. UNIMPLEMENTED in a build without image libraries; otherwise what PictureReader says.
Result<DecodedPicture> DecodePicture(const std::string& path);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_CORPORA_DECODE_PICTURE_H_
