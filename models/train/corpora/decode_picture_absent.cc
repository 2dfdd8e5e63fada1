#include "models/train/corpora/decode_picture.h"

namespace nsic {

std::shared_ptr<void> StartDecoding() { return nullptr; }

Result<DecodedPicture> DecodePicture(const std::string& path) {
  return UnimplementedError("cannot decode " + path +
                            ": this nsic-train was built without libvips; pack the pictures elsewhere with nsic-train corpus, and give "
                            "the packed file");
}

}  // namespace nsic
