// Reading picture files: what is taken, what is refused and how, and that what is read is exactly what the file holds.
#include <gmock/gmock.h>

#include <cstring>
#include <functional>

#include "core/media/picture.h"
#include "tests/unit/media_pictures.h"

namespace nsic {
namespace {

using testing::HasSubstr;
using namespace std::string_literals;

// libvips starts once in a process and lives as long as all tests.
class MediaEnvironment : public testing::Environment {
  MediaLibrary library_{2};
};
const testing::Environment* const kEnvironment = testing::AddGlobalTestEnvironment(new MediaEnvironment);

std::string BigEndian32(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8), static_cast<char>(value)};
}

std::string PngChunk(const std::string& type_and_data) {
  uint32_t crc = 0xFFFFFFFF;
  for (const unsigned char byte : type_and_data) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
  }
  return BigEndian32(static_cast<uint32_t>(type_and_data.size() - 4)) + type_and_data + BigEndian32(~crc);
}

std::string PngOfSize(uint32_t width, uint32_t height) {
  return "\x89PNG\r\n\x1A\n"s + PngChunk("IHDR" + BigEndian32(width) + BigEndian32(height) + "\x08\x02\0\0\0"s) +
         PngChunk("IDAT\x78\x9c\x03\0\0\0\0\x01"s) + PngChunk("IEND");
}

// Replaces the size in a JPEG's frame header.
std::string WithJpegSize(std::string jpeg, uint16_t width, uint16_t height) {
  const size_t frame = jpeg.find("\xFF\xC0"s);
  const std::string size = {static_cast<char>(height >> 8), static_cast<char>(height), static_cast<char>(width >> 8),
                            static_cast<char>(width)};
  return jpeg.replace(frame + 5, 4, size);
}

TEST_F(PictureTest, SniffsByContent) {
  const struct {
    const char* row;
    const char* name;
    std::string bytes;
    FileKind kind;
  } kRows[] = {
      {"png", "a", "\x89PNG\r\n\x1A\n....", FileKind::kPicture},
      {"jpeg", "a.txt", "\xFF\xD8\xFF\xE0", FileKind::kPicture},
      {"webp", "a", "RIFF\x10\0\0\0WEBPVP8 "s, FileKind::kPicture},
      {"big-endian tiff", "a", "MM\0*\0\0\0\x08"s, FileKind::kPicture},
      {"bmp", "a", "BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\1\0\0\0\1\0\0\0"s, FileKind::kPicture},
      {"a text that begins with BM", "a.txt", "BM is the abbreviation of bitmap", FileKind::kOther},
      {"avif", "a", "\0\0\0\x20"s + "ftypavif", FileKind::kPicture},
      {"gif, known and refused later", "a", "GIF89a", FileKind::kPicture},
      {"heic, known and refused later", "a", "\0\0\0\x20"s + "ftypheic", FileKind::kPicture},
      {"mp4", "a.jpg", "\0\0\0\x20"s + "ftypisom", FileKind::kVideo},
      {"quicktime", "a", "\0\0\0\x20"s + "ftypqt  ", FileKind::kVideo},
      {"matroska", "a", "\x1A\x45\xDF\xA3", FileKind::kVideo},
      {"avi", "a", "RIFF\x10\0\0\0AVI "s, FileKind::kVideo},
      {"wav", "a", "RIFF\x10\0\0\0WAVE"s, FileKind::kOther},
      {"m4a", "a", "\0\0\0\x20"s + "ftypM4A ", FileKind::kOther},
      {"transport stream", "a", "\x47" + std::string(187, 'x') + "\x47" + std::string(187, 'x') + "\x47", FileKind::kVideo},
      {"text", "notes.txt", "hello", FileKind::kOther},
      {"empty", "empty", "", FileKind::kOther},
      {"text named like a picture", "notes.JPG", "hello", FileKind::kPicture},
      {"empty, named like a picture", "empty.png", "", FileKind::kPicture},
      {"a folder's dot is no extension", "x.png_", "hello", FileKind::kOther},
  };
  for (const auto& row : kRows) {
    SCOPED_TRACE(row.row);
    Spill(Path(row.name), row.bytes);
    const auto kind = SniffFile(Path(row.name));
    ASSERT_TRUE(kind.ok()) << kind.status();
    EXPECT_EQ(*kind, row.kind);
  }
  EXPECT_EQ(SniffFile(Path("missing")).status().code(), StatusCode::kNotFound);
}

TEST_F(PictureTest, RefusesWhatItCannotRead) {
  const VImage rgb = Noise(40, 30, 3, VIPS_FORMAT_UCHAR);
  const VImage cmyk = rgb.icc_transform("cmyk", VImage::option()->set("input_profile", "srgb"));
  rgb.write_to_file(Path("good.jpg").c_str());
  cmyk.jpegsave(Path("cmyk.jpg").c_str(), VImage::option()->set("strip", true));
  cmyk.tiffsave(Path("cmyk.tif").c_str(), VImage::option()->set("strip", true));
  rgb.colourspace(VIPS_INTERPRETATION_LABQ).tiffsave(Path("lab.tif").c_str());
  rgb.cast(VIPS_FORMAT_FLOAT).tiffsave(Path("float.tif").c_str());
  VImage pages = rgb.join(rgb.invert(), VIPS_DIRECTION_VERTICAL).copy();
  pages.set(VIPS_META_PAGE_HEIGHT, 30);
  pages.tiffsave(Path("pages.tif").c_str());
  pages.webpsave(Path("moving.webp").c_str());
  rgb.bandjoin(rgb).copy(VImage::option()->set("interpretation", VIPS_INTERPRETATION_MULTIBAND)).tiffsave(Path("six.tif").c_str());
  std::string moving_png = PngOfSize(1, 1);
  moving_png.insert(33, PngChunk("acTL\0\0\0\2\0\0\0\0"s));
  std::string large_bmp = "BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x60\xEA\0\0\x60\xEA\0\0\1\0\1\0"s + std::string(24, '\0');
  Spill(Path("large.bmp"), large_bmp);
  std::filesystem::resize_file(Path("large.bmp"), int64_t{60000} * 7500 + 54);  // sparse: 1 bit a pixel, all there

  const struct {
    const char* name;
    std::string bytes;  // empty: the file is there
    StatusCode code;
    const char* message;
  } kRows[] = {
      {"text.jpg", "this is a shopping list", StatusCode::kInvalidArgument, "is no picture, though it is named like one; JPEG, PNG"},
      {"no extension", "this is a shopping list", StatusCode::kInvalidArgument, "is no picture; JPEG, PNG"},
      {"picture.gif", "GIF89a\1\0\1\0", StatusCode::kInvalidArgument, "is a GIF, which is not read; convert it to PNG first"},
      {"heic.jpg", "\0\0\0\x20"s + "ftypheic", StatusCode::kInvalidArgument, "is a HEIC picture, which is not read"},
      {"moving.png", moving_png, StatusCode::kInvalidArgument, "is an animated PNG; save the frame"},
      {"moving.webp", "", StatusCode::kInvalidArgument, "holds 2 frames; save the one that you want"},
      {"pages.tif", "", StatusCode::kInvalidArgument, "holds 2 pages; save the one that you want"},
      {"cmyk.jpg", "", StatusCode::kInvalidArgument,
       "is a CMYK picture without an ICC profile, so its colours are not known; convert it to RGB"},
      {"cmyk.tif", "", StatusCode::kInvalidArgument, "is a CMYK picture without an ICC profile"},
      {"lab.tif", "", StatusCode::kInvalidArgument, "which is not handled; convert it to RGB first"},
      {"float.tif", "", StatusCode::kInvalidArgument, "has samples of the type float; only 8 and 16 bits are handled"},
      {"six.tif", "", StatusCode::kInvalidArgument, "has 6 channels"},
      {"zero.png", "", StatusCode::kDataLoss, "is empty (0 bytes); get a good copy of it"},
      {"head.png", PngOfSize(9, 9).substr(0, 20), StatusCode::kDataLoss, "is damaged or truncated; get a good copy of it"},
      {"head.jpg", "\xFF\xD8\xFF\xE0", StatusCode::kDataLoss, "is damaged or truncated"},
      {"head.bmp", large_bmp.substr(0, 30), StatusCode::kDataLoss, "is truncated: the BMP header promises"},
      {"large.png", PngOfSize(60000, 60000), StatusCode::kResourceExhausted,
       "claims 60000x60000 pixels, more than the limit of 500 megapixels"},
      {"large.jpg", WithJpegSize(Slurp(Path("good.jpg")), 60000, 60000), StatusCode::kResourceExhausted, "claims 60000x60000 pixels"},
      {"large.bmp", "", StatusCode::kResourceExhausted, "claims 60000x60000 pixels"},
  };
  Spill(Path("zero.png"), "");
  for (const auto& row : kRows) {
    SCOPED_TRACE(row.name);
    if (!row.bytes.empty()) Spill(Path(row.name), row.bytes);
    const Status probe = ProbePicture(Path(row.name)).status();
    EXPECT_EQ(probe.code(), row.code) << probe;
    EXPECT_THAT(probe.message(), HasSubstr(row.message));
    EXPECT_THAT(probe.message(), HasSubstr(Path(row.name)));
    EXPECT_EQ(PictureReader::Open(Path(row.name)).status().code(), row.code);
    EXPECT_FALSE(MakeThumbnail(Path(row.name), 64).ok());
  }
  EXPECT_EQ(ProbePicture(Path("missing.png")).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(ProbePicture(folder_).status().code() == StatusCode::kOk, false) << "a folder";
  EXPECT_EQ(ProbePicture(Path("good.jpg"), 1199).status().code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(ProbePicture(Path("good.jpg"), 1200).ok());
}

// The ways to write a picture that the tests below go through.
struct Encoding {
  const char* name;
  std::function<void(const VImage&, const char* path)> save;
};

const Encoding kEncodings[] = {
    {"baseline.jpg", [](const VImage& i, const char* p) { i.jpegsave(p, VImage::option()->set("Q", 90)); }},
    {"progressive.jpg", [](const VImage& i, const char* p) { i.jpegsave(p, VImage::option()->set("interlace", true)); }},
    {"plain.png", [](const VImage& i, const char* p) { i.pngsave(p); }},
    {"interlaced.png", [](const VImage& i, const char* p) { i.pngsave(p, VImage::option()->set("interlace", true)); }},
    {"lossy.webp", [](const VImage& i, const char* p) { i.webpsave(p); }},
    {"lossless.webp", [](const VImage& i, const char* p) { i.webpsave(p, VImage::option()->set("lossless", true)); }},
    {"strips.tif", [](const VImage& i, const char* p) { i.tiffsave(p); }},
    {"deflate.tif",
     [](const VImage& i, const char* p) { i.tiffsave(p, VImage::option()->set("compression", VIPS_FOREIGN_TIFF_COMPRESSION_DEFLATE)); }},
    {"tiles.tif", [](const VImage& i,
                     const char* p) { i.tiffsave(p, VImage::option()->set("tile", true)->set("tile_width", 64)->set("tile_height", 64)); }},
    {"jpeg.tif",
     [](const VImage& i, const char* p) { i.tiffsave(p, VImage::option()->set("compression", VIPS_FOREIGN_TIFF_COMPRESSION_JPEG)); }},
    {"plain.bmp", [](const VImage& i, const char* p) { i.magicksave(p, VImage::option()->set("format", "BMP")); }},
    {"plain.avif",
     [](const VImage& i, const char* p) { i.heifsave(p, VImage::option()->set("compression", VIPS_FOREIGN_HEIF_COMPRESSION_AV1)); }},
};

// DATA_LOSS, whether the header or the pixels show it.
Status ReadWhole(const std::string& path) { return PictureReader::Open(path).status(); }

TEST_F(PictureTest, TruncatedFilesAreErrorsNeverGreyHalves) {
  const VImage image = Noise(200, 150, 3, VIPS_FORMAT_UCHAR);
  for (const Encoding& encoding : kEncodings) {
    SCOPED_TRACE(encoding.name);
    const std::string path = Path(encoding.name);
    encoding.save(image, path.c_str());
    const std::string whole = Slurp(path);
    ASSERT_TRUE(ReadWhole(path).ok()) << ReadWhole(path);
    for (const double part : {0.02, 0.3, 0.5, 0.9, 0.99}) {
      SCOPED_TRACE(part);
      Spill(path, whole.substr(0, static_cast<size_t>(static_cast<double>(whole.size()) * part)));
      const Status status = ReadWhole(path);
      EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
      EXPECT_THAT(status.message(), HasSubstr(path));
      EXPECT_FALSE(MakeThumbnail(path, 100).ok());
    }
  }
}

// Of the formats that can tell: WebP and TIFF carry no check sums.
TEST_F(PictureTest, DamageInTheMiddleIsAnError) {
  const VImage image = Noise(200, 150, 3, VIPS_FORMAT_UCHAR);
  for (const char* name : {"baseline.jpg", "progressive.jpg", "plain.png", "interlaced.png"}) {
    SCOPED_TRACE(name);
    const std::string path = Path(name);
    for (const Encoding& encoding : kEncodings) {
      if (encoding.name == std::string(name)) encoding.save(image, path.c_str());
    }
    std::string bytes = Slurp(path);
    // An end of image in the middle for JPEG, noise for the others.
    const std::string damage = std::strstr(name, ".jpg") != nullptr ? "\xFF\xD9"s : std::string(40, '\x5A');
    bytes.replace(bytes.size() / 2, damage.size(), damage);
    Spill(path, bytes);
    EXPECT_EQ(ReadWhole(path).code(), StatusCode::kDataLoss) << ReadWhole(path);
  }
}

// Stray bytes between two markers are a warning to libjpeg as well, but harm no pixel: some cameras write them.
TEST_F(PictureTest, StrayBytesBeforeAMarkerAreNoDamage) {
  Noise(64, 48, 3, VIPS_FORMAT_UCHAR).jpegsave(Path("a.jpg").c_str());
  const Decoded before = DecodeFile(Path("a.jpg"));
  std::string bytes = Slurp(Path("a.jpg"));
  bytes.insert(bytes.size() - 2, "\x11\x22\x33\x44");
  Spill(Path("stray.jpg"), bytes);
  const auto reader = PictureReader::Open(Path("stray.jpg"));
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->memory_bytes(), 64 * 48 * 3);
}

// Whatever a file holds, there is an answer and no crash.
TEST_F(PictureTest, MutatedFilesAreReadOrRefused) {
  const VImage image = Noise(48, 36, 3, VIPS_FORMAT_UCHAR);
  uint32_t state = 2024;
  const auto random = [&state](size_t below) { return static_cast<size_t>((state = state * 1664525u + 1013904223u) >> 8) % below; };
  int refused = 0, read = 0;
  for (const Encoding& encoding : kEncodings) {
    encoding.save(image, Path(encoding.name).c_str());
    const std::string good = Slurp(Path(encoding.name));
    for (int mutation = 0; mutation < 40; ++mutation) {
      SCOPED_TRACE(encoding.name + (" mutation " + std::to_string(mutation)));
      std::string bad = good;
      // Half of the damage goes into the header, where it does the most.
      const size_t reach = mutation % 2 == 0 ? std::min<size_t>(bad.size(), 200) : bad.size();
      for (size_t i = 0; i <= random(6); ++i) bad[random(reach)] = static_cast<char>(random(256));
      Spill(Path("bad"), bad);
      const auto info = ProbePicture(Path("bad"), 4'000'000);
      if (!info.ok()) {
        EXPECT_THAT(info.status().message(), HasSubstr(Path("bad")));
        ++refused;
        continue;
      }
      const auto reader = PictureReader::Open(Path("bad"));
      (reader.ok() ? read : refused)++;
      if (!reader.ok()) {
        EXPECT_THAT(reader.status().message(), HasSubstr(Path("bad")));
      }
      if (const auto thumbnail = MakeThumbnail(Path("bad"), 32); !thumbnail.ok()) {
        EXPECT_THAT(thumbnail.status().message(), HasSubstr(Path("bad")));
      }
    }
  }
  EXPECT_GT(refused, 50);
  EXPECT_GT(read, 50);
}

TEST_F(PictureTest, ProbesEveryKind) {
  const struct {
    const char* name;
    int bands;
    VipsBandFormat format;
    PictureFormat expected;
    std::function<void(const VImage&, const char*)> save;
  } kRows[] = {
      {"grey.jpg", 1, VIPS_FORMAT_UCHAR, PictureFormat::kJpeg, [](const VImage& i, const char* p) { i.jpegsave(p); }},
      {"rgb.jpg", 3, VIPS_FORMAT_UCHAR, PictureFormat::kJpeg, [](const VImage& i, const char* p) { i.jpegsave(p); }},
      {"grey.png", 1, VIPS_FORMAT_UCHAR, PictureFormat::kPng, [](const VImage& i, const char* p) { i.pngsave(p); }},
      {"greya.png", 2, VIPS_FORMAT_UCHAR, PictureFormat::kPng, [](const VImage& i, const char* p) { i.pngsave(p); }},
      {"rgb.png", 3, VIPS_FORMAT_UCHAR, PictureFormat::kPng, [](const VImage& i, const char* p) { i.pngsave(p); }},
      {"rgba.png", 4, VIPS_FORMAT_UCHAR, PictureFormat::kPng, [](const VImage& i, const char* p) { i.pngsave(p); }},
      {"grey16.png", 1, VIPS_FORMAT_USHORT, PictureFormat::kPng, [](const VImage& i, const char* p) { i.pngsave(p); }},
      {"greya16.png", 2, VIPS_FORMAT_USHORT, PictureFormat::kPng, [](const VImage& i, const char* p) { i.pngsave(p); }},
      {"rgb16.png", 3, VIPS_FORMAT_USHORT, PictureFormat::kPng, [](const VImage& i, const char* p) { i.pngsave(p); }},
      {"rgba16.png", 4, VIPS_FORMAT_USHORT, PictureFormat::kPng, [](const VImage& i, const char* p) { i.pngsave(p); }},
      {"rgb.tif", 3, VIPS_FORMAT_UCHAR, PictureFormat::kTiff, [](const VImage& i, const char* p) { i.tiffsave(p); }},
      {"rgba16.tif", 4, VIPS_FORMAT_USHORT, PictureFormat::kTiff, [](const VImage& i, const char* p) { i.tiffsave(p); }},
      {"grey16.tif", 1, VIPS_FORMAT_USHORT, PictureFormat::kTiff, [](const VImage& i, const char* p) { i.tiffsave(p); }},
      {"rgb.webp", 3, VIPS_FORMAT_UCHAR, PictureFormat::kWebp,
       [](const VImage& i, const char* p) { i.webpsave(p, VImage::option()->set("lossless", true)); }},
      {"rgba.webp", 4, VIPS_FORMAT_UCHAR, PictureFormat::kWebp,
       [](const VImage& i, const char* p) { i.webpsave(p, VImage::option()->set("lossless", true)); }},
      {"rgb.bmp", 3, VIPS_FORMAT_UCHAR, PictureFormat::kBmp,
       [](const VImage& i, const char* p) { i.magicksave(p, VImage::option()->set("format", "BMP")); }},
      {"rgb.avif", 3, VIPS_FORMAT_UCHAR, PictureFormat::kAvif,
       [](const VImage& i, const char* p) { i.heifsave(p, VImage::option()->set("compression", VIPS_FOREIGN_HEIF_COMPRESSION_AV1)); }},
  };
  for (const auto& row : kRows) {
    SCOPED_TRACE(row.name);
    const std::string path = Path(row.name);
    row.save(Noise(37, 23, row.bands, row.format), path.c_str());
    const auto info = ProbePicture(path);
    ASSERT_TRUE(info.ok()) << info.status();
    EXPECT_EQ(info->format, row.expected);
    EXPECT_EQ(info->size, (Size{37, 23}));
    EXPECT_EQ(info->depth, row.format == VIPS_FORMAT_USHORT ? 16 : 8);
    EXPECT_EQ(info->alpha, row.bands == 2 || row.bands == 4);
    EXPECT_EQ(info->grey, row.bands < 3);

    // And the pixels are the file's own.
    const auto reader = PictureReader::Open(path);
    ASSERT_TRUE(reader.ok()) << reader.status();
    const Decoded expected = DecodeFile(path);
    std::vector<float> planar(37 * 23 * 3);
    ASSERT_TRUE((*reader)->Read({0, 0, 37, 23}, planar.data()).ok());
    const float full = row.format == VIPS_FORMAT_USHORT ? 65535 : 255;
    for (int y = 0; y < 23; ++y) {
      for (int x = 0; x < 37; ++x) {
        for (int channel = 0; channel < 3; ++channel) {
          ASSERT_EQ(planar[(channel * 23 + y) * 37 + x], expected.at(x, y, row.bands < 3 ? 0 : channel) / full) << x << "," << y;
        }
      }
    }
  }
}

TEST_F(PictureTest, ReadsPaletteAndOneBitPictures) {
  // 3x2, 2 bits a pixel, palette red, green, blue, white with alpha 255, 255, 0; rows: 0 1 2 / 3 2 1. Stored deflate blocks.
  const std::string raw = "\0\x18\0\xE4"s;
  const std::string zlib = "\x78\x01\x01\x04\0\xFB\xFF"s + raw + BigEndian32([&raw] {
                             uint32_t a = 1, b = 0;
                             for (const unsigned char byte : raw) a = (a + byte) % 65521, b = (b + a) % 65521;
                             return b << 16 | a;
                           }());
  Spill(Path("palette.png"), "\x89PNG\r\n\x1A\n"s + PngChunk("IHDR" + BigEndian32(3) + BigEndian32(2) + "\x02\x03\0\0\0"s) +
                                 PngChunk("PLTE\xFF\0\0\0\xFF\0\0\0\xFF\xFF\xFF\xFF"s) + PngChunk("tRNS\xFF\xFF\0"s) +
                                 PngChunk("IDAT" + zlib) + PngChunk("IEND"));
  const auto reader = PictureReader::Open(Path("palette.png"));
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_TRUE((*reader)->info().alpha);
  EXPECT_FALSE((*reader)->info().grey);
  std::vector<float> planar(18);
  ASSERT_TRUE((*reader)->Read({0, 0, 3, 2}, planar.data()).ok());
  EXPECT_EQ(planar, (std::vector<float>{1, 0, 0, 1, 0, 0, /**/ 0, 1, 0, 1, 0, 1, /**/ 0, 0, 1, 1, 1, 0}));

  const std::vector<uint8_t> bits = {0, 255, 255, 255, 0, 255};
  const VImage two_tone = VImage::new_from_memory(const_cast<uint8_t*>(bits.data()), bits.size(), 3, 2, 1, VIPS_FORMAT_UCHAR);
  two_tone.pngsave(Path("bit.png").c_str(), VImage::option()->set("bitdepth", 1));
  two_tone.tiffsave(Path("bit.tif").c_str(), VImage::option()->set("bitdepth", 1));
  for (const char* name : {"bit.png", "bit.tif"}) {
    SCOPED_TRACE(name);
    const auto bit = PictureReader::Open(Path(name));
    ASSERT_TRUE(bit.ok()) << bit.status();
    EXPECT_TRUE((*bit)->info().grey);
    EXPECT_EQ((*bit)->info().depth, 8);
    ASSERT_TRUE((*bit)->Read({0, 0, 3, 2}, planar.data()).ok());
    EXPECT_EQ(planar, (std::vector<float>{0, 1, 1, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 1, 1, 0, 1}));
  }
}

TEST_F(PictureTest, ConvertsCmykWithItsProfile) {
  const std::vector<double> orange = {200, 140, 100};
  const VImage rgb = (VImage::black(32, 32, VImage::option()->set("bands", 3)) + orange)
                         .cast(VIPS_FORMAT_UCHAR)
                         .copy(VImage::option()->set("interpretation", VIPS_INTERPRETATION_sRGB));
  const VImage cmyk = rgb.icc_transform("cmyk", VImage::option()->set("input_profile", "srgb"));
  cmyk.jpegsave(Path("cmyk.jpg").c_str(), VImage::option()->set("Q", 100));
  cmyk.tiffsave(Path("cmyk.tif").c_str());
  for (const char* name : {"cmyk.jpg", "cmyk.tif"}) {
    SCOPED_TRACE(name);
    const auto reader = PictureReader::Open(Path(name));
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_FALSE((*reader)->info().alpha);
    EXPECT_FALSE((*reader)->info().grey);
    std::vector<float> planar(3);
    ASSERT_TRUE((*reader)->Read({16, 16, 1, 1}, planar.data()).ok());
    for (int channel = 0; channel < 3; ++channel) EXPECT_NEAR(planar[channel] * 255, orange[channel], 12) << channel;
    EXPECT_TRUE(MakeThumbnail(Path(name), 16).ok());
  }
}

TEST_F(PictureTest, TurnsPicturesAsExifSays) {
  // Where the upright picture's pixel (x, y) is in the file, by the drawing in the EXIF standard; w and h are the file's.
  const struct {
    int orientation;
    std::function<std::pair<int, int>(int x, int y, int w, int h)> in_file;
  } kRows[] = {
      {1, [](int x, int y, int, int) { return std::pair(x, y); }},
      {2, [](int x, int y, int w, int) { return std::pair(w - 1 - x, y); }},
      {3, [](int x, int y, int w, int h) { return std::pair(w - 1 - x, h - 1 - y); }},
      {4, [](int x, int y, int, int h) { return std::pair(x, h - 1 - y); }},
      {5, [](int x, int y, int, int) { return std::pair(y, x); }},
      {6, [](int x, int y, int, int h) { return std::pair(y, h - 1 - x); }},
      {7, [](int x, int y, int w, int h) { return std::pair(w - 1 - y, h - 1 - x); }},
      {8, [](int x, int y, int w, int) { return std::pair(w - 1 - y, x); }},
  };
  const int w = 61, h = 43;
  for (const auto& row : kRows) {
    for (const char* name : {"a.jpg", "a.tif", "a.png"}) {
      SCOPED_TRACE(std::string(name) + " orientation " + std::to_string(row.orientation));
      VImage image = Noise(w, h, 3, VIPS_FORMAT_UCHAR).copy();
      image.set(VIPS_META_ORIENTATION, row.orientation);
      image.jpegsave(Path("exif.jpg").c_str());  // libvips gives a PNG an EXIF block only if the image has one already
      VImage::jpegload(Path("exif.jpg").c_str()).copy_memory().write_to_file(Path(name).c_str());
      const Decoded file = DecodeFile(Path(name));
      const Size size = row.orientation >= 5 ? Size{h, w} : Size{w, h};
      const Rect windows[] = {{}, {3, 5, 20, 17}, {size.width - 9, size.height - 4, 9, 4}};
      for (const Rect& window : windows) {
        SCOPED_TRACE(window.x);
        const auto reader = PictureReader::Open(Path(name), window);
        ASSERT_TRUE(reader.ok()) << reader.status();
        ASSERT_EQ((*reader)->info().size, size);
        const Rect all = window.empty() ? Rect{0, 0, size.width, size.height} : window;
        EXPECT_EQ((*reader)->memory_bytes(), all.area() * 3);
        const Rect part = {all.x + 1, all.y + 1, all.width - 2, all.height - 2};
        std::vector<float> planar(static_cast<size_t>(part.area() * 3));
        ASSERT_TRUE((*reader)->Read(part, planar.data()).ok());
        for (int y = 0; y < part.height; ++y) {
          for (int x = 0; x < part.width; ++x) {
            const auto [fx, fy] = row.in_file(part.x + x, part.y + y, w, h);
            for (int channel = 0; channel < 3; ++channel) {
              ASSERT_EQ(planar[(channel * part.height + y) * part.width + x], static_cast<float>(file.at(fx, fy, channel)) / 255)
                  << x << "," << y;
            }
          }
        }
      }
    }
  }
}

TEST_F(PictureTest, ReadsNothingOutsideTheWindow) {
  Noise(50, 40, 3, VIPS_FORMAT_UCHAR).pngsave(Path("a.png").c_str());
  EXPECT_EQ(PictureReader::Open(Path("a.png"), {0, 0, 51, 40}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(PictureReader::Open(Path("a.png"), {-1, 0, 5, 5}).status().code(), StatusCode::kInvalidArgument);
  const auto reader = PictureReader::Open(Path("a.png"), {10, 10, 20, 20});
  ASSERT_TRUE(reader.ok());
  std::vector<float> planar(3 * 40 * 50);
  EXPECT_TRUE((*reader)->Read({10, 10, 20, 20}, planar.data()).ok());
  for (const Rect rect : {Rect{9, 10, 5, 5}, Rect{10, 10, 21, 5}, Rect{10, 28, 5, 5}, Rect{12, 12, 0, 5}}) {
    const Status status = (*reader)->Read(rect, planar.data());
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr("not inside the window 20x20+10+10"));
  }
}

TEST_F(PictureTest, ReadsTheSmallestAndTheThinnest) {
  for (const Size size : {Size{1, 1}, Size{3, 2}, Size{1, 500}, Size{20000, 3}}) {
    for (const Encoding& encoding : kEncodings) {
      if (size.width > 16000 &&
          (std::strstr(encoding.name, ".bmp") || std::strstr(encoding.name, ".webp") || std::strstr(encoding.name, ".avif"))) {
        continue;  // more than the format, or Debian's ImageMagick policy, allows
      }
      SCOPED_TRACE(encoding.name + (" " + std::to_string(size.width)) + "x" + std::to_string(size.height));
      encoding.save(Noise(size.width, size.height, 3, VIPS_FORMAT_UCHAR), Path(encoding.name).c_str());
      const auto reader = PictureReader::Open(Path(encoding.name));
      ASSERT_TRUE(reader.ok()) << reader.status();
      EXPECT_EQ((*reader)->info().size, size);
      const auto thumbnail = MakeThumbnail(Path(encoding.name), 160);
      EXPECT_TRUE(thumbnail.ok()) << thumbnail.status();
    }
  }
}

TEST_F(PictureTest, TakesAnyFileName) {
  const char* const kNames[] = {
      "with space.png",      "-dash.png",    "new\nline.png", "b[0].png", "per%d.png", "mvg:x.png", "\xE6\xB0\xB8\xE6\xB0\xB8.png",
      "bad\xFF\xFEutf8.png", "no extension", "wrong.jpg"};
  for (const char* name : kNames) {
    SCOPED_TRACE(name);
    Noise(20, 10, 3, VIPS_FORMAT_UCHAR).pngsave(Path("made").c_str());
    std::filesystem::rename(Path("made"), Path(name));
    EXPECT_TRUE(PictureReader::Open(Path(name)).ok());
    EXPECT_TRUE(MakeThumbnail(Path(name), 8).ok());
  }
  Noise(20, 10, 3, VIPS_FORMAT_UCHAR).magicksave(Path("b[0].bmp").c_str(), VImage::option()->set("format", "BMP"));
}

// Peak resident memory since the last call, in bytes.
int64_t PeakMemory() {
  std::ifstream status("/proc/self/status");
  int64_t peak = -1;
  for (std::string line; std::getline(status, line);) {
    if (line.compare(0, 6, "VmHWM:") == 0) peak = std::stoll(line.substr(6)) * 1024;
  }
  std::ofstream("/proc/self/clear_refs") << 5;
  return peak;
}

TEST_F(PictureTest, AWindowOfAHundredMegapixelsTakesTheWindowsMemory) {
  for (const int orientation : {1, 6}) {
    SCOPED_TRACE(orientation);
    VImage large = VImage::black(12500, 8000, VImage::option()->set("bands", 3))
                       .copy(VImage::option()->set("interpretation", VIPS_INTERPRETATION_sRGB));
    large.set(VIPS_META_ORIENTATION, orientation);
    large.jpegsave(Path("large.jpg").c_str());
    PeakMemory();
    [[maybe_unused]] const int64_t before = PeakMemory();
    const auto reader = PictureReader::Open(Path("large.jpg"), {3000, 6000, 1000, 1000});
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_EQ((*reader)->memory_bytes(), 3'000'000);
#ifndef __SANITIZE_ADDRESS__  // which keeps freed memory in quarantine, up to 256 MB of it
    EXPECT_LT(PeakMemory() - before, 60'000'000);
#endif
  }
}

TEST_F(PictureTest, ThumbnailsAreSmallUprightSrgbAndBare) {
  const struct {
    const char* name;
    int bands;
    VipsBandFormat format;
    int orientation;
    Size expected;
  } kRows[] = {
      {"wide.jpg", 3, VIPS_FORMAT_UCHAR, 1, {160, 80}},     {"turned.jpg", 3, VIPS_FORMAT_UCHAR, 6, {80, 160}},
      {"turned.tif", 3, VIPS_FORMAT_USHORT, 8, {80, 160}},  {"alpha.png", 4, VIPS_FORMAT_UCHAR, 1, {160, 80}},
      {"alpha16.png", 4, VIPS_FORMAT_USHORT, 1, {160, 80}}, {"grey16.png", 1, VIPS_FORMAT_USHORT, 1, {160, 80}},
      {"greya.png", 2, VIPS_FORMAT_UCHAR, 1, {160, 80}},
  };
  for (const auto& row : kRows) {
    SCOPED_TRACE(row.name);
    VImage image = Noise(800, 400, row.bands, row.format).copy();
    image.set(VIPS_META_ORIENTATION, row.orientation);
    image.write_to_file(Path(row.name).c_str());
    const auto jpeg = MakeThumbnail(Path(row.name), 160);
    ASSERT_TRUE(jpeg.ok()) << jpeg.status();
    EXPECT_LT(jpeg->size(), 40'000u);
    Spill(Path("thumbnail.jpg"), *jpeg);
    const VImage back = VImage::new_from_file(Path("thumbnail.jpg").c_str());
    EXPECT_EQ((Size{back.width(), back.height()}), row.expected);
    EXPECT_EQ(back.format(), VIPS_FORMAT_UCHAR);
    EXPECT_EQ(back.get_typeof(VIPS_META_ICC_NAME), 0u);
    EXPECT_EQ(back.get_typeof(VIPS_META_ORIENTATION), 0u);
    if (row.bands == 3 || row.bands == 1) {
      EXPECT_NEAR(back.avg(), image.avg() / (row.format == VIPS_FORMAT_USHORT ? 257 : 1), 4);
    }
  }
  Noise(10, 5, 3, VIPS_FORMAT_UCHAR).pngsave(Path("small.png").c_str());
  Spill(Path("thumbnail.jpg"), *MakeThumbnail(Path("small.png"), 160));
  EXPECT_EQ(VImage::new_from_file(Path("thumbnail.jpg").c_str()).width(), 10) << "a small picture is not enlarged";
}

}  // namespace
}  // namespace nsic
