// The edge to libvips: opens a picture file as a lazy VImage and says in NSIC's words what is wrong. Internal to core/media.
//
// libvips keeps one error buffer a process. Its text is therefore only ever an addition to a message, in parentheses: when two files fail
// at the same moment in two threads, the text of one may stand behind the other's name. Codes and file names come from here.
#ifndef NSIC_CORE_MEDIA_OPEN_PICTURE_H_
#define NSIC_CORE_MEDIA_OPEN_PICTURE_H_

#include <cstdint>
#include <string>
#include <vector>
#include <vips/vips8>

#include "core/base/files.h"
#include "core/base/geometry.h"
#include "core/base/status.h"
#include "core/media/picture.h"

namespace nsic {

inline constexpr int64_t kMaxPixels = 500'000'000;

struct OpenedPicture {
  // As the file has it: not turned; 8 or 16 bits; 1 or 3 colour bands and perhaps alpha, last. CMYK has become sRGB, with that profile.
  vips::VImage image;
  PictureInfo info;     // of the upright picture
  int orientation = 1;  // EXIF, 1 to 8
  bool lossless_webp = false;

  int colours() const { return info.grey ? 1 : 3; }
};

// How the pixels will be asked for. kRows: once, from the top down, decoded as they are asked for. kAnywhere: libvips decodes the picture
// on the first request, into memory up to 100 MB and into a temporary file beyond that.
enum class PixelAccess { kRows, kAnywhere };

// Opens and checks the header. Pixels are decoded later, and damage found then comes out of libvips: see DamagedError.
// `shrink` (1, 2, 4, 8) lets a JPEG be decoded at a fraction of its size; other formats ignore it.
Result<OpenedPicture> OpenPicture(const std::string& path, PixelAccess access, int64_t max_pixels = kMaxPixels, int shrink = 1);

// The picture as a viewer shows it. Needs kAnywhere for orientations other than 1 and 2.
vips::VImage Upright(const OpenedPicture& picture);

// The Status for a failure of libvips, with the library's own words; empties its error buffer. RESOURCE_EXHAUSTED when the disk is full.
Status DamagedError(const std::string& path);                // while reading pixels: DATA_LOSS
Status VipsError(StatusCode code, const std::string& what);  // anything else

// Makes or empties the file that libvips shall write. PERMISSION_DENIED, NOT_FOUND and so on as the system has it.
Result<UniqueFd> CreateFile(const std::string& path);

// Reads an image from the top down in strips, whichever thread it is called from. One caller at a time.
class StripReader {
 public:
  // `path` is for messages.
  StripReader(vips::VImage image, std::string path) : image_(std::move(image)), path_(std::move(path)) {}
  const vips::VImage& image() const { return image_; }
  int bands() const { return image_.bands(); }
  bool sixteen_bit() const { return image_.format() == VIPS_FORMAT_USHORT; }

  // Interleaved samples of the next row, of image().format(); valid until the next call.
  Result<const void*> Next();

 private:
  vips::VImage image_;
  std::string path_;
  int next_ = 0;
  int strip_top_ = 0;
  int strip_rows_ = 0;
  std::vector<uint8_t> strip_;
};

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_OPEN_PICTURE_H_
