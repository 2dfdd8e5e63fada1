#include <cstddef>
#include <limits>
#include <new>
#include <utility>

#include "core/media/open_picture.h"

namespace nsic {
namespace {

std::string Text(const Rect& rect) {
  return std::to_string(rect.width) + "x" + std::to_string(rect.height) + "+" + std::to_string(rect.x) + "+" + std::to_string(rect.y);
}

// Where the pixels of an upright picture lie in its file: (x, y) upright is (origin_x + x * x_by_x + y * x_by_y, ...) in the file.
struct Turning {
  int origin_x = 0, x_by_x = 1, x_by_y = 0;
  int origin_y = 0, y_by_x = 0, y_by_y = 1;

  // EXIF orientations as the standard numbers them; `file` is the size in the file.
  Turning(int orientation, Size file) {
    if (orientation >= 5) {
      x_by_x = y_by_y = 0;
      x_by_y = y_by_x = 1;
    }
    if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) {
      origin_x = file.width - 1;
      x_by_x = -x_by_x;
      x_by_y = -x_by_y;
    }
    if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7) {
      origin_y = file.height - 1;
      y_by_x = -y_by_x;
      y_by_y = -y_by_y;
    }
  }

  int FileX(int x, int y) const { return origin_x + x * x_by_x + y * x_by_y; }
  int FileY(int x, int y) const { return origin_y + x * y_by_x + y * y_by_y; }

  Rect InFile(const Rect& upright) const {
    const int x1 = FileX(upright.x, upright.y), x2 = FileX(upright.right() - 1, upright.bottom() - 1);
    const int y1 = FileY(upright.x, upright.y), y2 = FileY(upright.right() - 1, upright.bottom() - 1);
    return {std::min(x1, x2), std::min(y1, y2), std::abs(x2 - x1) + 1, std::abs(y2 - y1) + 1};
  }
};

// Keeps the window as the file has it, turned or not, and turns while reading: a turned picture costs no second copy.
class WindowReader : public PictureReader {
 public:
  WindowReader(PictureInfo info, const Rect& window, Turning turning, const Rect& file_window)
      : info_(info), window_(window), turning_(turning), file_window_(file_window) {}

  // `image` has the colour bands of the window's columns, from the file's first row on. Row by row, because libvips would keep everything
  // above the window in memory if it were asked for the window at once.
  Status Fill(const vips::VImage& image, const std::string& path) {
    bands_ = image.bands();
    const size_t row_bytes = VIPS_IMAGE_SIZEOF_LINE(image.get_image());
    pixels_.reserve(row_bytes * static_cast<size_t>(file_window_.height));
    StripReader strips(image, path);
    for (int y = 0; y < file_window_.bottom(); ++y) {
      NSIC_ASSIGN_OR_RETURN(const void* row, strips.Next());
      const auto* bytes = static_cast<const std::byte*>(row);
      if (y >= file_window_.y) pixels_.insert(pixels_.end(), bytes, bytes + row_bytes);
    }
    return OkStatus();
  }

  const PictureInfo& info() const override { return info_; }
  int64_t memory_bytes() const override { return static_cast<int64_t>(pixels_.size()); }

  Status Read(const Rect& rect, float* planar) const override {
    if (rect.empty() || !window_.Contains(rect)) {
      return InvalidArgumentError("asked for " + Text(rect) + ", which is not inside the window " + Text(window_));
    }
    if (info_.depth == 16) {
      Copy(rect, reinterpret_cast<const uint16_t*>(pixels_.data()), planar);
    } else {
      Copy(rect, reinterpret_cast<const uint8_t*>(pixels_.data()), planar);
    }
    return OkStatus();
  }

 private:
  template <typename Sample>
  void Copy(const Rect& rect, const Sample* samples, float* planar) const {
    // A division for each sample would take as long as the decoding.
    static const std::vector<float> shares = [] {
      constexpr float kMax = std::numeric_limits<Sample>::max();
      std::vector<float> made;
      for (int v = 0; v <= std::numeric_limits<Sample>::max(); ++v) made.push_back(static_cast<float>(v) / kMax);
      return made;
    }();
    const float* const share = shares.data();
    const size_t plane = static_cast<size_t>(rect.area());
    const ptrdiff_t row = ptrdiff_t{file_window_.width} * bands_;
    const ptrdiff_t step = turning_.x_by_x * ptrdiff_t{bands_} + turning_.y_by_x * row;
    const ptrdiff_t band_step = bands_ == 1 ? 0 : 1;  // grey is repeated
    for (int y = 0; y < rect.height; ++y) {
      const ptrdiff_t file_x = turning_.FileX(rect.x, rect.y + y) - file_window_.x;
      const ptrdiff_t file_y = turning_.FileY(rect.x, rect.y + y) - file_window_.y;
      const Sample* in = samples + file_y * row + file_x * bands_;
      float* const out = planar + static_cast<size_t>(y) * rect.width;
      for (int x = 0; x < rect.width; ++x, in += step) {
        for (int channel = 0; channel < 3; ++channel) out[channel * plane + x] = share[in[band_step * channel]];
      }
    }
  }

  PictureInfo info_;
  Rect window_;
  Turning turning_;
  Rect file_window_;
  std::vector<std::byte> pixels_;
  int bands_ = 3;
};

}  // namespace

Result<std::unique_ptr<PictureReader>> PictureReader::Open(const std::string& path, const Rect& window) {
  NSIC_ASSIGN_OR_RETURN(const OpenedPicture picture, OpenPicture(path, PixelAccess::kRows));
  const Size size = picture.info.size;
  const Rect whole = {0, 0, size.width, size.height};
  const Rect wanted = window.empty() ? whole : window;
  if (!whole.Contains(wanted)) {
    return InvalidArgumentError("asked for the window " + Text(wanted) + " of " + path + ", which has " + std::to_string(size.width) + "x" +
                                std::to_string(size.height) + " pixels");
  }
  try {
    const Turning turning(picture.orientation, {picture.image.width(), picture.image.height()});
    const Rect in_file = turning.InFile(wanted);
    auto reader = std::make_unique<WindowReader>(picture.info, wanted, turning, in_file);
    NSIC_RETURN_IF_ERROR(reader->Fill(picture.image.extract_area(in_file.x, 0, in_file.width, in_file.bottom())
                                          .extract_band(0, vips::VImage::option()->set("n", picture.colours())),
                                      path));
    return std::unique_ptr<PictureReader>(std::move(reader));
  } catch (const vips::VError&) {
    return DamagedError(path);
  } catch (const std::bad_alloc&) {
    return ResourceExhaustedError("not enough memory for " + Text(wanted) + " of " + path + "; split the picture into smaller tasks");
  }
}

}  // namespace nsic
