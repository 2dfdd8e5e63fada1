#include "core/media/open_picture.h"

#include <fcntl.h>
#include <glib.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/media/sniff_file.h"

namespace nsic {
namespace {

using vips::VImage;

constexpr int kStripRows = 16;

// What libvips logs as warnings is either an error to us too (fail_on) or of no interest to the person at the terminal.
void DropMessage(const gchar*, GLogLevelFlags, const gchar*, gpointer) {}

// The first line of libvips' error buffer, which is emptied.
std::string TakeVipsMessage() {
  std::string text = vips_error_buffer();
  vips_error_clear();
  text = text.substr(0, text.find('\n'));
  return text.empty() ? "no details" : text;
}

VImage Load(const std::string& path, const SniffedPicture& sniffed, PixelAccess access, int shrink) {
  vips::VOption* options = VImage::option()->set("access", access == PixelAccess::kRows ? VIPS_ACCESS_SEQUENTIAL : VIPS_ACCESS_RANDOM);
  // A JPEG whose data breaks off in the middle is a mere warning to libjpeg, which paints the rest grey. The other libraries' warnings are
  // about details of the header.
  options->set("fail_on", sniffed.format == PictureFormat::kJpeg ? VIPS_FAIL_ON_WARNING : VIPS_FAIL_ON_ERROR);
  const auto source = [&path] { return vips::VSource::new_from_file(path.c_str()); };
  switch (sniffed.format) {
    case PictureFormat::kJpeg: return VImage::jpegload_source(source(), options->set("shrink", shrink));
    case PictureFormat::kPng: return VImage::pngload_source(source(), options);
    case PictureFormat::kWebp: return VImage::webpload_source(source(), options);
    case PictureFormat::kTiff: return VImage::tiffload_source(source(), options);
    case PictureFormat::kAvif: return VImage::heifload_source(source(), options);
    case PictureFormat::kBmp: break;
  }
  // From memory, because ImageMagick reads meaning into file names ("mvg:x", "x[0]").
  delete options;
  char* bytes = nullptr;
  gsize size = 0;
  GError* error = nullptr;
  if (!g_file_get_contents(path.c_str(), &bytes, &size, &error)) {
    vips_error("nsic", "%s", error->message);
    g_error_free(error);
    throw vips::VError();
  }
  VipsBlob* blob = vips_blob_new(reinterpret_cast<VipsCallbackFn>(vips_area_free_cb), bytes, size);
  try {
    VImage image = VImage::magickload_buffer(blob);
    vips_area_unref(VIPS_AREA(blob));
    return image;
  } catch (...) {
    vips_area_unref(VIPS_AREA(blob));
    throw;
  }
}

// libvips loads its readers of AVIF and BMP as modules, which a system may lack.
Status CheckLoader(const std::string& path, PictureFormat format) {
  const bool avif = format == PictureFormat::kAvif;
  if (!avif && format != PictureFormat::kBmp) return OkStatus();
  if (vips_type_find("VipsOperation", avif ? "heifload_source" : "magickload_buffer") != 0) return OkStatus();
  return FailedPreconditionError(
      path +
      (avif ? " is an AVIF picture, and the libvips here is without libheif" : " is a BMP, and the libvips here is without ImageMagick") +
      "; install that module, or convert the picture to PNG");
}

int IntField(const VImage& image, const char* name, int absent) { return image.get_typeof(name) == 0 ? absent : image.get_int(name); }

Status TooLarge(const std::string& path, Size size, int64_t max_pixels) {
  return ResourceExhaustedError(path + " claims " + std::to_string(size.width) + "x" + std::to_string(size.height) +
                                " pixels, more than the limit of " + std::to_string(max_pixels / 1'000'000) +
                                " megapixels; make it smaller or cut it into parts first");
}

// Leaves `picture.image` with the bands and the format that OpenedPicture promises.
Status Normalise(const std::string& path, OpenedPicture* picture) {
  VImage& image = picture->image;
  const VipsInterpretation space = image.interpretation();
  if (image.format() != VIPS_FORMAT_UCHAR && image.format() != VIPS_FORMAT_USHORT) {
    return InvalidArgumentError(path + " has samples of the type " + vips_enum_nick(VIPS_TYPE_BAND_FORMAT, image.format()) +
                                "; only 8 and 16 bits are handled: convert it first");
  }
  picture->info.depth = image.format() == VIPS_FORMAT_USHORT ? 16 : 8;
  if (space == VIPS_INTERPRETATION_CMYK) {
    if (image.get_typeof(VIPS_META_ICC_NAME) == 0) {
      return InvalidArgumentError(path +
                                  " is a CMYK picture without an ICC profile, so its colours are not known; convert it to RGB first");
    }
    image = image.icc_transform("srgb", VImage::option()
                                            ->set("embedded", true)
                                            ->set("intent", VIPS_INTENT_RELATIVE)
                                            ->set("black_point_compensation", true)
                                            ->set("depth", picture->info.depth));
  } else if (space != VIPS_INTERPRETATION_B_W && space != VIPS_INTERPRETATION_GREY16 && space != VIPS_INTERPRETATION_sRGB &&
             space != VIPS_INTERPRETATION_RGB && space != VIPS_INTERPRETATION_RGB16 && space != VIPS_INTERPRETATION_MULTIBAND) {
    return InvalidArgumentError(path + " is in the colour space " + vips_enum_nick(VIPS_TYPE_INTERPRETATION, space) +
                                ", which is not handled; convert it to RGB first");
  }
  if (image.bands() > 4) {
    return InvalidArgumentError(path + " has " + std::to_string(image.bands()) +
                                " channels; save it with colour and at most one alpha channel");
  }
  picture->info.grey = image.bands() < 3;
  picture->info.alpha = image.bands() == 2 || image.bands() == 4;
  return OkStatus();
}

}  // namespace

MediaLibrary::MediaLibrary(int threads) {
  if (VIPS_INIT("nsic") != 0) {
    std::fprintf(stderr, "libvips does not start: %s\n", vips_error_buffer());
    std::abort();  // the installation is broken: nothing that follows could work
  }
  vips_concurrency_set(threads);
  // The cache of operations would hold files open and give old pixels for a file that has changed.
  vips_cache_set_max(0);
  g_log_set_handler("VIPS", static_cast<GLogLevelFlags>(G_LOG_LEVEL_WARNING | G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG), DropMessage, nullptr);
}

MediaLibrary::~MediaLibrary() { vips_shutdown(); }

Status VipsError(StatusCode code, const std::string& what) {
  const std::string whole = vips_error_buffer();
  for (const int full : {ENOSPC, EDQUOT}) {
    if (whole.find(g_strerror(full)) == std::string::npos) continue;
    vips_error_clear();
    return ResourceExhaustedError(what + ": the disk is full; make room on it");
  }
  return Status(code, what + " (" + TakeVipsMessage() + ")");
}

Status DamagedError(const std::string& path) {
  return VipsError(StatusCode::kDataLoss, path + " is damaged or truncated; get a good copy of it");
}

Result<OpenedPicture> OpenPicture(const std::string& path, PixelAccess access, int64_t max_pixels, int shrink) {
  NSIC_ASSIGN_OR_RETURN(const SniffedPicture sniffed, SniffPicture(path));
  OpenedPicture picture;
  picture.info.format = sniffed.format;
  picture.lossless_webp = sniffed.lossless_webp;
  if (sniffed.bmp_size && sniffed.bmp_size->area() > max_pixels) return TooLarge(path, *sniffed.bmp_size, max_pixels);
  NSIC_RETURN_IF_ERROR(CheckLoader(path, sniffed.format));
  vips_error_clear();
  try {
    picture.image = Load(path, sniffed, access, shrink);
    VImage& image = picture.image;
    const Size size = {image.width(), image.height()};
    if (size.area() > max_pixels) return TooLarge(path, size, max_pixels);
    if (const int pages = IntField(image, VIPS_META_N_PAGES, 1); pages > 1) {
      const std::string holds = " holds " + std::to_string(pages) + (sniffed.format == PictureFormat::kTiff ? " pages" : " frames");
      return InvalidArgumentError(path + holds + "; save the one that you want as a picture of its own");
    }
    picture.orientation = std::clamp(IntField(image, VIPS_META_ORIENTATION, 1), 1, 8);
    picture.info.size = picture.orientation >= 5 ? Size{size.height, size.width} : size;
    NSIC_RETURN_IF_ERROR(Normalise(path, &picture));
  } catch (const vips::VError&) {
    return DamagedError(path);
  }
  return picture;
}

VImage Upright(const OpenedPicture& picture) {
  const VImage& image = picture.image;
  switch (picture.orientation) {
    case 2: return image.fliphor();
    case 3: return image.rot180();
    case 4: return image.flipver();
    case 5: return image.rot90().fliphor();
    case 6: return image.rot90();
    case 7: return image.rot90().flipver();
    case 8: return image.rot270();
    default: return image;
  }
}

Result<UniqueFd> CreateFile(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!fd.valid()) return ErrnoError(errno, "cannot write " + path);
  return fd;
}

Result<PictureInfo> ProbePicture(const std::string& path, int64_t max_pixels) {
  NSIC_ASSIGN_OR_RETURN(const OpenedPicture picture, OpenPicture(path, PixelAccess::kRows, max_pixels));
  return picture.info;
}

Result<const void*> StripReader::Next() {
  const size_t row_bytes = VIPS_IMAGE_SIZEOF_LINE(image_.get_image());
  if (next_ >= image_.height()) return InternalError(path_ + ": read past its last row");
  if (next_ >= strip_top_ + strip_rows_) {
    // A region belongs to the thread that made it, and the caller's thread may change between strips.
    const VipsRect wanted = {0, next_, image_.width(), std::min(kStripRows, image_.height() - next_)};
    VipsRegion* region = vips_region_new(image_.get_image());
    if (region == nullptr || vips_region_prepare(region, &wanted) != 0) {
      if (region != nullptr) g_object_unref(region);
      return DamagedError(path_);
    }
    strip_.resize(row_bytes * static_cast<size_t>(wanted.height));
    for (int y = 0; y < wanted.height; ++y) {
      std::memcpy(strip_.data() + row_bytes * static_cast<size_t>(y), VIPS_REGION_ADDR(region, 0, wanted.top + y), row_bytes);
    }
    g_object_unref(region);
    strip_top_ = next_;
    strip_rows_ = wanted.height;
  }
  return static_cast<const void*>(strip_.data() + row_bytes * static_cast<size_t>(next_++ - strip_top_));
}

}  // namespace nsic
