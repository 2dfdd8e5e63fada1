#include "models/train/corpora/real_codecs.h"

#include <spawn.h>
#include <sys/wait.h>
#include <vips/vips.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <utility>

#include "core/base/digest.h"
#include "core/base/files.h"

extern char** environ;

namespace nsic {
namespace {

struct ReleaseImage {
  void operator()(VipsImage* image) const { g_object_unref(image); }
};
struct ReleaseBytes {
  void operator()(void* bytes) const { g_free(bytes); }
};
struct ReleaseInterpolator {
  void operator()(VipsInterpolate* interpolator) const { g_object_unref(interpolator); }
};
struct ReleaseArea {
  void operator()(VipsArrayInt* array) const { vips_area_unref(VIPS_AREA(array)); }
};
using ImagePointer = std::unique_ptr<VipsImage, ReleaseImage>;

Status VipsFailed(const std::string& what) {
  std::string why = vips_error_buffer();
  vips_error_clear();
  return InternalError(what + ": libvips failed: " + why);
}

// Shares the samples, which must outlive it.
Result<ImagePointer> ToVips(const Rgb8& picture) {
  ImagePointer image(vips_image_new_from_memory(picture.samples.data(), picture.samples.size(), picture.size.width, picture.size.height, 3,
                                                VIPS_FORMAT_UCHAR));
  if (image == nullptr) return VipsFailed("cannot read a picture");
  return image;
}

Result<Rgb8> FromVips(VipsImage* image) {
  VipsImage* raw = nullptr;
  if (vips_cast(image, &raw, VIPS_FORMAT_UCHAR, nullptr) != 0) return VipsFailed("cannot convert a picture");
  const ImagePointer cast(raw);
  size_t bytes = 0;
  const std::unique_ptr<void, ReleaseBytes> pixels(vips_image_write_to_memory(cast.get(), &bytes));
  Rgb8 result{{vips_image_get_width(cast.get()), vips_image_get_height(cast.get())}, {}};
  if (pixels == nullptr || bytes != static_cast<size_t>(result.size.area()) * 3) return VipsFailed("cannot convert a picture");
  result.samples.resize(bytes);
  std::memcpy(result.samples.data(), pixels.get(), bytes);
  return result;
}

// Through a file's bytes: `save(image, &bytes, &size)` and `load(bytes, size, &image)` are libvips' functions.
template <typename Save, typename Load>
Result<Rgb8> ThroughFile(const Rgb8& picture, Save save, Load load) {
  NSIC_ASSIGN_OR_RETURN(const ImagePointer image, ToVips(picture));
  void* raw = nullptr;
  size_t size = 0;
  if (save(image.get(), &raw, &size) != 0) return VipsFailed("cannot compress a picture");
  const std::unique_ptr<void, ReleaseBytes> file(raw);
  VipsImage* loaded = nullptr;
  if (load(file.get(), size, &loaded) != 0) return VipsFailed("cannot decompress a picture");
  const ImagePointer decoded(loaded);
  return FromVips(decoded.get());
}

// A new folder that goes with it.
class TemporaryFolder {
 public:
  TemporaryFolder() : path_(std::filesystem::temp_directory_path() / ("nsic-train-" + RandomHex(8))) {
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string File(const std::string& name) const { return path_ / name; }

 private:
  const std::filesystem::path path_;
};

Status RunFfmpeg(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"ffmpeg", "-nostdin", "-loglevel", "error", "-y"});
  std::vector<char*> raw;
  for (std::string& argument : arguments) raw.push_back(argument.data());
  raw.push_back(nullptr);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, "ffmpeg", nullptr, nullptr, raw.data(), environ);
  if (error != 0) return FailedPreconditionError(std::string("cannot start ffmpeg (") + std::strerror(error) + "); install it");
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return ErrnoError(errno, "cannot wait for ffmpeg");
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return OkStatus();
  return FailedPreconditionError("ffmpeg failed; it needs the encoders libx264 and libx265");
}

}  // namespace

Result<Rgb8> ThroughJpeg(const Rgb8& picture, int quality) {
  return ThroughFile(
      picture,
      [&](VipsImage* image, void** bytes, size_t* size) {
        return vips_jpegsave_buffer(image, bytes, size, "Q", quality, "subsample_mode", VIPS_FOREIGN_SUBSAMPLE_ON, nullptr);
      },
      [](void* bytes, size_t size, VipsImage** image) { return vips_jpegload_buffer(bytes, size, image, nullptr); });
}

Result<Rgb8> ThroughWebp(const Rgb8& picture, int quality) {
  return ThroughFile(
      picture,
      [&](VipsImage* image, void** bytes, size_t* size) { return vips_webpsave_buffer(image, bytes, size, "Q", quality, nullptr); },
      [](void* bytes, size_t size, VipsImage** image) { return vips_webpload_buffer(bytes, size, image, nullptr); });
}

Result<std::vector<Rgb8>> ThroughVideo(const std::vector<Rgb8>& pictures, VideoCodec codec, int crf) {
  if (pictures.empty()) return std::vector<Rgb8>();
  const Size size = pictures[0].size;
  const TemporaryFolder folder;
  const std::string raw = folder.File("frames.rgb"), video = folder.File("video.mkv"), decoded = folder.File("decoded.rgb");
  std::string frames;
  for (const Rgb8& picture : pictures) frames.append(reinterpret_cast<const char*>(picture.samples.data()), picture.samples.size());
  NSIC_RETURN_IF_ERROR(WriteFileAtomically(raw, frames));
  std::vector<std::string> encode = {"-f",       "rawvideo",
                                     "-pix_fmt", "rgb24",
                                     "-s",       std::to_string(size.width) + "x" + std::to_string(size.height),
                                     "-r",       "25",
                                     "-i",       raw,
                                     "-g",       "1",
                                     "-pix_fmt", "yuv420p",
                                     "-crf",     std::to_string(crf)};
  if (codec == VideoCodec::kH264) {
    encode.insert(encode.end(), {"-c:v", "libx264"});
  } else {
    encode.insert(encode.end(), {"-c:v", "libx265", "-x265-params", "log-level=error"});
  }
  encode.push_back(video);
  NSIC_RETURN_IF_ERROR(RunFfmpeg(encode));
  NSIC_RETURN_IF_ERROR(RunFfmpeg({"-i", video, "-f", "rawvideo", "-pix_fmt", "rgb24", decoded}));
  NSIC_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(decoded));
  const size_t frame = static_cast<size_t>(size.area()) * 3;
  if (bytes.size() != frame * pictures.size()) return InternalError("ffmpeg gave back another number of frames than it was given");
  std::vector<Rgb8> result;
  for (size_t i = 0; i < pictures.size(); ++i) {
    const auto* first = reinterpret_cast<const uint8_t*>(bytes.data()) + i * frame;
    result.push_back({size, std::vector<uint8_t>(first, first + frame)});
  }
  return result;
}

Result<Rgb8> Blurred(const Rgb8& picture, double sigma) {
  NSIC_ASSIGN_OR_RETURN(const ImagePointer image, ToVips(picture));
  VipsImage* raw = nullptr;
  if (vips_gaussblur(image.get(), &raw, sigma, "precision", VIPS_PRECISION_FLOAT, "min_ampl", 0.01, nullptr) != 0) {
    return VipsFailed("cannot blur a picture");
  }
  const ImagePointer blurred(raw);
  return FromVips(blurred.get());
}

Result<Rgb8> Rescaled(const Rgb8& picture, double scale) {
  NSIC_ASSIGN_OR_RETURN(const ImagePointer image, ToVips(picture));
  const auto side = [scale](int full) { return std::max(1.0, std::round(full * scale)); };
  VipsImage* raw = nullptr;
  if (vips_resize(image.get(), &raw, side(picture.size.width) / picture.size.width, "vscale",
                  side(picture.size.height) / picture.size.height, "kernel", VIPS_KERNEL_LANCZOS3, nullptr) != 0) {
    return VipsFailed("cannot resize a picture");
  }
  const ImagePointer there(raw);
  // Not vips_resize: upwards, that of libvips 8.14 moves the picture by up to half a pixel.
  const double across = static_cast<double>(picture.size.width) / vips_image_get_width(there.get());
  const double down = static_cast<double>(picture.size.height) / vips_image_get_height(there.get());
  const std::unique_ptr<VipsInterpolate, ReleaseInterpolator> cubic(vips_interpolate_new("bicubic"));
  const std::unique_ptr<VipsArrayInt, ReleaseArea> whole(vips_array_int_newv(4, 0, 0, picture.size.width, picture.size.height));
  if (cubic == nullptr || vips_affine(there.get(), &raw, across, 0, 0, down, "odx", (across - 1) / 2, "ody", (down - 1) / 2, "oarea",
                                      whole.get(), "interpolate", cubic.get(), "extend", VIPS_EXTEND_COPY, nullptr) != 0) {
    return VipsFailed("cannot resize a picture");
  }
  const ImagePointer back(raw);
  NSIC_ASSIGN_OR_RETURN(Rgb8 result, FromVips(back.get()));
  if (result.size != picture.size) return InternalError("libvips resized a picture to another size than it was asked for");
  return result;
}

Rgb8 Noisy(const Rgb8& picture, double sigma, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> noise(0, sigma);
  Rgb8 result = picture;
  for (uint8_t& sample : result.samples) sample = static_cast<uint8_t>(std::clamp(std::lround(sample + noise(random)), 0l, 255l));
  return result;
}

Rgb8 Mosaiced(const Rgb8& picture, int block) {
  Rgb8 result = picture;
  const auto at = [&](int x, int y, int c) { return (static_cast<size_t>(y) * static_cast<size_t>(picture.size.width) + x) * 3 + c; };
  for (int y0 = 0; y0 < picture.size.height; y0 += block) {
    for (int x0 = 0; x0 < picture.size.width; x0 += block) {
      const int x1 = std::min(x0 + block, picture.size.width), y1 = std::min(y0 + block, picture.size.height);
      for (int c = 0; c < 3; ++c) {
        int64_t sum = 0;
        for (int y = y0; y < y1; ++y) {
          for (int x = x0; x < x1; ++x) sum += picture.samples[at(x, y, c)];
        }
        const int64_t count = int64_t{x1 - x0} * (y1 - y0);
        const uint8_t mean = static_cast<uint8_t>((2 * sum + count) / (2 * count));
        for (int y = y0; y < y1; ++y) {
          for (int x = x0; x < x1; ++x) result.samples[at(x, y, c)] = mean;
        }
      }
    }
  }
  return result;
}

}  // namespace nsic
