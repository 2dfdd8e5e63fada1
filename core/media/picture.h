// Picture files in, picture files out. libvips does the work and stays behind this header.
//
// The way of a picture:  file -> PictureReader -> (engine) -> WorkingPicture -> FinishPicture -> file
// The working depth is 16 bits a sample for every source, so that a picture restored whole and one put together from tile tasks are
// finished from the very same numbers. An 8-bit sample v stands as 257 v, a 16-bit sample as itself: a network that changes nothing
// gives back the input bit for bit.
#ifndef NSIC_CORE_MEDIA_PICTURE_H_
#define NSIC_CORE_MEDIA_PICTURE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/geometry.h"
#include "core/base/status.h"

namespace nsic {

enum class PictureFormat { kJpeg, kPng, kWebp, kTiff, kBmp, kAvif };
std::string_view PictureFormatName(PictureFormat format);       // "jpeg", "png", ...
std::string_view PictureFormatExtension(PictureFormat format);  // "jpg", "png", ... without a dot

// Starts and stops libvips: one object in main, before any other call here, alive until the end. `threads` 0 means all cores.
class MediaLibrary {
 public:
  explicit MediaLibrary(int threads = 0);
  ~MediaLibrary();
  MediaLibrary(const MediaLibrary&) = delete;
  MediaLibrary& operator=(const MediaLibrary&) = delete;
};

struct PictureInfo {
  Size size;  // after EXIF orientation
  PictureFormat format = PictureFormat::kPng;
  int depth = 8;  // bits a sample: 8 or 16
  bool alpha = false;
  bool grey = false;  // one colour channel
};

// What the first bytes of a file say it is. A file that they say nothing of, but that is named like a picture ("x.jpg"), counts as one, so
// that ProbePicture can say what is wrong with it instead of nobody. GIF, HEIC and other pictures that are not read are kPicture too, for
// the same reason.
enum class FileKind { kPicture, kVideo, kOther };
Result<FileKind> SniffFile(const std::string& path);

// Reads the header only. INVALID_ARGUMENT when the file is no picture, or one that is refused: an animation, several pages, CMYK without a
// profile, samples of other than 8 or 16 bits, a colour space other than grey, RGB and CMYK. RESOURCE_EXHAUSTED when it claims more than
// `max_pixels`, DATA_LOSS for an empty or broken file. Messages name the file.
Result<PictureInfo> ProbePicture(const std::string& path, int64_t max_pixels = 500'000'000);

// The pixels of a picture file, oriented, as RGB in the file's own colour space (CMYK: sRGB); alpha is left to FinishPicture.
// Once open, any number of threads may read.
class PictureReader {
 public:
  // Decodes `window` of the picture (an empty rect: all of it) and keeps only that in memory, at the file's own depth: turned pictures too.
  // On the way baseline JPEG, PNG and TIFF take a few rows; progressive JPEG, interlaced PNG, WebP, BMP and AVIF are decoded whole by their
  // libraries. DATA_LOSS when the file is truncated or damaged in or above the window; never a partly grey picture. RESOURCE_EXHAUSTED
  // without memory for it.
  static Result<std::unique_ptr<PictureReader>> Open(const std::string& path, const Rect& window = {});
  virtual ~PictureReader() = default;

  virtual const PictureInfo& info() const = 0;
  virtual int64_t memory_bytes() const = 0;
  // Writes 3 x rect.height x rect.width planar floats in [0, 1] (grey is repeated). `rect` in picture coordinates, inside the window.
  virtual Status Read(const Rect& rect, float* planar) const = 0;
};

// The network's output for a rectangle of the (scaled) picture: 16-bit interleaved RGB in memory.
class WorkingPicture {
 public:
  explicit WorkingPicture(const Rect& rect);
  const Rect& rect() const { return rect_; }
  // Rounds planar floats to 16 bits, clamping to [0, 1]. `rect` in the coordinates of rect().
  void Write(const Rect& rect, const float* planar);
  const std::vector<uint16_t>& samples() const { return samples_; }
  std::vector<uint16_t>& samples() { return samples_; }

  // A lossless file, quick to write: what a tile task returns.
  Status Save(const std::string& path) const;
  // A PNG of 8 or 16 bits a sample, for people.
  Status SavePng(int depth, const std::string& path) const;

 private:
  Rect rect_;
  std::vector<uint16_t> samples_;  // samples_[(y * width + x) * 3 + channel]
};

// A tile task's saved output and where it belongs, in output (scaled by the network) coordinates.
struct SavedPiece {
  Rect rect;
  std::string path;
};

// What happens to the whole picture after the network, once.
struct FinishOptions {
  double strength = 1.0;        // 0..1: (1 - s) * input + s * output (the input resized when the network scales)
  double sharpen = 0.0;         // 0..1, as the original program has it (specs/ns-models.md, "How the original runs it")
  double scale = 0.0;           // a factor of the source's size, Lanczos a = 3, antialiased; 0: the network's size
  Size size;                    // or a size in pixels; 0x0: none
  std::string format = "keep";  // "keep", "png", "jpg", "webp", "tiff"
  int jpeg_quality = 95;        // 4:4:4
};

// The format that FinishPicture will write for a source: "keep" keeps it. INVALID_ARGUMENT for a format that is not known.
Result<PictureFormat> OutputFormat(PictureFormat source, const std::string& format);
// The size that FinishPicture will write, from the source's size and the network's scale.
Size OutputSize(Size source, int network_scale, const FinishOptions& options);

// Makes the finished file: strength, resize, sharpen, then alpha (resized when the picture is), ICC profile, EXIF and XMP of the source
// (orientation set to upright), grey back to grey, 16-bit stays 16-bit where the format can, and encodes to `output_path` (its name's
// extension does not matter). The result is synced and read back whole and its size compared before OK is returned; on an error nothing is
// left. The same input gives the same bytes, whatever the number of threads, and whether from a picture or from pieces. Lossless WebP stays
// lossless; other WebP is written at quality 95. JPEG cannot hold transparency: an alpha channel that is opaque everywhere is left out, any
// other is INVALID_ARGUMENT. EXIF is lost to and from TIFF (libvips does not carry it); ICC and XMP are not. It takes the memory of some
// hundred rows, except that WebP, BMP and AVIF are encoded from whole pictures, and that a source turned by its orientation is decoded into
// a temporary file (from 100 MB on) when its own pixels are needed: for strength below 1, or alpha. `source_path` is the original;
// `network_output` covers the picture.
Status FinishPicture(const std::string& source_path, const WorkingPicture& network_output, const FinishOptions& options,
                     const std::string& output_path);
// The same from tile tasks' outputs, streaming; INVALID_ARGUMENT unless the pieces cover the picture exactly.
Status FinishPictureFromPieces(const std::string& source_path, const std::vector<SavedPiece>& pieces, int network_scale,
                               const FinishOptions& options, const std::string& output_path);

// A small upright sRGB JPEG for the report: longest side at most `side` pixels, without metadata.
Result<std::string> MakeThumbnail(const std::string& path, int side);

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_PICTURE_H_
