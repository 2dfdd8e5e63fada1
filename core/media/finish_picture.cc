#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <list>
#include <utility>

#include "core/media/open_picture.h"
#include "core/media/rows.h"

namespace nsic {
namespace {

using vips::VImage;

std::string Text(Size size) { return std::to_string(size.width) + "x" + std::to_string(size.height); }

// ---- Rows from files and memory

// Some bands of an image as rows, an 8-bit sample v as 257 v; one band is repeated to fill `channels`.
class ImageRows : public RowSource {
 public:
  ImageRows(const VImage& image, int channels, const std::string& path)
      : RowSource({image.width(), image.height()}, channels), strips_(image, path) {}

  Status Next(float* row) override {
    NSIC_ASSIGN_OR_RETURN(const void* samples, strips_.Next());
    if (strips_.sixteen_bit()) {
      Widen(static_cast<const uint16_t*>(samples), 1, row);
    } else {
      Widen(static_cast<const uint8_t*>(samples), 257, row);
    }
    return OkStatus();
  }

 private:
  template <typename Sample>
  void Widen(const Sample* in, int factor, float* out) const {
    if (strips_.bands() == channels()) {
      for (size_t i = 0; i < row_samples(); ++i) out[i] = static_cast<float>(in[i] * factor);
    } else {
      for (size_t i = 0; i < row_samples(); ++i) out[i] = static_cast<float>(in[i / static_cast<size_t>(channels())] * factor);
    }
  }

  StripReader strips_;
};

class WorkingRows : public RowSource {
 public:
  explicit WorkingRows(const WorkingPicture& picture)
      : RowSource({picture.rect().width, picture.rect().height}, 3), next_(picture.samples().data()) {}

  Status Next(float* row) override {
    std::copy_n(next_, row_samples(), row);
    next_ += row_samples();
    return OkStatus();
  }

 private:
  const uint16_t* next_;
};

// Saved pieces side by side. A piece's file is open only while its rows flow past.
class PieceRows : public RowSource {
 public:
  // The pieces cover `size` exactly.
  PieceRows(std::vector<SavedPiece> pieces, Size size) : RowSource(size, 3), pieces_(std::move(pieces)) {
    std::sort(pieces_.begin(), pieces_.end(), [](const SavedPiece& a, const SavedPiece& b) { return a.rect.y < b.rect.y; });
  }

  Status Next(float* row) override {
    open_.remove_if([this](const OpenPiece& piece) { return piece.rect.bottom() <= y_; });
    for (; opened_ < pieces_.size() && pieces_[opened_].rect.y <= y_; ++opened_) NSIC_RETURN_IF_ERROR(Open(pieces_[opened_]));
    for (OpenPiece& piece : open_) {
      NSIC_ASSIGN_OR_RETURN(const void* samples, piece.strips.Next());
      std::copy_n(static_cast<const uint16_t*>(samples), size_t{3} * static_cast<size_t>(piece.rect.width),
                  row + ptrdiff_t{3} * piece.rect.x);
    }
    ++y_;
    return OkStatus();
  }

 private:
  struct OpenPiece {
    Rect rect;
    StripReader strips;
  };

  Status Open(const SavedPiece& piece) {
    try {
      const VImage image =
          VImage::tiffload_source(vips::VSource::new_from_file(piece.path.c_str()),
                                  VImage::option()->set("access", VIPS_ACCESS_SEQUENTIAL)->set("fail_on", VIPS_FAIL_ON_ERROR));
      const Size size = {image.width(), image.height()};
      if (size != Size{piece.rect.width, piece.rect.height} || image.bands() != 3 || image.format() != VIPS_FORMAT_USHORT) {
        return DataLossError("the piece " + piece.path + " should hold " + Text({piece.rect.width, piece.rect.height}) +
                             " pixels of 3 x 16 bits, and holds something else (" + Text(size) + "); compute it again");
      }
      open_.push_back({piece.rect, StripReader(image, piece.path)});
      return OkStatus();
    } catch (const vips::VError&) {
      return DamagedError("the piece " + piece.path);
    }
  }

  std::vector<SavedPiece> pieces_;  // by their top
  std::list<OpenPiece> open_;
  size_t opened_ = 0;
  int y_ = 0;
};

Status CheckCover(const std::vector<SavedPiece>& pieces, Size size) {
  const Rect whole = {0, 0, size.width, size.height};
  int64_t area = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Rect& rect = pieces[i].rect;
    bool fits = !rect.empty() && whole.Contains(rect);
    for (size_t j = 0; j < i && fits; ++j) fits = Intersect(rect, pieces[j].rect).empty();
    if (!fits)
      return InvalidArgumentError("the piece " + pieces[i].path + " lies outside the picture of " + Text(size) + " or on another piece");
    area += rect.area();
  }
  if (area != size.area()) return InvalidArgumentError("the pieces leave gaps in the picture of " + Text(size));
  return OkStatus();
}

// ---- The finished picture as an image that libvips can pull

// The source, upright. Turned pictures have to be decoded whole before their first row is known.
Result<OpenedPicture> OpenUpright(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(OpenedPicture picture, OpenPicture(path, PixelAccess::kRows));
  if (picture.orientation > 2) {
    NSIC_ASSIGN_OR_RETURN(picture, OpenPicture(path, PixelAccess::kAnywhere));
  }
  try {
    picture.image = Upright(picture);
  } catch (const vips::VError&) {
    return DamagedError(path);
  }
  return picture;
}

// Some bands of the source as rows; each caller decodes the file for itself, because they do not walk in step.
Result<std::unique_ptr<RowSource>> SourceRows(const std::string& path, bool alpha) {
  NSIC_ASSIGN_OR_RETURN(const OpenedPicture picture, OpenUpright(path));
  try {
    const int first = alpha ? picture.colours() : 0;
    const int count = alpha ? 1 : picture.colours();
    const VImage bands = picture.image.extract_band(first, VImage::option()->set("n", count));
    return std::unique_ptr<RowSource>(std::make_unique<ImageRows>(bands, alpha ? 1 : 3, path));
  } catch (const vips::VError&) {
    return DamagedError(path);
  }
}

Result<bool> IsOpaque(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(const OpenedPicture picture, OpenPicture(path, PixelAccess::kRows));
  try {
    return picture.image.extract_band(picture.colours()).min() == (picture.info.depth == 16 ? 65535 : 255);
  } catch (const vips::VError&) {
    return DamagedError(path);
  }
}

// Colour and alpha rows become interleaved integer samples.
class OutputRows {
 public:
  OutputRows(std::unique_ptr<RowSource> colour, std::unique_ptr<RowSource> alpha, bool grey, int depth)
      : colour_(std::move(colour)), alpha_(std::move(alpha)), grey_(grey), depth_(depth), row_(colour_->row_samples()) {
    if (alpha_ != nullptr) alpha_row_.resize(alpha_->row_samples());
  }

  Size size() const { return colour_->size(); }
  int bands() const { return (grey_ ? 1 : 3) + (alpha_ != nullptr ? 1 : 0); }
  int depth() const { return depth_; }
  bool grey() const { return grey_; }
  int next() const { return next_; }

  Status Next(void* samples) {
    ++next_;
    NSIC_RETURN_IF_ERROR(colour_->Next(row_.data()));
    if (alpha_ != nullptr) NSIC_RETURN_IF_ERROR(alpha_->Next(alpha_row_.data()));
    if (depth_ == 16) {
      Pack(static_cast<uint16_t*>(samples), 1);
    } else {
      Pack(static_cast<uint8_t*>(samples), 257);
    }
    return OkStatus();
  }

 private:
  template <typename Sample>
  void Pack(Sample* out, float divisor) const {
    const auto round = [divisor](float value) { return static_cast<Sample>(RoundToUint16(std::clamp(value, 0.0f, 65535.0f) / divisor)); };
    for (int x = 0; x < size().width; ++x) {
      const float* rgb = row_.data() + ptrdiff_t{3} * x;
      if (grey_) {
        // BT.601 luma, written so that equal channels give exactly their value.
        *out++ = round(rgb[1] + 0.299f * (rgb[0] - rgb[1]) + 0.114f * (rgb[2] - rgb[1]));
      } else {
        for (int channel = 0; channel < 3; ++channel) *out++ = round(rgb[channel]);
      }
      if (alpha_ != nullptr) *out++ = round(alpha_row_[static_cast<size_t>(x)]);
    }
  }

  std::unique_ptr<RowSource> colour_;
  std::unique_ptr<RowSource> alpha_;
  bool grey_;
  int depth_;
  std::vector<float> row_;
  std::vector<float> alpha_row_;
  int next_ = 0;
};

// What the image below draws from, and why it stopped.
struct Pull {
  OutputRows* rows;
  Status status;
};

int GenerateRows(VipsRegion* out, void*, void* a, void*, gboolean*) {
  Pull& pull = *static_cast<Pull*>(a);
  const VipsRect& rect = out->valid;
  for (int y = rect.top; y < rect.top + rect.height && pull.status.ok(); ++y) {
    if (y != pull.rows->next() || rect.left != 0 || rect.width != out->im->Xsize) {
      pull.status =
          InternalError("libvips asked for row " + std::to_string(y) + " while row " + std::to_string(pull.rows->next()) + " was next");
      break;
    }
    pull.status = pull.rows->Next(VIPS_REGION_ADDR(out, 0, y));
  }
  if (pull.status.ok()) return 0;
  vips_error("nsic", "%s", pull.status.message().c_str());
  return -1;
}

// XMP repeats the orientation; viewers that read it there would turn the picture a second time.
std::string UprightXmp(std::string xmp) {
  for (const std::string_view mark : {"tiff:Orientation=\"", "tiff:Orientation='", "<tiff:Orientation>"}) {
    for (size_t at = xmp.find(mark); at != std::string::npos; at = xmp.find(mark, at)) {
      at += mark.size();
      if (at < xmp.size() && xmp[at] >= '2' && xmp[at] <= '8') xmp[at] = '1';
    }
  }
  return xmp;
}

// Gives `out` the ICC profile, EXIF, XMP, IPTC and texts of the source; not its orientation, and not the EXIF thumbnail, which shows the
// old picture.
void CopyMetadata(const VImage& source, VImage* out) {
  const auto starts = [](const std::string& name, std::string_view prefix) { return name.compare(0, prefix.size(), prefix) == 0; };
  gchar** fields = vips_image_get_fields(source.get_image());
  std::vector<std::string> names;
  for (gchar** field = fields; *field != nullptr; ++field) names.emplace_back(*field);
  g_strfreev(fields);
  for (const std::string& name : names) {
    if (name == VIPS_META_XMP_NAME) {
      size_t size = 0;
      const void* data = source.get_blob(name.c_str(), &size);
      const std::string xmp = UprightXmp(std::string(static_cast<const char*>(data), size));
      vips_image_set_blob_copy(out->get_image(), name.c_str(), xmp.data(), xmp.size());
      continue;
    }
    if (name == "exif-ifd0-Orientation") continue;
    if (name != VIPS_META_ICC_NAME && name != VIPS_META_EXIF_NAME && name != VIPS_META_IPTC_NAME && name != VIPS_META_IMAGEDESCRIPTION &&
        name != VIPS_META_RESOLUTION_UNIT && !starts(name, "exif-") && !starts(name, "png-comment-")) {
      continue;
    }
    GValue value = G_VALUE_INIT;
    if (vips_image_get(source.get_image(), name.c_str(), &value) != 0) throw vips::VError();
    vips_image_set(out->get_image(), name.c_str(), &value);
    g_value_unset(&value);
  }
  out->set(VIPS_META_ORIENTATION, 1);
}

VImage PullImage(Pull* pull, const VImage& source) {
  const OutputRows& rows = *pull->rows;
  const bool wide = rows.depth() == 16;
  VImage image(vips_image_new());
  vips_image_init_fields(image.get_image(), rows.size().width, rows.size().height, rows.bands(),
                         wide ? VIPS_FORMAT_USHORT : VIPS_FORMAT_UCHAR, VIPS_CODING_NONE,
                         rows.grey() ? (wide ? VIPS_INTERPRETATION_GREY16 : VIPS_INTERPRETATION_B_W)
                                     : (wide ? VIPS_INTERPRETATION_RGB16 : VIPS_INTERPRETATION_sRGB),
                         source.xres(), source.yres());
  CopyMetadata(source, &image);
  if (vips_image_pipelinev(image.get_image(), VIPS_DEMAND_STYLE_THINSTRIP, nullptr) != 0 ||
      vips_image_generate(image.get_image(), nullptr, GenerateRows, nullptr, pull, nullptr) != 0) {
    throw vips::VError();
  }
  return image.sequential(VImage::option()->set("tile_height", 16));  // whatever the encoder does, rows are made once and in order
}

// ---- Encoding

void Encode(const VImage& image, PictureFormat format, bool lossless_webp, int jpeg_quality, int fd, const std::string& path) {
  if (format == PictureFormat::kBmp) {
    VipsBlob* blob = image.magicksave_buffer(VImage::option()->set("format", "BMP"));
    size_t size = 0;
    const char* bytes = static_cast<const char*>(vips_blob_get(blob, &size));
    const Status status = WriteAll(fd, std::string_view(bytes, size), path);
    vips_area_unref(VIPS_AREA(blob));
    if (!status.ok()) {
      vips_error("nsic", "%s", status.message().c_str());
      throw vips::VError();
    }
    return;
  }
  vips::VTarget target = vips::VTarget::new_to_descriptor(fd);
  vips::VOption* options = VImage::option();
  switch (format) {
    case PictureFormat::kJpeg:
      // Without optimised Huffman tables: libjpeg would hold the whole picture's coefficients for them.
      return image.jpegsave_target(target, options->set("Q", jpeg_quality)->set("subsample_mode", VIPS_FOREIGN_SUBSAMPLE_OFF));
    case PictureFormat::kPng:
      return image.pngsave_target(target, options->set("compression", 6)->set("filter", VIPS_FOREIGN_PNG_FILTER_ALL));
    case PictureFormat::kWebp:
      if (lossless_webp) return image.webpsave_target(target, options->set("lossless", true));
      return image.webpsave_target(target, options->set("Q", 95)->set("smart_subsample", true));
    case PictureFormat::kTiff:
      return image.tiffsave_target(target, options->set("compression", VIPS_FOREIGN_TIFF_COMPRESSION_DEFLATE)
                                               ->set("predictor", VIPS_FOREIGN_TIFF_PREDICTOR_HORIZONTAL)
                                               ->set("bigtiff", VIPS_IMAGE_SIZEOF_IMAGE(image.get_image()) > (uint64_t{3} << 30)));
    case PictureFormat::kAvif:
      return image.heifsave_target(target, options->set("compression", VIPS_FOREIGN_HEIF_COMPRESSION_AV1)
                                               ->set("Q", 90)
                                               ->set("bitdepth", image.format() == VIPS_FORMAT_USHORT ? 12 : 8)
                                               ->set("subsample_mode", VIPS_FOREIGN_SUBSAMPLE_OFF));
    case PictureFormat::kBmp: break;
  }
}

Status CheckOptions(const FinishOptions& options) {
  const auto inside = [](double value, double low, double high) { return value >= low && value <= high; };  // false for NaN
  if (!inside(options.strength, 0, 1)) return InvalidArgumentError("the strength must be between 0 and 1");
  if (!inside(options.sharpen, 0, 1)) return InvalidArgumentError("sharpening must be between 0 and 1");
  if (!inside(options.scale, 0, 64)) return InvalidArgumentError("the scale must be between 0 and 64");
  if (options.size != Size{} && (options.size.width < 1 || options.size.height < 1)) {
    return InvalidArgumentError("the size to resize to must be at least 1x1, not " + Text(options.size));
  }
  if (options.jpeg_quality < 1 || options.jpeg_quality > 100) return InvalidArgumentError("the JPEG quality must be between 1 and 100");
  return OkStatus();
}

// What the format can hold.
Status CheckFormat(PictureFormat format, Size size, const std::string& path) {
  const int limit = format == PictureFormat::kJpeg                                     ? 65'500
                    : format == PictureFormat::kWebp || format == PictureFormat::kAvif ? 16'383
                                                                                       : 10'000'000;
  if (size.width > limit || size.height > limit) {
    return InvalidArgumentError("the output of " + path + " would have " + Text(size) + " pixels, and a " +
                                std::string(PictureFormatName(format)) + " file holds at most " + std::to_string(limit) +
                                " a side; choose the format png or tiff");
  }
  if (size.area() > int64_t{4} * kMaxPixels) {
    return ResourceExhaustedError("the output of " + path + " would have " + Text(size) +
                                  " pixels, which is too large; choose a smaller scale");
  }
  return OkStatus();
}

// Decodes a file that was just written.
Status ReadBack(const std::string& path, Size size) {
  Result<OpenedPicture> opened = OpenPicture(path, PixelAccess::kRows, int64_t{4} * kMaxPixels);
  Status status = opened.status();
  if (status.ok() && opened->info.size != size)
    status = DataLossError("it has " + Text(opened->info.size) + " instead of " + Text(size) + " pixels");
  if (status.ok()) {
    try {
      opened->image.avg();
    } catch (const vips::VError&) {
      status = DamagedError(path);
    }
  }
  return status.WithContext("the picture that was just written could not be read back");
}

// Makes the network's rows once the source's size is known.
using OpenNetworkRows = std::function<Result<std::unique_ptr<RowSource>>(Size source)>;

Status WriteFinished(const std::string& source_path, const OpenNetworkRows& open_network, const FinishOptions& options,
                     const std::string& output_path, int fd) {
  NSIC_ASSIGN_OR_RETURN(const OpenedPicture source, OpenPicture(source_path, PixelAccess::kRows));
  const PictureInfo& info = source.info;
  NSIC_ASSIGN_OR_RETURN(const PictureFormat format, OutputFormat(info.format, options.format));
  NSIC_ASSIGN_OR_RETURN(std::unique_ptr<RowSource> colour, open_network(info.size));
  const Size size = OutputSize(info.size, colour->size().width / info.size.width, options);
  NSIC_RETURN_IF_ERROR(CheckFormat(format, size, source_path));

  if (options.strength < 1) {
    NSIC_ASSIGN_OR_RETURN(std::unique_ptr<RowSource> original, SourceRows(source_path, false));
    original = ResizeRows(std::move(original), colour->size());
    colour = BlendRows(std::move(original), std::move(colour), options.strength);
  }
  colour = SharpenRows(ResizeRows(std::move(colour), size), options.sharpen);

  std::unique_ptr<RowSource> alpha;
  if (info.alpha && format == PictureFormat::kJpeg) {
    NSIC_ASSIGN_OR_RETURN(const bool opaque, IsOpaque(source_path));
    if (!opaque)
      return InvalidArgumentError(source_path + " has transparent parts, which a JPEG cannot hold; choose the format png or webp");
  } else if (info.alpha) {
    NSIC_ASSIGN_OR_RETURN(alpha, SourceRows(source_path, true));
    alpha = ResizeRows(std::move(alpha), size);
  }

  const bool holds_16_bits = format == PictureFormat::kPng || format == PictureFormat::kTiff || format == PictureFormat::kAvif;
  OutputRows rows(std::move(colour), std::move(alpha), info.grey, holds_16_bits ? info.depth : 8);
  Pull pull{&rows, OkStatus()};
  vips_error_clear();
  try {
    Encode(PullImage(&pull, source.image), format, source.lossless_webp && options.format == "keep", options.jpeg_quality, fd, output_path);
  } catch (const vips::VError&) {
    if (pull.status.ok()) return VipsError(StatusCode::kInternal, "cannot write " + output_path);
    vips_error_clear();
    return pull.status;
  }
  if (fsync(fd) != 0 && errno != EINVAL) return ErrnoError(errno, "cannot write " + output_path);
  return ReadBack(output_path, size);
}

Status Finish(const std::string& source_path, const OpenNetworkRows& open_network, const FinishOptions& options,
              const std::string& output_path) {
  NSIC_RETURN_IF_ERROR(CheckOptions(options));
  NSIC_ASSIGN_OR_RETURN(const UniqueFd fd, CreateFile(output_path));
  const Status status = WriteFinished(source_path, open_network, options, output_path, fd.get());
  if (!status.ok()) unlink(output_path.c_str());
  return status;
}

}  // namespace

Result<PictureFormat> OutputFormat(PictureFormat source, const std::string& format) {
  if (format == "keep") return source;
  if (format == "png") return PictureFormat::kPng;
  if (format == "jpg") return PictureFormat::kJpeg;
  if (format == "webp") return PictureFormat::kWebp;
  if (format == "tiff") return PictureFormat::kTiff;
  return InvalidArgumentError("the output format \"" + format + "\" is not known; choose keep, png, jpg, webp or tiff");
}

Size OutputSize(Size source, int network_scale, const FinishOptions& options) {
  if (options.size != Size{}) return options.size;
  const double scale = options.scale > 0 ? options.scale : network_scale;
  const auto scaled = [scale](int side) { return std::max(1, static_cast<int>(std::lround(std::min(side * scale, 1e9)))); };
  return {scaled(source.width), scaled(source.height)};
}

Status FinishPicture(const std::string& source_path, const WorkingPicture& network_output, const FinishOptions& options,
                     const std::string& output_path) {
  const auto open_network = [&](Size source) -> Result<std::unique_ptr<RowSource>> {
    const Rect rect = network_output.rect();
    const int scale = rect.width / source.width;
    if (scale < 1 || rect != Rect{0, 0, source.width * scale, source.height * scale}) {
      return InvalidArgumentError("the network's output of " + Text({rect.width, rect.height}) + " pixels does not cover " + source_path +
                                  " (" + Text(source) + ")");
    }
    return std::unique_ptr<RowSource>(std::make_unique<WorkingRows>(network_output));
  };
  return Finish(source_path, open_network, options, output_path);
}

Status FinishPictureFromPieces(const std::string& source_path, const std::vector<SavedPiece>& pieces, int network_scale,
                               const FinishOptions& options, const std::string& output_path) {
  const auto open_network = [&](Size source) -> Result<std::unique_ptr<RowSource>> {
    const Size size = {source.width * network_scale, source.height * network_scale};
    NSIC_RETURN_IF_ERROR(CheckCover(pieces, size));
    return std::unique_ptr<RowSource>(std::make_unique<PieceRows>(pieces, size));
  };
  return Finish(source_path, open_network, options, output_path);
}

}  // namespace nsic
