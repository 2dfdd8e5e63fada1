#include "core/media/convert_frame.h"

extern "C" {
#include <libavutil/buffer.h>
#include <libavutil/frame.h>
#include <libavutil/imgutils.h>
#include <libavutil/mem.h>
#include <libavutil/pixdesc.h>
}
#include <zimg.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "core/media/rows.h"

namespace nsic {
namespace {

constexpr size_t kAlignment = 64;  // bytes, of rows: what zimg and the encoders' vector code want

std::string Text(Size size) { return std::to_string(size.width) + "x" + std::to_string(size.height); }

size_t RoundUp(size_t value, size_t to) { return (value + to - 1) / to * to; }

// Bytes that start at a multiple of kAlignment.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(size_t bytes) : storage_(bytes + kAlignment) {}
  uint8_t* get() { return reinterpret_cast<uint8_t*>(RoundUp(reinterpret_cast<uintptr_t>(storage_.data()), kAlignment)); }

 private:
  std::vector<uint8_t> storage_;
};

// ---- Formats and colours

enum class Family { kGrey, kYuv, kRgb };

struct Format {
  AVPixelFormat id = AV_PIX_FMT_NONE;
  const AVPixFmtDescriptor* descriptor = nullptr;
  Family family = Family::kYuv;
  int depth = 8;   // of all components
  int log2_w = 0;  // of chroma
  int log2_h = 0;
  bool planar = false;  // each component in a plane of its own, in this machine's bytes

  int components() const { return family == Family::kGrey ? 1 : 3; }
  int bytes() const { return depth > 8 ? 2 : 1; }
  int plane(int component) const { return descriptor->comp[component].plane; }
  bool is_chroma(int component) const { return family == Family::kYuv && component > 0; }
  Size plane_size(Size picture, int component) const {
    if (!is_chroma(component)) return picture;
    return {AV_CEIL_RSHIFT(picture.width, log2_w), AV_CEIL_RSHIFT(picture.height, log2_h)};
  }
};

Result<Format> ParseFormat(const std::string& name) {
  const AVPixelFormat id = av_get_pix_fmt(name.c_str());
  const AVPixFmtDescriptor* const descriptor = av_pix_fmt_desc_get(id);
  if (descriptor == nullptr) return UnimplementedError("the pixel format \"" + name + "\" is not known");
  const auto refuse = [&](const std::string& why) {
    return UnimplementedError("the pixel format " + name + " is not handled (" + why + ")");
  };
  if ((descriptor->flags & AV_PIX_FMT_FLAG_HWACCEL) != 0) return refuse("its samples are not in memory");
  if ((descriptor->flags & AV_PIX_FMT_FLAG_PAL) != 0) return refuse("a palette");
  if ((descriptor->flags & AV_PIX_FMT_FLAG_BITSTREAM) != 0) return refuse("samples of less than a byte");
  if ((descriptor->flags & AV_PIX_FMT_FLAG_BAYER) != 0) return refuse("a sensor's mosaic");
  if ((descriptor->flags & AV_PIX_FMT_FLAG_FLOAT) != 0) return refuse("floating point");
  if ((descriptor->flags & AV_PIX_FMT_FLAG_ALPHA) != 0) return refuse("transparency");
  if (name.compare(0, 3, "xyz") == 0) return refuse("CIE XYZ");

  Format format;
  format.id = id;
  format.descriptor = descriptor;
  format.family = descriptor->nb_components == 1                   ? Family::kGrey
                  : (descriptor->flags & AV_PIX_FMT_FLAG_RGB) != 0 ? Family::kRgb
                                                                   : Family::kYuv;
  if (descriptor->nb_components != format.components()) return refuse("its number of components");
  format.depth = descriptor->comp[0].depth;
  format.log2_w = descriptor->log2_chroma_w;
  format.log2_h = descriptor->log2_chroma_h;
  format.planar = (descriptor->flags & AV_PIX_FMT_FLAG_BE) == 0;
  unsigned planes = 0;
  for (int i = 0; i < format.components(); ++i) {
    const AVComponentDescriptor& component = descriptor->comp[i];
    if (component.depth != format.depth) return refuse("components of different depths");
    format.planar = format.planar && component.step == format.bytes() && component.offset == 0 && component.shift == 0 &&
                    (planes & (1u << component.plane)) == 0;
    planes |= 1u << component.plane;
  }
  if (format.depth < 8 || format.depth > 16) return refuse("samples of " + std::to_string(format.depth) + " bits");
  return format;
}

// A matrix that zimg knows. Numbers that say nothing, and "RGB" of samples that are not, are resolved as players do.
Result<int> ResolveMatrix(int matrix, Size size) {
  switch (matrix) {
    case AVCOL_SPC_BT709:
    case AVCOL_SPC_FCC:
    case AVCOL_SPC_BT470BG:
    case AVCOL_SPC_SMPTE170M:
    case AVCOL_SPC_SMPTE240M:
    case AVCOL_SPC_YCGCO:
    case AVCOL_SPC_BT2020_NCL: return matrix;
    case AVCOL_SPC_RGB:
    case AVCOL_SPC_UNSPECIFIED:
    case AVCOL_SPC_RESERVED: return size.height >= 720 || size.width >= 1280 ? AVCOL_SPC_BT709 : AVCOL_SPC_SMPTE170M;
    default: {
      const char* const name = av_color_space_name(static_cast<AVColorSpace>(matrix));
      return UnimplementedError("the colour matrix " + (name != nullptr ? std::string(name) : std::to_string(matrix)) + " is not handled");
    }
  }
}

bool IsFullRange(const Format& format, bool flag) {
  const char* const name = format.descriptor->name;
  return format.family == Family::kRgb || flag || std::strncmp(name, "yuvj", 4) == 0;
}

// How a component's samples stand for numbers: sample = offset + scale * number, luma and RGB in [0, 1], chroma in [-0.5, 0.5].
struct Quantizer {
  float scale = 1;
  float offset = 0;
};

Quantizer QuantizerOf(const Format& format, bool full_range, int component) {
  const float step = static_cast<float>(1 << (format.depth - 8));
  const float most = static_cast<float>((1 << format.depth) - 1);
  if (format.is_chroma(component)) return {full_range ? most : 224 * step, 128 * step};
  return full_range ? Quantizer{most, 0} : Quantizer{219 * step, 16 * step};
}

// ---- zimg

Status ZimgError(const std::string& what) {
  char message[256] = "";
  zimg_get_last_error(message, sizeof message);
  zimg_clear_last_error();
  return InternalError(what + ": " + message);
}

struct ImageFormat : zimg_image_format {
  ImageFormat(Size size, zimg_pixel_type_e type, zimg_color_family_e family) : zimg_image_format() {
    zimg_image_format_default(this, ZIMG_API_VERSION);
    width = static_cast<unsigned>(size.width);
    height = static_cast<unsigned>(size.height);
    pixel_type = type;
    color_family = family;
    pixel_range = ZIMG_RANGE_FULL;
    matrix_coefficients = family == ZIMG_COLOR_RGB ? ZIMG_MATRIX_RGB : ZIMG_MATRIX_UNSPECIFIED;
  }
};

// Columns [left, right) of row `row`; where the image is subsampled, of the luma rows that share a chroma row, the first of which `row` is.
using RowFunction = std::function<void(int row, int left, int right)>;

// Rows of three planes that zimg reads or writes: whole planes, or the few rows that it works on at a time.
struct Planes {
  uint8_t* data[3] = {};
  ptrdiff_t stride[3] = {};
  unsigned mask = ZIMG_BUFFER_MAX;

  template <typename Sample>
  Sample* row(int plane, int row) const {
    return reinterpret_cast<Sample*>(data[plane] + static_cast<ptrdiff_t>(static_cast<unsigned>(row) & mask) * stride[plane]);
  }
};

// One conversion, made once and used for every frame.
class Conversion {
 public:
  static Result<std::unique_ptr<Conversion>> Make(const ImageFormat& from, const ImageFormat& to,
                                                  zimg_resample_filter_e filter = ZIMG_RESIZE_BILINEAR) {
    zimg_graph_builder_params params;
    zimg_graph_builder_params_default(&params, ZIMG_API_VERSION);
    params.resample_filter = filter;
    if (filter == ZIMG_RESIZE_LANCZOS) params.filter_param_a = 3;
    params.resample_filter_uv = ZIMG_RESIZE_BILINEAR;  // what JPEG decoders do, on whose pictures the networks were trained
    std::unique_ptr<Conversion> conversion(new Conversion);
    conversion->graph_.reset(zimg_filter_graph_build(&from, &to, &params));
    size_t bytes = 0;
    unsigned in_rows = 0, out_rows = 0;
    if (conversion->graph_ == nullptr || zimg_filter_graph_get_tmp_size(conversion->graph_.get(), &bytes) != ZIMG_ERROR_SUCCESS ||
        zimg_filter_graph_get_input_buffering(conversion->graph_.get(), &in_rows) != ZIMG_ERROR_SUCCESS ||
        zimg_filter_graph_get_output_buffering(conversion->graph_.get(), &out_rows) != ZIMG_ERROR_SUCCESS) {
      return ZimgError("cannot set up the colour conversion");
    }
    conversion->working_ = AlignedBytes(bytes);
    conversion->in_.Allocate(from, in_rows);
    conversion->out_.Allocate(to, out_rows);
    return conversion;
  }

  // Rows that `fill` writes before they are read, and `drain` reads after they are written.
  const Planes& in() const { return in_.planes; }
  const Planes& out() const { return out_.planes; }

  // Without a function the planes are whole ones of the caller's.
  Status Run(const Planes& in, const RowFunction& fill, const Planes& out, const RowFunction& drain) {
    zimg_image_buffer_const source = {ZIMG_API_VERSION, {}};
    zimg_image_buffer target = {ZIMG_API_VERSION, {}};
    for (int i = 0; i < 3; ++i) {
      source.plane[i] = {in.data[i], in.stride[i], in.mask};
      target.plane[i] = {out.data[i], out.stride[i], out.mask};
    }
    if (zimg_filter_graph_process(graph_.get(), &source, &target, working_.get(), fill ? Call : nullptr, Argument(fill),
                                  drain ? Call : nullptr, Argument(drain)) != ZIMG_ERROR_SUCCESS) {
      return ZimgError("cannot convert a frame's colours");
    }
    return OkStatus();
  }

 private:
  struct Deleter {
    void operator()(zimg_filter_graph* graph) const { zimg_filter_graph_free(graph); }
  };
  struct Ring {
    void Allocate(const ImageFormat& format, unsigned rows) {
      planes.mask = zimg_select_buffer_mask(rows);
      const size_t sample = format.pixel_type == ZIMG_PIXEL_FLOAT ? 4 : format.pixel_type == ZIMG_PIXEL_WORD ? 2 : 1;
      const size_t stride = RoundUp(format.width * sample, kAlignment);
      const size_t count = planes.mask == ZIMG_BUFFER_MAX ? format.height : planes.mask + 1;
      bytes = AlignedBytes(3 * stride * count);
      for (size_t i = 0; i < 3; ++i) {
        planes.data[i] = bytes.get() + i * stride * count;
        planes.stride[i] = static_cast<ptrdiff_t>(stride);
      }
    }
    AlignedBytes bytes;
    Planes planes;
  };

  static void* Argument(const RowFunction& function) { return const_cast<void*>(static_cast<const void*>(&function)); }
  static int Call(void* function, unsigned row, unsigned left, unsigned right) {
    (*static_cast<const RowFunction*>(function))(static_cast<int>(row), static_cast<int>(left), static_cast<int>(right));
    return 0;
  }

  Conversion() = default;
  std::unique_ptr<zimg_filter_graph, Deleter> graph_;
  AlignedBytes working_;
  Ring in_, out_;
};

// ---- Loops over a row

void ClampRow(const float* in, float* out, int count) {
  for (int x = 0; x < count; ++x) out[x] = std::min(std::max(in[x], 0.0f), 1.0f);
}

// strength * (after - before)
void ChangeRow(const float* before, const float* after, float strength, float* out, int count) {
  for (int x = 0; x < count; ++x) out[x] = strength * (after[x] - before[x]);
}

// To the nearest, halves up; never outside of what the samples can hold. `base` is what the change is added to.
template <typename Base, typename Sample>
void QuantizeRow(const Base* base, float factor, float offset, const float* change, float scale, float most, Sample* out, int count) {
  for (int x = 0; x < count; ++x) {
    const float value = static_cast<float>(base[x]) * factor + offset + change[x] * scale;
    out[x] = static_cast<Sample>(static_cast<int>(std::min(std::max(value, 0.0f), most) + 0.5f));
  }
}
template <typename Sample>
void QuantizeRow(float offset, const float* change, float scale, float most, Sample* out, int count) {
  for (int x = 0; x < count; ++x) {
    const float value = offset + change[x] * scale;
    out[x] = static_cast<Sample>(static_cast<int>(std::min(std::max(value, 0.0f), most) + 0.5f));
  }
}

// One plane of a planar float picture, as core/media/rows has its rows.
class PlaneRows : public RowSource {
 public:
  PlaneRows(const float* plane, Size size) : RowSource(size, 1), next_(plane) {}
  Status Next(float* row) override {
    for (size_t i = 0; i < row_samples(); ++i) row[i] = next_[i] * 65535.0f;
    next_ += row_samples();
    return OkStatus();
  }

 private:
  const float* next_;
};

// ---- The converter

struct FrameDeleter {
  void operator()(AVFrame* frame) const { av_frame_free(&frame); }
};
using FramePtr = std::unique_ptr<AVFrame, FrameDeleter>;
struct PoolDeleter {
  void operator()(AVBufferPool* pool) const { av_buffer_pool_uninit(&pool); }
};

class Converter : public FrameConverter {
 public:
  static Result<std::unique_ptr<FrameConverter>> Make(const VideoInfo& info, const EncodePlan& plan, const FrameOptions& options) {
    std::unique_ptr<Converter> converter(new Converter);
    NSIC_RETURN_IF_ERROR(converter->Init(info, plan, options));
    return std::unique_ptr<FrameConverter>(std::move(converter));
  }

  Status ToRgb(const VideoFrame& frame, float* planar) override {
    NSIC_RETURN_IF_ERROR(CheckFrame(frame));
    const Planes in = Import(*frame.get());
    const Planes& out = to_rgb_->out();
    const size_t area = static_cast<size_t>(size_.area());
    const RowFunction drain = [&](int row, int left, int right) {
      right = std::min(right, size_.width);
      if (row >= size_.height || left >= right) return;
      for (int c = 0; c < 3; ++c) {
        float* const to = planar + static_cast<size_t>(c) * area + static_cast<size_t>(row) * size_.width;
        ClampRow(out.row<float>(c, row) + left, to + left, right - left);
      }
    };
    return to_rgb_->Run(in, nullptr, out, drain);
  }

  Result<VideoFrame> Finish(const VideoFrame& source, const float* before, const float* after) override {
    NSIC_RETURN_IF_ERROR(CheckFrame(source));
    NSIC_ASSIGN_OR_RETURN(const float* finished, FinishRgb(before, after));
    NSIC_ASSIGN_OR_RETURN(FramePtr frame, NewFrame(*source.get()));

    Planes base;
    if (changes_) {
      base = Import(*source.get());
      if (to_plan_ != nullptr) {
        NSIC_RETURN_IF_ERROR(to_plan_->Run(base, nullptr, base_planes_, nullptr));
        base = base_planes_;
      }
    }
    const size_t area = static_cast<size_t>(plan_.size.area());
    const Planes& rgb = from_rgb_->in();
    const RowFunction fill = [&](int row, int left, int right) {
      // Rows and columns that round the size up to whole chroma samples repeat the last.
      const int from_row = std::min(row, plan_.size.height - 1);
      const int inside = std::max(left, std::min(right, plan_.size.width));
      for (int c = 0; c < 3; ++c) {
        float* const to = rgb.row<float>(c, row);
        const size_t at = static_cast<size_t>(c) * area + static_cast<size_t>(from_row) * plan_.size.width;
        const auto put = [&](int begin, int end, float* out) {
          if (changes_) {
            ChangeRow(before + at + begin, finished + at + begin, delta_strength_, out, end - begin);
          } else {
            std::copy(finished + at + begin, finished + at + end, out);
          }
        };
        put(left, inside, to + left);
        for (int x = inside; x < right; ++x) put(plan_.size.width - 1, plan_.size.width, to + x);
      }
    };
    const RowFunction drain = [&](int row, int left, int right) { StoreRows(base, row, left, right, frame.get()); };
    NSIC_RETURN_IF_ERROR(from_rgb_->Run(rgb, fill, from_rgb_->out(), drain));
    return VideoFrame(std::shared_ptr<const AVFrame>(frame.release(), FrameDeleter()));
  }

 private:
  Converter() = default;

  Status Init(const VideoInfo& info, const EncodePlan& plan, const FrameOptions& options) {
    if (!(options.strength >= 0 && options.strength <= 1)) return InvalidArgumentError("the strength must be between 0 and 1");
    if (!(options.sharpen >= 0 && options.sharpen <= 1)) return InvalidArgumentError("sharpening must be between 0 and 1");
    if (options.network_scale < 1) return InvalidArgumentError("the network's scale must be at least 1");
    for (const Size size : {info.size, plan.size}) {
      if (size.width < 1 || size.height < 1) return InvalidArgumentError("a video cannot have " + Text(size) + " pixels");
    }
    NSIC_RETURN_IF_ERROR(CheckPixelFormat(info.pixel_format, info.colour.matrix));
    NSIC_ASSIGN_OR_RETURN(source_, ParseFormat(info.pixel_format));
    NSIC_ASSIGN_OR_RETURN(target_, ParseFormat(plan.pixel_format));
    size_ = info.size;
    plan_ = plan;
    options_ = options;
    colour_ = OutputColour(info, plan);
    network_size_ = {size_.width * options.network_scale, size_.height * options.network_scale};
    changes_ = plan.size == size_;
    source_full_ = IsFullRange(source_, info.colour.full_range);
    target_full_ = IsFullRange(target_, colour_.full_range);

    NSIC_ASSIGN_OR_RETURN(const int matrix, ResolveMatrix(info.colour.matrix, size_));
    matrix_ = static_cast<zimg_matrix_coefficients_e>(matrix);
    chroma_location_ = info.colour.chroma_location == AVCHROMA_LOC_UNSPECIFIED
                           ? ZIMG_CHROMA_LEFT
                           : static_cast<zimg_chroma_location_e>(info.colour.chroma_location - 1);

    const Size padded = PaddedSize(size_, source_);
    const ImageFormat source_image = Describe(source_, padded, source_full_, source_.planar ? source_.bytes() : 2);
    NSIC_ASSIGN_OR_RETURN(to_rgb_, Conversion::Make(source_image, ImageFormat(padded, ZIMG_PIXEL_FLOAT, ZIMG_COLOR_RGB)));

    const Size plan_padded = PaddedSize(plan.size, target_);
    ImageFormat target_image = Describe(target_, plan_padded, target_full_, 4);
    if (target_.family == Family::kGrey) {  // its luma alone is stored
      target_image.color_family = ZIMG_COLOR_YUV;
      target_image.matrix_coefficients = matrix_;
    }
    NSIC_ASSIGN_OR_RETURN(from_rgb_, Conversion::Make(ImageFormat(plan_padded, ZIMG_PIXEL_FLOAT, ZIMG_COLOR_RGB), target_image));

    // What the change is added to: the source's samples, or where they cannot be taken as they are, what they are in the plan's format.
    const bool grey = source_.family == Family::kGrey || target_.family == Family::kGrey;
    const bool rgb = source_.family == Family::kRgb || target_.family == Family::kRgb;
    const bool alike = source_.family == target_.family && source_.log2_w == target_.log2_w && source_.log2_h == target_.log2_h;
    if (changes_ && !alike && !(grey && !rgb)) {
      // Both sizes are rounded up to whole chroma samples of their own; the larger is a multiple of both's.
      NSIC_RETURN_IF_ERROR(
          MakeBase(source_image, target_image, {std::max(padded.width, plan_padded.width), std::max(padded.height, plan_padded.height)}));
    }

    delta_strength_ = 1;
    if (options.strength < 1) {
      if (changes_ && options.network_scale == 1 && options.sharpen == 0) {
        delta_strength_ = static_cast<float>(options.strength);
      } else if (options.network_scale > 1) {
        NSIC_ASSIGN_OR_RETURN(before_to_network_, Resizer(size_, network_size_));
      }
    }
    if (plan.size != network_size_) {
      NSIC_ASSIGN_OR_RETURN(network_to_plan_, Resizer(network_size_, plan.size));
    }

    const int bytes = av_image_get_buffer_size(target_.id, plan.size.width, plan.size.height, kAlignment);
    if (bytes < 0) return InvalidArgumentError("a video cannot have " + Text(plan.size) + " pixels");
    pool_.reset(av_buffer_pool_init(static_cast<size_t>(bytes) + 2 * kAlignment, av_buffer_allocz));
    if (pool_ == nullptr) return ResourceExhaustedError("no memory for frames of " + Text(plan.size) + " pixels");
    return OkStatus();
  }

  Status MakeBase(ImageFormat from, ImageFormat to, Size size) {
    from.width = to.width = static_cast<unsigned>(size.width);
    from.height = to.height = static_cast<unsigned>(size.height);
    import_size_ = size;
    NSIC_ASSIGN_OR_RETURN(to_plan_, Conversion::Make(from, to));
    const size_t stride = RoundUp(static_cast<size_t>(size.width) * sizeof(float), kAlignment);
    base_bytes_ = AlignedBytes(3 * stride * static_cast<size_t>(size.height));
    for (size_t i = 0; i < 3; ++i) {
      base_planes_.data[i] = base_bytes_.get() + i * stride * static_cast<size_t>(size.height);
      base_planes_.stride[i] = static_cast<ptrdiff_t>(stride);
    }
    return OkStatus();
  }

  static Size PaddedSize(Size size, const Format& format) {
    const int w = 1 << format.log2_w, h = 1 << format.log2_h;
    return {(size.width + w - 1) / w * w, (size.height + h - 1) / h * h};
  }

  // `bytes` of a sample; 4: float.
  ImageFormat Describe(const Format& format, Size size, bool full_range, int bytes) const {
    const zimg_color_family_e family = format.family == Family::kGrey  ? ZIMG_COLOR_GREY
                                       : format.family == Family::kRgb ? ZIMG_COLOR_RGB
                                                                       : ZIMG_COLOR_YUV;
    ImageFormat image(size, bytes == 4 ? ZIMG_PIXEL_FLOAT : bytes == 2 ? ZIMG_PIXEL_WORD : ZIMG_PIXEL_BYTE, family);
    if (bytes != 4) image.depth = static_cast<unsigned>(format.depth);
    image.pixel_range = full_range ? ZIMG_RANGE_FULL : ZIMG_RANGE_LIMITED;
    if (family == ZIMG_COLOR_YUV) {
      image.matrix_coefficients = matrix_;
      image.subsample_w = static_cast<unsigned>(format.log2_w);
      image.subsample_h = static_cast<unsigned>(format.log2_h);
      image.chroma_location = chroma_location_;
    } else if (family == ZIMG_COLOR_GREY) {
      image.matrix_coefficients = matrix_;
    }
    return image;
  }

  static Result<std::unique_ptr<Conversion>> Resizer(Size from, Size to) {
    return Conversion::Make(ImageFormat(from, ZIMG_PIXEL_FLOAT, ZIMG_COLOR_RGB), ImageFormat(to, ZIMG_PIXEL_FLOAT, ZIMG_COLOR_RGB),
                            ZIMG_RESIZE_LANCZOS);
  }

  Status CheckFrame(const VideoFrame& frame) const {
    if (frame.empty()) return InvalidArgumentError("there is no frame to convert");
    if (frame.get()->format == source_.id && frame.size() == size_) return OkStatus();
    const char* const name = av_get_pix_fmt_name(static_cast<AVPixelFormat>(frame.get()->format));
    return InvalidArgumentError("a frame has " + Text(frame.size()) + " pixels of " + (name != nullptr ? name : "an unknown format") +
                                ", where the video has " + Text(size_) + " of " + source_.descriptor->name);
  }

  // The frame's planes in the order of its components, as zimg can read them: the frame's own memory where it is aligned and its size a
  // multiple of whole chroma samples, else a copy whose last column and row are repeated.
  Planes Import(const AVFrame& frame) {
    const Size padded = to_plan_ != nullptr ? import_size_ : PaddedSize(size_, source_);
    bool direct = source_.planar && padded == size_;
    for (int c = 0; c < source_.components() && direct; ++c) {
      const int plane = source_.plane(c);
      direct = reinterpret_cast<uintptr_t>(frame.data[plane]) % 32 == 0 && frame.linesize[plane] % 32 == 0;
    }
    Planes planes;
    if (direct) {
      for (int c = 0; c < source_.components(); ++c) {
        planes.data[c] = frame.data[source_.plane(c)];
        planes.stride[c] = frame.linesize[source_.plane(c)];
      }
      return planes;
    }
    const size_t sample = source_.planar ? static_cast<size_t>(source_.bytes()) : 2;
    const size_t stride = RoundUp(static_cast<size_t>(padded.width) * sample, kAlignment);
    const size_t plane_bytes = stride * static_cast<size_t>(padded.height);
    if (!imported_) {
      import_bytes_ = AlignedBytes(plane_bytes * 3);
      imported_ = true;
    }
    for (int c = 0; c < source_.components(); ++c) {
      planes.data[c] = import_bytes_.get() + plane_bytes * static_cast<size_t>(c);
      planes.stride[c] = static_cast<ptrdiff_t>(stride);
      const Size inside = source_.plane_size(size_, c), outside = source_.plane_size(padded, c);
      for (int y = 0; y < outside.height; ++y) {
        const int from = std::min(y, inside.height - 1);
        if (sample == 1) {
          CopyRow<uint8_t>(frame, c, from, inside.width, outside.width, planes.row<uint8_t>(c, y));
        } else {
          CopyRow<uint16_t>(frame, c, from, inside.width, outside.width, planes.row<uint16_t>(c, y));
        }
      }
    }
    return planes;
  }

  template <typename Sample>
  void CopyRow(const AVFrame& frame, int component, int row, int inside, int outside, Sample* out) const {
    if (source_.planar) {
      const int plane = source_.plane(component);
      std::memcpy(out, frame.data[plane] + static_cast<ptrdiff_t>(row) * frame.linesize[plane],
                  static_cast<size_t>(inside) * sizeof(Sample));
    } else {
      const uint8_t* planes[4] = {frame.data[0], frame.data[1], frame.data[2], frame.data[3]};
      av_read_image_line2(out, planes, frame.linesize, source_.descriptor, 0, row, component, inside, 0, sizeof(Sample));
    }
    std::fill(out + inside, out + outside, out[inside - 1]);
  }

  // Strength, size and sharpening: three planes of plan_.size. What changes nothing gives back its argument.
  Result<const float*> FinishRgb(const float* before, const float* after) {
    const float* now = after;
    if (options_.strength < 1 && delta_strength_ == 1) {
      const size_t samples = static_cast<size_t>(network_size_.area()) * 3;
      const float* under = before;
      blended_.resize(samples);
      if (before_to_network_ != nullptr) {
        NSIC_RETURN_IF_ERROR(Resize(before_to_network_.get(), before, size_, network_size_, &under_));
        under = under_.data();
      }
      const float strength = static_cast<float>(options_.strength);
      for (size_t i = 0; i < samples; ++i) blended_[i] = (1 - strength) * under[i] + strength * now[i];
      now = blended_.data();
    }
    if (network_to_plan_ != nullptr) {
      NSIC_RETURN_IF_ERROR(Resize(network_to_plan_.get(), now, network_size_, plan_.size, &resized_));
      now = resized_.data();
    }
    if (options_.sharpen > 0) {
      const size_t area = static_cast<size_t>(plan_.size.area());
      sharpened_.resize(area * 3);
      for (size_t c = 0; c < 3; ++c) {
        const std::unique_ptr<RowSource> rows = SharpenRows(std::make_unique<PlaneRows>(now + c * area, plan_.size), options_.sharpen);
        for (int y = 0; y < plan_.size.height; ++y) {
          float* const row = sharpened_.data() + c * area + static_cast<size_t>(y) * plan_.size.width;
          NSIC_RETURN_IF_ERROR(rows->Next(row));
          for (int x = 0; x < plan_.size.width; ++x) row[x] *= 1 / 65535.0f;
        }
      }
      now = sharpened_.data();
    }
    return now;
  }

  static Status Resize(Conversion* conversion, const float* in, Size from, Size to, std::vector<float>* out) {
    out->resize(static_cast<size_t>(to.area()) * 3);
    const RowFunction fill = [&](int row, int left, int right) {
      for (int c = 0; c < 3; ++c) {
        const float* const at = in + (static_cast<size_t>(c) * from.height + row) * from.width;
        std::copy(at + left, at + right, conversion->in().row<float>(c, row) + left);
      }
    };
    const RowFunction drain = [&](int row, int left, int right) {
      for (int c = 0; c < 3; ++c) {
        float* const at = out->data() + (static_cast<size_t>(c) * to.height + row) * to.width;
        ClampRow(conversion->out().row<float>(c, row) + left, at + left, right - left);
      }
    };
    return conversion->Run(conversion->in(), fill, conversion->out(), drain);
  }

  Result<FramePtr> NewFrame(const AVFrame& source) {
    FramePtr frame(av_frame_alloc());
    AVBufferRef* const buffer = frame != nullptr ? av_buffer_pool_get(pool_.get()) : nullptr;
    if (buffer == nullptr) return ResourceExhaustedError("no memory for a frame of " + Text(plan_.size) + " pixels");
    frame->buf[0] = buffer;
    frame->format = target_.id;
    frame->width = plan_.size.width;
    frame->height = plan_.size.height;
    uint8_t* const aligned = reinterpret_cast<uint8_t*>(RoundUp(reinterpret_cast<uintptr_t>(buffer->data), kAlignment));
    if (av_image_fill_arrays(frame->data, frame->linesize, aligned, target_.id, plan_.size.width, plan_.size.height, kAlignment) < 0) {
      return InternalError("cannot lay out a frame of " + Text(plan_.size) + " pixels");
    }
    frame->pts = source.pts;
    frame->colorspace = static_cast<AVColorSpace>(colour_.matrix);
    frame->color_primaries = static_cast<AVColorPrimaries>(colour_.primaries);
    frame->color_trc = static_cast<AVColorTransferCharacteristic>(colour_.transfer);
    frame->color_range = target_full_ ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
    frame->chroma_location = static_cast<AVChromaLocation>(colour_.chroma_location);
    return frame;
  }

  // Rounds the rows that zimg has made and puts them into the frame.
  void StoreRows(const Planes& base, int row, int left, int right, AVFrame* frame) {
    for (int c = 0; c < target_.components(); ++c) {
      const int log2_w = target_.is_chroma(c) ? target_.log2_w : 0;
      const int log2_h = target_.is_chroma(c) ? target_.log2_h : 0;
      const Size inside = target_.plane_size(plan_.size, c);
      const int rows = target_.family == Family::kYuv && !target_.is_chroma(c) ? 1 << target_.log2_h : 1;
      const int from = left >> log2_w, to = std::min(AV_CEIL_RSHIFT(right, log2_w), inside.width);
      for (int y = row >> log2_h; y < std::min((row >> log2_h) + rows, inside.height); ++y) {
        if (from >= to) continue;
        if (target_.planar && target_.bytes() == 1) {
          StoreRow<uint8_t>(base, c, y, from, to, PlaneRow<uint8_t>(frame, c, y) + from);
        } else if (target_.planar) {
          StoreRow<uint16_t>(base, c, y, from, to, PlaneRow<uint16_t>(frame, c, y) + from);
        } else {
          packed_row_.resize(static_cast<size_t>(plan_.size.width));
          StoreRow<uint16_t>(base, c, y, from, to, packed_row_.data());
          // Components are or-ed into their place.
          const AVComponentDescriptor& component = target_.descriptor->comp[c];
          uint8_t* const at =
              frame->data[component.plane] + static_cast<ptrdiff_t>(y) * frame->linesize[component.plane] + component.offset;
          for (int x = from; x < to; ++x)
            std::memset(at + static_cast<ptrdiff_t>(x) * component.step, 0, static_cast<size_t>(target_.bytes()));
          av_write_image_line2(packed_row_.data(), frame->data, frame->linesize, target_.descriptor, from, y, c, to - from,
                               sizeof(uint16_t));
        }
      }
    }
  }

  template <typename Sample>
  Sample* PlaneRow(AVFrame* frame, int component, int row) const {
    const int plane = target_.plane(component);
    return reinterpret_cast<Sample*>(frame->data[plane] + static_cast<ptrdiff_t>(row) * frame->linesize[plane]);
  }

  template <typename Sample>
  void StoreRow(const Planes& base, int component, int row, int from, int to, Sample* out) const {
    const Quantizer target = QuantizerOf(target_, target_full_, component);
    const float most = static_cast<float>((1 << target_.depth) - 1);
    const float* const change = from_rgb_->out().row<float>(component, row) + from;
    const int count = to - from;
    const bool neutral = source_.family == Family::kGrey && target_.is_chroma(component);
    if (neutral) {
      std::fill_n(out, count, static_cast<Sample>(target.offset));
    } else if (!changes_) {
      QuantizeRow(target.offset, change, target.scale, most, out, count);
    } else if (to_plan_ != nullptr) {
      QuantizeRow(base.row<float>(component, row) + from, target.scale, target.offset, change, target.scale, most, out, count);
    } else {
      const Quantizer source = QuantizerOf(source_, source_full_, component);
      const float factor = target.scale / source.scale;
      const float offset = target.offset - source.offset * factor;
      if (source_.planar && source_.bytes() == 1) {
        QuantizeRow(base.row<uint8_t>(component, row) + from, factor, offset, change, target.scale, most, out, count);
      } else {
        QuantizeRow(base.row<uint16_t>(component, row) + from, factor, offset, change, target.scale, most, out, count);
      }
    }
  }

  Format source_, target_;
  Size size_;          // of the source
  Size network_size_;  // of what the network makes
  EncodePlan plan_;
  FrameOptions options_;
  VideoColour colour_;  // of the output
  bool source_full_ = false, target_full_ = false;
  bool changes_ = false;      // the change is added to the source's samples; else RGB is converted whole
  float delta_strength_ = 1;  // where strength is all that is done to the change
  zimg_matrix_coefficients_e matrix_ = ZIMG_MATRIX_UNSPECIFIED;
  zimg_chroma_location_e chroma_location_ = ZIMG_CHROMA_LEFT;

  std::unique_ptr<Conversion> to_rgb_, from_rgb_;
  std::unique_ptr<Conversion> to_plan_;  // of the source's samples; null where they are taken as they are
  Planes base_planes_;
  AlignedBytes base_bytes_;
  Size import_size_;
  AlignedBytes import_bytes_;
  bool imported_ = false;

  std::unique_ptr<Conversion> before_to_network_, network_to_plan_;
  std::vector<float> under_, blended_, resized_, sharpened_;
  std::vector<uint16_t> packed_row_;
  std::unique_ptr<AVBufferPool, PoolDeleter> pool_;
};

}  // namespace

Status CheckPixelFormat(const std::string& pixel_format, int matrix) {
  NSIC_ASSIGN_OR_RETURN(const Format format, ParseFormat(pixel_format));
  if (format.family == Family::kRgb) return OkStatus();
  return ResolveMatrix(matrix, {}).status();
}

VideoColour OutputColour(const VideoInfo& info, const EncodePlan& plan) {
  VideoColour colour = info.colour;
  const Result<Format> source = ParseFormat(info.pixel_format), target = ParseFormat(plan.pixel_format);
  const Result<int> matrix = ResolveMatrix(colour.matrix, info.size);
  if (!source.ok() || !target.ok() || !matrix.ok()) return colour;  // no converter can be made
  if (target->family == Family::kRgb) {
    colour.matrix = AVCOL_SPC_RGB;
    colour.full_range = true;
    colour.chroma_location = AVCHROMA_LOC_UNSPECIFIED;
    return colour;
  }
  const bool was_rgb = source->family == Family::kRgb;
  colour.full_range = !was_rgb && IsFullRange(*source, colour.full_range);
  const bool unspecified = colour.matrix == AVCOL_SPC_UNSPECIFIED || colour.matrix == AVCOL_SPC_RGB || colour.matrix == AVCOL_SPC_RESERVED;
  if (unspecified && (was_rgb || plan.size != info.size)) colour.matrix = *matrix;
  if (colour.matrix == AVCOL_SPC_RGB) colour.matrix = AVCOL_SPC_UNSPECIFIED;
  if (target->log2_w == 0 && target->log2_h == 0) colour.chroma_location = AVCHROMA_LOC_UNSPECIFIED;
  return colour;
}

Result<std::unique_ptr<FrameConverter>> FrameConverter::Make(const VideoInfo& info, const EncodePlan& plan, const FrameOptions& options) {
  return Converter::Make(info, plan, options);
}

}  // namespace nsic
