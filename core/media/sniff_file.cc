#include "core/media/sniff_file.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <string_view>

#include "core/base/files.h"

namespace nsic {
namespace {

constexpr size_t kHeadBytes = 512;

bool HasAt(std::string_view head, size_t offset, std::string_view bytes) {
  return head.size() >= offset + bytes.size() && head.compare(offset, bytes.size(), bytes) == 0;
}

uint32_t LittleEndian(std::string_view bytes, size_t offset, size_t count) {
  uint32_t value = 0;
  for (size_t i = 0; i < count; ++i) value |= uint32_t{static_cast<uint8_t>(bytes[offset + i])} << (8 * i);
  return value;
}

uint32_t BigEndian32(std::string_view bytes, size_t offset) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[offset + i]);
  return value;
}

bool LooksLikeBmp(std::string_view head) {
  if (!HasAt(head, 0, "BM") || head.size() < 18) return false;
  const uint32_t header = LittleEndian(head, 14, 4);
  return header == 12 || header == 16 || header == 40 || header == 52 || header == 56 || header == 64 || header == 108 || header == 124;
}

// The brand of an ISO base media file ("avif", "isom"), or nothing.
std::string_view IsoBrand(std::string_view head) { return HasAt(head, 4, "ftyp") && head.size() >= 12 ? head.substr(8, 4) : ""; }

bool IsOneOf(std::string_view value, std::initializer_list<std::string_view> list) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

bool IsHeicBrand(std::string_view brand) { return IsOneOf(brand, {"heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"}); }

std::optional<PictureFormat> ReadableFormat(std::string_view head) {
  if (HasAt(head, 0, "\xFF\xD8\xFF")) return PictureFormat::kJpeg;
  if (HasAt(head, 0, "\x89PNG\r\n\x1A\n")) return PictureFormat::kPng;
  if (HasAt(head, 0, "RIFF") && HasAt(head, 8, "WEBP")) return PictureFormat::kWebp;
  using std::string_view_literals::operator""sv;
  if (HasAt(head, 0, "II*\0"sv) || HasAt(head, 0, "MM\0*"sv) || HasAt(head, 0, "II+\0"sv) || HasAt(head, 0, "MM\0+"sv)) {
    return PictureFormat::kTiff;
  }
  if (LooksLikeBmp(head)) return PictureFormat::kBmp;
  if (IsoBrand(head) == "avif") return PictureFormat::kAvif;
  return std::nullopt;
}

// The name of a picture format that NSIC knows of but does not read.
std::string_view UnreadFormat(std::string_view head) {
  using std::string_view_literals::operator""sv;
  if (HasAt(head, 0, "GIF8")) return "a GIF";
  if (IsoBrand(head) == "avis") return "an animated AVIF";
  if (IsHeicBrand(IsoBrand(head))) return "a HEIC picture";
  if (HasAt(head, 0, "\xFF\x0A") || HasAt(head, 0, "\0\0\0\x0CJXL "sv)) return "a JPEG XL picture";
  if (HasAt(head, 0, "\0\0\0\x0CjP  "sv)) return "a JPEG 2000 picture";
  if (HasAt(head, 0, "8BPS")) return "a Photoshop document";
  return "";
}

bool LooksLikeVideo(std::string_view head) {
  const std::string_view brand = IsoBrand(head);
  if (!brand.empty()) return !IsOneOf(brand, {"M4A ", "M4B ", "M4P "});
  using std::string_view_literals::operator""sv;
  if (HasAt(head, 4, "moov") || HasAt(head, 4, "mdat") || HasAt(head, 4, "wide")) return true;  // QuickTime without a brand
  if (HasAt(head, 0, "\x1A\x45\xDF\xA3")) return true;                                          // Matroska, WebM
  if (HasAt(head, 0, "RIFF") && HasAt(head, 8, "AVI ")) return true;
  if (HasAt(head, 0, "\x30\x26\xB2\x75\x8E\x66\xCF\x11")) return true;  // ASF, WMV
  if (HasAt(head, 0, "FLV\x01") || HasAt(head, 0, "YUV4MPEG2 ")) return true;
  if (HasAt(head, 0, "\0\0\x01\xBA"sv) || HasAt(head, 0, "\0\0\x01\xB3"sv)) return true;            // MPEG program or elementary stream
  if (HasAt(head, 0, "\x47") && HasAt(head, 188, "\x47") && HasAt(head, 376, "\x47")) return true;  // MPEG transport stream
  if (HasAt(head, 4, "\x47") && HasAt(head, 196, "\x47") && HasAt(head, 388, "\x47")) return true;  // the same, of a Blu-ray
  return HasAt(head, 0, "OggS") && (HasAt(head, 28, "\x80theora") || HasAt(head, 28, "\x01video"));
}

bool HasPictureName(const std::string& path) {
  const size_t dot = path.find_last_of("./");
  if (dot == std::string::npos || path[dot] != '.') return false;
  std::string extension = path.substr(dot + 1);
  std::transform(extension.begin(), extension.end(), extension.begin(), [](unsigned char c) { return std::tolower(c); });
  return IsOneOf(extension, {"jpg", "jpeg", "jpe", "jfif", "png", "webp", "tif", "tiff", "bmp", "avif"});
}

Result<std::string> ReadAt(int fd, int64_t offset, size_t size, const std::string& path) {
  if (lseek(fd, offset, SEEK_SET) < 0) return ErrnoError(errno, "cannot read " + path);
  std::string bytes(size, '\0');
  size_t filled = 0;
  while (filled < size) {
    NSIC_ASSIGN_OR_RETURN(const size_t got, ReadSome(fd, bytes.data() + filled, size - filled, path));
    if (got == 0) break;
    filled += got;
  }
  bytes.resize(filled);
  return bytes;
}

// The chunks of a PNG before its pixels: is one of them an animation's control chunk?
Result<bool> IsAnimatedPng(int fd, const std::string& path) {
  int64_t offset = 8;
  for (int chunk = 0; chunk < 1000; ++chunk) {
    NSIC_ASSIGN_OR_RETURN(const std::string header, ReadAt(fd, offset, 8, path));
    if (header.size() < 8 || HasAt(header, 4, "IDAT")) return false;
    if (HasAt(header, 4, "acTL")) return true;
    offset += int64_t{12} + BigEndian32(header, 0);
  }
  return false;
}

Result<bool> IsLosslessWebp(int fd, const std::string& path) {
  int64_t offset = 12;
  for (int chunk = 0; chunk < 100; ++chunk) {
    NSIC_ASSIGN_OR_RETURN(const std::string header, ReadAt(fd, offset, 8, path));
    if (header.size() < 8 || HasAt(header, 0, "VP8 ")) return false;
    if (HasAt(header, 0, "VP8L")) return true;
    const int64_t size = LittleEndian(header, 4, 4);
    offset += 8 + size + (size & 1);
  }
  return false;
}

// ImageMagick, which reads the pixels, takes a BMP that ends early for one with black rows; this does not.
Result<Size> BmpSize(std::string_view head, int64_t file_bytes, const std::string& path) {
  const Status cut_off =
      DataLossError(path + " is truncated: the BMP header promises more pixels than the file holds; get a whole copy of it");
  const uint32_t header = LittleEndian(head, 14, 4);
  if (head.size() < 14 + std::min<size_t>(header, 40)) return cut_off;
  int64_t width, height;
  uint32_t bits, compression = 0;
  if (header == 12) {
    width = LittleEndian(head, 18, 2);
    height = LittleEndian(head, 20, 2);
    bits = LittleEndian(head, 24, 2);
  } else {
    width = static_cast<int32_t>(LittleEndian(head, 18, 4));
    height = std::abs(int64_t{static_cast<int32_t>(LittleEndian(head, 22, 4))});
    bits = LittleEndian(head, 28, 2);
    if (header >= 40) compression = LittleEndian(head, 30, 4);
  }
  if (width < 1 || height < 1 || width > INT32_MAX || height > INT32_MAX) {
    return DataLossError(path + " is damaged: its BMP header gives no size; get a good copy of it");
  }
  const bool run_length = compression == 1 || compression == 2;
  const int64_t row = (width * bits + 31) / 32 * 4;
  if (!run_length && LittleEndian(head, 10, 4) + row * height > file_bytes) return cut_off;
  return Size{static_cast<int>(width), static_cast<int>(height)};
}

}  // namespace

std::string_view PictureFormatName(PictureFormat format) {
  switch (format) {
    case PictureFormat::kJpeg: return "jpeg";
    case PictureFormat::kPng: return "png";
    case PictureFormat::kWebp: return "webp";
    case PictureFormat::kTiff: return "tiff";
    case PictureFormat::kBmp: return "bmp";
    case PictureFormat::kAvif: return "avif";
  }
  return "unknown";
}

std::string_view PictureFormatExtension(PictureFormat format) { return format == PictureFormat::kJpeg ? "jpg" : PictureFormatName(format); }

Result<FileKind> SniffFile(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(const UniqueFd fd, OpenForReading(path));
  NSIC_ASSIGN_OR_RETURN(const std::string head, ReadAt(fd.get(), 0, kHeadBytes, path));
  if (ReadableFormat(head) || !UnreadFormat(head).empty()) return FileKind::kPicture;
  if (LooksLikeVideo(head)) return FileKind::kVideo;
  return HasPictureName(path) ? FileKind::kPicture : FileKind::kOther;
}

Result<SniffedPicture> SniffPicture(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(const UniqueFd fd, OpenForReading(path));
  NSIC_ASSIGN_OR_RETURN(const std::string head, ReadAt(fd.get(), 0, kHeadBytes, path));
  if (head.empty()) return DataLossError(path + " is empty (0 bytes); get a good copy of it");

  SniffedPicture sniffed;
  const std::optional<PictureFormat> format = ReadableFormat(head);
  if (!format) {
    if (const std::string_view name = UnreadFormat(head); !name.empty()) {
      return InvalidArgumentError(path + " is " + std::string(name) + ", which is not read; convert it to PNG first");
    }
    return InvalidArgumentError(path + (HasPictureName(path) ? " is no picture, though it is named like one" : " is no picture") +
                                "; JPEG, PNG, WebP, TIFF, BMP and AVIF are read");
  }
  sniffed.format = *format;
  if (*format == PictureFormat::kPng) {
    NSIC_ASSIGN_OR_RETURN(const bool animated, IsAnimatedPng(fd.get(), path));
    if (animated) return InvalidArgumentError(path + " is an animated PNG; save the frame that you want as a picture of its own");
  } else if (*format == PictureFormat::kWebp) {
    NSIC_ASSIGN_OR_RETURN(sniffed.lossless_webp, IsLosslessWebp(fd.get(), path));
  } else if (*format == PictureFormat::kBmp) {
    const off_t file_bytes = lseek(fd.get(), 0, SEEK_END);
    if (file_bytes < 0) return ErrnoError(errno, "cannot read " + path);
    NSIC_ASSIGN_OR_RETURN(sniffed.bmp_size, BmpSize(head, file_bytes, path));
  }
  return sniffed;
}

}  // namespace nsic
