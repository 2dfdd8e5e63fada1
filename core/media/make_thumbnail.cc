#include <algorithm>

#include "core/media/open_picture.h"

namespace nsic {

Result<std::string> MakeThumbnail(const std::string& path, int side) {
  if (side < 1) return InvalidArgumentError("a thumbnail must be at least one pixel wide");
  NSIC_ASSIGN_OR_RETURN(OpenedPicture picture, OpenPicture(path, PixelAccess::kRows));
  if (picture.info.format == PictureFormat::kJpeg) {
    // libjpeg decodes at a half, a quarter or an eighth many times faster; half as much again as is needed is left for a good reduction.
    // (libvips aborts when a side would shrink to nothing.)
    const auto [shortest, longest] = std::minmax(picture.info.size.width, picture.info.size.height);
    int shrink = 1;
    while (shrink < 8 && longest / (shrink * 2) >= side + side / 2 && shortest >= shrink * 2) shrink *= 2;
    NSIC_ASSIGN_OR_RETURN(picture, OpenPicture(path, PixelAccess::kRows, kMaxPixels, shrink));
  }
  vips_error_clear();
  try {
    vips::VImage image = picture.image.thumbnail_image(
        side, vips::VImage::option()->set("height", side)->set("size", VIPS_SIZE_DOWN)->set("export_profile", "srgb"));
    if (image.has_alpha()) image = image.flatten(vips::VImage::option()->set("background", 255));
    VipsBlob* blob = image.jpegsave_buffer(vips::VImage::option()->set("Q", 80)->set("strip", true)->set("optimize_coding", true));
    size_t size = 0;
    const char* bytes = static_cast<const char*>(vips_blob_get(blob, &size));
    std::string jpeg(bytes, size);
    vips_area_unref(VIPS_AREA(blob));
    return jpeg;
  } catch (const vips::VError&) {
    return DamagedError(path);
  }
}

}  // namespace nsic
