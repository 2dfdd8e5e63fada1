// From the network's output to the finished file.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "core/media/picture.h"
#include "tests/unit/media_pictures.h"

namespace nsic {
namespace {

using testing::HasSubstr;

// What a network that changes nothing makes of a picture, enlarged by repeating pixels.
WorkingPicture Identity(const std::string& path, int scale = 1) {
  const auto reader = PictureReader::Open(path);
  EXPECT_TRUE(reader.ok()) << reader.status();
  const Size size = (*reader)->info().size;
  std::vector<float> planar(static_cast<size_t>(size.area()) * 3);
  EXPECT_TRUE((*reader)->Read({0, 0, size.width, size.height}, planar.data()).ok());
  WorkingPicture picture({0, 0, size.width * scale, size.height * scale});
  std::vector<float> row(static_cast<size_t>(size.width) * scale * 3);
  for (int y = 0; y < size.height * scale; ++y) {
    for (int c = 0; c < 3; ++c) {
      for (int x = 0; x < size.width * scale; ++x) {
        row[static_cast<size_t>(c) * size.width * scale + x] =
            planar[(static_cast<size_t>(c) * size.height + y / scale) * size.width + x / scale];
      }
    }
    picture.Write({0, y, size.width * scale, 1}, row.data());
  }
  return picture;
}

// A network that changes every pixel: the samples are mixed with noise that has nothing to do with 8 bits.
WorkingPicture Changed(const std::string& path, int scale) {
  WorkingPicture picture = Identity(path, scale);
  uint32_t state = 99;
  for (uint16_t& sample : picture.samples()) {
    state = state * 1664525u + 1013904223u;
    sample = static_cast<uint16_t>((sample * 3u + (state >> 16)) / 4);
  }
  return picture;
}

std::vector<SavedPiece> Cut(const WorkingPicture& picture, const std::vector<Rect>& rects, const std::function<std::string(int)>& path) {
  std::vector<SavedPiece> pieces;
  for (const Rect& rect : rects) {
    WorkingPicture part(rect);
    for (int y = 0; y < rect.height; ++y) {
      const size_t from = (static_cast<size_t>(rect.y + y) * picture.rect().width + rect.x) * 3;
      std::copy_n(picture.samples().begin() + static_cast<ptrdiff_t>(from), rect.width * 3,
                  part.samples().begin() + static_cast<ptrdiff_t>(y) * rect.width * 3);
    }
    const std::string name = path(static_cast<int>(pieces.size()));
    EXPECT_TRUE(part.Save(name).ok());
    pieces.push_back({rect, name});
  }
  return pieces;
}

using FinishTest = PictureTest;

struct Kind {
  const char* name;
  int bands;
  VipsBandFormat format;
  std::function<void(const VImage&, const char*)> save;
};

const Kind kLossless[] = {
    {"rgb.png", 3, VIPS_FORMAT_UCHAR, [](const VImage& i, const char* p) { i.pngsave(p); }},
    {"rgba.png", 4, VIPS_FORMAT_UCHAR, [](const VImage& i, const char* p) { i.pngsave(p); }},
    {"grey.png", 1, VIPS_FORMAT_UCHAR, [](const VImage& i, const char* p) { i.pngsave(p); }},
    {"greya.png", 2, VIPS_FORMAT_UCHAR, [](const VImage& i, const char* p) { i.pngsave(p); }},
    {"rgb16.png", 3, VIPS_FORMAT_USHORT, [](const VImage& i, const char* p) { i.pngsave(p); }},
    {"rgba16.png", 4, VIPS_FORMAT_USHORT, [](const VImage& i, const char* p) { i.pngsave(p); }},
    {"grey16.png", 1, VIPS_FORMAT_USHORT, [](const VImage& i, const char* p) { i.pngsave(p); }},
    {"greya16.png", 2, VIPS_FORMAT_USHORT, [](const VImage& i, const char* p) { i.pngsave(p); }},
    {"palette.png", 3, VIPS_FORMAT_UCHAR, [](const VImage& i, const char* p) { i.pngsave(p, VImage::option()->set("palette", true)); }},
    {"bit.png", 1, VIPS_FORMAT_UCHAR, [](const VImage& i, const char* p) { i.pngsave(p, VImage::option()->set("bitdepth", 1)); }},
    {"rgb.tif", 3, VIPS_FORMAT_UCHAR, [](const VImage& i, const char* p) { i.tiffsave(p); }},
    {"rgba16.tif", 4, VIPS_FORMAT_USHORT, [](const VImage& i, const char* p) { i.tiffsave(p); }},
    {"grey16.tif", 1, VIPS_FORMAT_USHORT, [](const VImage& i, const char* p) { i.tiffsave(p); }},
    {"tiles.tif", 3, VIPS_FORMAT_UCHAR,
     [](const VImage& i, const char* p) {
       i.tiffsave(p, VImage::option()->set("tile", true)->set("tile_width", 32)->set("tile_height", 32));
     }},
    {"lossless.webp", 3, VIPS_FORMAT_UCHAR, [](const VImage& i, const char* p) { i.webpsave(p, VImage::option()->set("lossless", true)); }},
    {"alpha.webp", 4, VIPS_FORMAT_UCHAR,
     [](const VImage& i, const char* p) { i.webpsave(p, VImage::option()->set("lossless", true)->set("near_lossless", false)); }},
    {"rgb.bmp", 3, VIPS_FORMAT_UCHAR, [](const VImage& i, const char* p) { i.magicksave(p, VImage::option()->set("format", "BMP")); }},
};

TEST_F(FinishTest, ANetworkThatChangesNothingGivesBackTheInputBitForBit) {
  for (const Kind& kind : kLossless) {
    for (const Size size : {Size{83, 61}, Size{1, 1}, Size{3, 2}}) {
      SCOPED_TRACE(std::string(kind.name) + " " + std::to_string(size.width));
      kind.save(Noise(size.width, size.height, kind.bands, kind.format), Path(kind.name).c_str());
      const Decoded before = DecodeFile(Path(kind.name));
      for (const double strength : {1.0, 0.3, 0.0}) {
        FinishOptions options;
        options.strength = strength;
        const Status status = FinishPicture(Path(kind.name), Identity(Path(kind.name)), options, Path("out"));
        ASSERT_TRUE(status.ok()) << status;
        EXPECT_TRUE(DecodeFile(Path("out")) == before) << strength;
        EXPECT_EQ(ProbePicture(Path("out"))->format, ProbePicture(Path(kind.name))->format);
      }
    }
  }
}

// 16 bits stand for themselves, whatever of them the network used; 8 bits are round(v / 257).
TEST_F(FinishTest, RoundsTheWorkingNumbersOnce) {
  for (const VipsBandFormat format : {VIPS_FORMAT_UCHAR, VIPS_FORMAT_USHORT}) {
    Noise(256, 256, 4, format).pngsave(Path("a.png").c_str());
    WorkingPicture output({0, 0, 256, 256});
    for (size_t i = 0; i < 65536; ++i) {
      output.samples()[i * 3] = static_cast<uint16_t>(i);
      output.samples()[i * 3 + 1] = static_cast<uint16_t>(65535 - i);
      output.samples()[i * 3 + 2] = static_cast<uint16_t>(i * 7);
    }
    ASSERT_TRUE(FinishPicture(Path("a.png"), output, {}, Path("out")).ok());
    const Decoded before = DecodeFile(Path("a.png")), after = DecodeFile(Path("out"));
    for (size_t i = 0; i < 65536; ++i) {
      for (size_t c = 0; c < 3; ++c) {
        const int v = output.samples()[i * 3 + c];
        ASSERT_EQ(after.samples[i * 4 + c], format == VIPS_FORMAT_UCHAR ? (2 * v + 257) / 514 : v) << v;
      }
      ASSERT_EQ(after.samples[i * 4 + 3], before.samples[i * 4 + 3]) << "alpha of pixel " << i;
    }
  }
}

TEST_F(FinishTest, StrengthBlendsWithTheInput) {
  Noise(40, 30, 3, VIPS_FORMAT_USHORT).pngsave(Path("a.png").c_str());
  const WorkingPicture output = Changed(Path("a.png"), 1);
  const Decoded before = DecodeFile(Path("a.png"));
  for (const double strength : {0.0, 0.25, 0.5, 0.9}) {
    FinishOptions options;
    options.strength = strength;
    ASSERT_TRUE(FinishPicture(Path("a.png"), output, options, Path("out")).ok());
    const Decoded after = DecodeFile(Path("out"));
    for (size_t i = 0; i < after.samples.size(); ++i) {
      ASSERT_NEAR(after.samples[i], (1 - strength) * before.samples[i] + strength * output.samples()[i], 0.51) << strength;
    }
  }
}

// Every combination of source, options and output format: a picture put together from pieces has the pixels of the whole one.
TEST_F(FinishTest, PiecesGiveTheSamePixelsAsTheWhole) {
  struct Source {
    const char* name;
    int bands;
    VipsBandFormat format;
    int orientation;
  };
  const Source kSources[] = {{"a.jpg", 3, VIPS_FORMAT_UCHAR, 1},    {"turned.jpg", 3, VIPS_FORMAT_UCHAR, 6},
                             {"grey.jpg", 1, VIPS_FORMAT_UCHAR, 8}, {"a.png", 4, VIPS_FORMAT_USHORT, 1},
                             {"a.webp", 4, VIPS_FORMAT_UCHAR, 1},   {"a.tif", 3, VIPS_FORMAT_USHORT, 5}};
  int checked = 0;
  for (const Source& source : kSources) {
    VImage image = Noise(61, 47, source.bands, source.format).copy();
    image.set(VIPS_META_ORIENTATION, source.orientation);
    image.write_to_file(Path(source.name).c_str());
    const Size size = ProbePicture(Path(source.name))->size;
    for (const int network_scale : {1, 2}) {
      const WorkingPicture output = Changed(Path(source.name), network_scale);
      const int w = size.width * network_scale, h = size.height * network_scale;
      // An irregular cover: two columns above, one piece across the middle, three below.
      const int a = w / 3, b = w / 2, top = h / 4, middle = h / 2;
      const std::vector<Rect> rects = {{b, 0, w - b, top},
                                       {0, 0, b, middle},
                                       {b, top, w - b, middle - top},
                                       {0, middle, w, 3},
                                       {0, middle + 3, a, h - middle - 3},
                                       {a, middle + 3, b - a, h - middle - 3},
                                       {b, middle + 3, w - b, h - middle - 3}};
      const auto pieces = Cut(output, rects, [&](int i) { return Path("piece" + std::to_string(i)); });
      for (const double strength : {1.0, 0.6}) {
        for (const double sharpen : {0.0, 0.3, 0.9}) {
          for (const int resize : {0, 1, 2}) {
            for (const char* format : {"keep", "png", "jpg", "webp", "tiff"}) {
              if (std::string(format) == "jpg" && (source.bands & 1) == 0) continue;  // transparent
              FinishOptions options;
              options.strength = strength;
              options.sharpen = sharpen;
              options.scale = resize == 1 ? 0.7 : 0;
              options.size = resize == 2 ? Size{90, 33} : Size{};
              options.format = format;
              SCOPED_TRACE(std::string(source.name) + " x" + std::to_string(network_scale) + " strength " + std::to_string(strength) +
                           " sharpen " + std::to_string(sharpen) + " resize " + std::to_string(resize) + " to " + format);
              const Status whole = FinishPicture(Path(source.name), output, options, Path("whole"));
              const Status joined = FinishPictureFromPieces(Path(source.name), pieces, network_scale, options, Path("joined"));
              ASSERT_TRUE(whole.ok()) << whole;
              ASSERT_TRUE(joined.ok()) << joined;
              EXPECT_EQ(Slurp(Path("whole")), Slurp(Path("joined"))) << "the files themselves are the same too";
              const auto info = ProbePicture(Path("whole"));
              ASSERT_TRUE(info.ok()) << info.status();
              EXPECT_EQ(info->size, OutputSize(size, network_scale, options));
              EXPECT_EQ(info->format, *OutputFormat(ProbePicture(Path(source.name))->format, format));
              ++checked;
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(checked, 2 * 2 * 3 * 3 * (4 * 5 + 2 * 4));
}

TEST_F(FinishTest, OneThreadAndManyWriteTheSameFile) {
  Noise(700, 500, 3, VIPS_FORMAT_UCHAR).jpegsave(Path("a.jpg").c_str());
  const WorkingPicture output = Changed(Path("a.jpg"), 1);
  for (const char* format : {"jpg", "png", "webp", "tiff"}) {
    FinishOptions options;
    options.format = format;
    options.scale = 1.3;
    options.strength = 0.8;
    options.sharpen = 0.7;
    std::string first;
    for (const int threads : {1, 2, 7}) {
      vips_concurrency_set(threads);
      ASSERT_TRUE(FinishPicture(Path("a.jpg"), output, options, Path("out")).ok());
      if (first.empty()) first = Slurp(Path("out"));
      EXPECT_TRUE(Slurp(Path("out")) == first) << format << " with " << threads << " threads";
    }
  }
  vips_concurrency_set(2);
}

TEST_F(FinishTest, JpegIsWrittenWithoutSubsamplingAtTheQualityAsked) {
  Noise(64, 64, 3, VIPS_FORMAT_UCHAR).jpegsave(Path("a.jpg").c_str(), VImage::option()->set("Q", 30));
  const WorkingPicture output = Identity(Path("a.jpg"));
  std::string bytes95;
  for (const int quality : {0, 95, 40}) {  // 0: not told
    FinishOptions options;
    if (quality != 0) options.jpeg_quality = quality;
    ASSERT_TRUE(FinishPicture(Path("a.jpg"), output, options, Path("out")).ok());
    const std::string bytes = Slurp(Path("out"));
    const size_t frame = bytes.find("\xFF\xC0");
    ASSERT_NE(frame, std::string::npos);
    for (const size_t component : {0, 1, 2}) EXPECT_EQ(bytes[frame + 11 + 3 * component], 0x11) << "sampling factors";
    const size_t table = bytes.find("\xFF\xDB");
    EXPECT_EQ(static_cast<int>(bytes[table + 5]), quality == 40 ? 20 : 2) << "the first luma step: 16 * 1.25, or 16 * 0.1";
    if (quality == 0) bytes95 = bytes;
    if (quality == 95) {
      EXPECT_EQ(bytes, bytes95);
    }
  }
}

TEST_F(FinishTest, SixteenBitsBecomeEightOnlyWhereTheFormatHoldsNoMore) {
  Noise(30, 20, 3, VIPS_FORMAT_USHORT).pngsave(Path("a.png").c_str());
  const WorkingPicture output = Identity(Path("a.png"));
  for (const auto& [format, depth] : {std::pair("keep", 16), std::pair("tiff", 16), std::pair("jpg", 8), std::pair("webp", 8)}) {
    FinishOptions options;
    options.format = format;
    ASSERT_TRUE(FinishPicture(Path("a.png"), output, options, Path("out")).ok());
    EXPECT_EQ(ProbePicture(Path("out"))->depth, depth) << format;
  }
}

TEST_F(FinishTest, GreyStaysGreyAndAlphaIsResizedWithThePicture) {
  Noise(40, 30, 2, VIPS_FORMAT_UCHAR).pngsave(Path("a.png").c_str());
  FinishOptions options;
  options.scale = 2;
  ASSERT_TRUE(FinishPicture(Path("a.png"), Changed(Path("a.png"), 1), options, Path("out")).ok());
  const auto info = ProbePicture(Path("out"));
  ASSERT_TRUE(info.ok());
  EXPECT_TRUE(info->grey);
  EXPECT_TRUE(info->alpha);
  EXPECT_EQ(info->size, (Size{80, 60}));
  const Decoded before = DecodeFile(Path("a.png")), after = DecodeFile(Path("out"));
  double sum_before = 0, sum_after = 0;
  for (size_t i = 1; i < before.samples.size(); i += 2) sum_before += before.samples[i];
  for (size_t i = 1; i < after.samples.size(); i += 2) sum_after += after.samples[i];
  EXPECT_NEAR(sum_after / 4800, sum_before / 1200, 2) << "alpha keeps its mean";
}

TEST_F(FinishTest, TransparencyAndJpeg) {
  const VImage rgb = Noise(20, 20, 3, VIPS_FORMAT_UCHAR);
  const auto with_alpha = [&rgb](double alpha) {
    return rgb.bandjoin((VImage::black(20, 20) + alpha).cast(VIPS_FORMAT_UCHAR))
        .copy(VImage::option()->set("interpretation", VIPS_INTERPRETATION_sRGB));
  };
  with_alpha(255).pngsave(Path("opaque.png").c_str());
  with_alpha(254).pngsave(Path("clear.png").c_str());
  FinishOptions options;
  options.format = "jpg";
  EXPECT_TRUE(FinishPicture(Path("opaque.png"), Identity(Path("opaque.png")), options, Path("out")).ok());
  EXPECT_FALSE(ProbePicture(Path("out"))->alpha);
  const Status status = FinishPicture(Path("clear.png"), Identity(Path("clear.png")), options, Path("out"));
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), Path("clear.png") + " has transparent parts, which a JPEG cannot hold; choose the format png or webp");
  EXPECT_FALSE(std::filesystem::exists(Path("out"))) << "nothing half made is left";
}

TEST_F(FinishTest, CarriesProfileExifAndXmpAndResetsTheOrientation) {
  const std::string xmp = "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:Description tiff:Orientation=\"6\" dc:title=\"Quay\"/></x:xmpmeta>";
  VImage image = Noise(48, 32, 3, VIPS_FORMAT_UCHAR).icc_transform("p3", VImage::option()->set("input_profile", "srgb")).copy();
  image.set(VIPS_META_ORIENTATION, 6);
  image.set("exif-ifd0-Make", "Sakura (Sakura, ASCII, 7 components, 7 bytes)");
  image.set("exif-ifd2-ISOSpeedRatings", "400 (400, Short, 1 components, 2 bytes)");
  vips_image_set_blob_copy(image.get_image(), VIPS_META_XMP_NAME, xmp.data(), xmp.size());
  image.jpegsave(Path("a.jpg").c_str());
  const VImage from_jpeg = VImage::jpegload(Path("a.jpg").c_str()).copy_memory();
  from_jpeg.pngsave(Path("a.png").c_str());
  from_jpeg.webpsave(Path("a.webp").c_str());
  from_jpeg.tiffsave(Path("a.tif").c_str());
  size_t profile_size = 0;
  const void* profile = image.get_blob(VIPS_META_ICC_NAME, &profile_size);

  const struct {
    const char* source;
    const char* format;
    bool exif;  // libvips neither reads nor writes the EXIF directory of a TIFF
  } kRows[] = {{"a.jpg", "keep", true}, {"a.png", "keep", true}, {"a.webp", "keep", true}, {"a.tif", "keep", false},
               {"a.jpg", "png", true},  {"a.jpg", "webp", true}, {"a.jpg", "tiff", false}, {"a.png", "jpg", true}};
  for (const auto& row : kRows) {
    SCOPED_TRACE(std::string(row.source) + " to " + row.format);
    FinishOptions options;
    options.format = row.format;
    const Status status = FinishPicture(Path(row.source), Identity(Path(row.source)), options, Path("out"));
    ASSERT_TRUE(status.ok()) << status;
    const VImage out = VImage::new_from_file(Path("out").c_str());
    EXPECT_EQ(out.width(), 32);
    EXPECT_EQ(out.height(), 48);
    size_t size = 0;
    ASSERT_NE(out.get_typeof(VIPS_META_ICC_NAME), 0u);
    const void* icc = out.get_blob(VIPS_META_ICC_NAME, &size);
    EXPECT_TRUE(size == profile_size && std::memcmp(icc, profile, size) == 0) << "the ICC profile is not the source's";
    ASSERT_NE(out.get_typeof(VIPS_META_XMP_NAME), 0u);
    const auto* text = static_cast<const char*>(out.get_blob(VIPS_META_XMP_NAME, &size));
    EXPECT_THAT(std::string(text, size), HasSubstr("dc:title=\"Quay\""));
    EXPECT_THAT(std::string(text, size), HasSubstr("tiff:Orientation=\"1\""));
    if (out.get_typeof(VIPS_META_ORIENTATION) != 0) {
      EXPECT_EQ(out.get_int(VIPS_META_ORIENTATION), 1);
    }
    if (!row.exif) continue;
    ASSERT_NE(out.get_typeof("exif-ifd0-Make"), 0u);
    EXPECT_THAT(out.get_string("exif-ifd0-Make"), HasSubstr("Sakura"));
    EXPECT_THAT(out.get_string("exif-ifd2-ISOSpeedRatings"), HasSubstr("400"));
    EXPECT_THAT(out.get_string("exif-ifd2-PixelXDimension"), HasSubstr("32"));
  }
}

TEST_F(FinishTest, CmykComesOutAsSrgb) {
  const VImage cmyk = Noise(20, 20, 3, VIPS_FORMAT_UCHAR).icc_transform("cmyk", VImage::option()->set("input_profile", "srgb"));
  cmyk.jpegsave(Path("a.jpg").c_str());
  ASSERT_TRUE(FinishPicture(Path("a.jpg"), Identity(Path("a.jpg")), {}, Path("out")).ok());
  const VImage out = VImage::new_from_file(Path("out").c_str());
  EXPECT_EQ(out.bands(), 3);
  EXPECT_EQ(out.interpretation(), VIPS_INTERPRETATION_sRGB);
  size_t size = 0;
  ASSERT_NE(out.get_typeof(VIPS_META_ICC_NAME), 0u);
  const auto* profile = static_cast<const char*>(out.get_blob(VIPS_META_ICC_NAME, &size));
  EXPECT_EQ(std::string(profile + 16, 4), "RGB ");
}

TEST_F(FinishTest, ComputesTheOutputSize) {
  const auto with = [](double scale, Size size) {
    FinishOptions options;
    options.scale = scale;
    options.size = size;
    return options;
  };
  EXPECT_EQ(OutputSize({101, 50}, 1, with(0, {})), (Size{101, 50}));
  EXPECT_EQ(OutputSize({101, 50}, 4, with(0, {})), (Size{404, 200}));
  EXPECT_EQ(OutputSize({101, 50}, 4, with(1.5, {})), (Size{152, 75})) << "a factor of the source, not of the network's output";
  EXPECT_EQ(OutputSize({101, 50}, 4, with(0, {640, 480})), (Size{640, 480}));
  EXPECT_EQ(OutputSize({3, 2}, 1, with(0.1, {})), (Size{1, 1}));
}

TEST_F(FinishTest, RefusesOptionsThatMakeNoSense) {
  Noise(20, 20, 3, VIPS_FORMAT_UCHAR).pngsave(Path("a.png").c_str());
  const WorkingPicture output = Identity(Path("a.png"));
  const struct {
    const char* message;
    std::function<void(FinishOptions*)> set;
  } kRows[] = {
      {"the strength must be between 0 and 1", [](FinishOptions* o) { o->strength = 1.1; }},
      {"the strength must be between 0 and 1", [](FinishOptions* o) { o->strength = std::nan(""); }},
      {"sharpening must be between 0 and 1", [](FinishOptions* o) { o->sharpen = -0.1; }},
      {"the scale must be between 0 and 64", [](FinishOptions* o) { o->scale = 65; }},
      {"the size to resize to must be at least 1x1, not 5x0",
       [](FinishOptions* o) {
         o->size = {5, 0};
       }},
      {"the JPEG quality must be between 1 and 100", [](FinishOptions* o) { o->jpeg_quality = 101; }},
      {"the output format \"gif\" is not known; choose keep, png, jpg, webp or tiff", [](FinishOptions* o) { o->format = "gif"; }},
      {"choose the format png or tiff",
       [](FinishOptions* o) {
         o->format = "webp", o->size = {20000, 10};
       }},
  };
  for (const auto& row : kRows) {
    FinishOptions options;
    row.set(&options);
    const Status status = FinishPicture(Path("a.png"), output, options, Path("out"));
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << row.message;
    EXPECT_THAT(status.message(), HasSubstr(row.message));
    EXPECT_FALSE(std::filesystem::exists(Path("out")));
  }
}

TEST_F(FinishTest, PiecesMustCoverThePictureExactly) {
  Noise(30, 20, 3, VIPS_FORMAT_UCHAR).pngsave(Path("a.png").c_str());
  const WorkingPicture output = Identity(Path("a.png"));
  const struct {
    const char* row;
    std::vector<Rect> rects;
    const char* message;  // nullptr: fine
  } kRows[] = {
      {"whole", {{0, 0, 30, 20}}, nullptr},
      {"two", {{0, 0, 10, 20}, {10, 0, 20, 20}}, nullptr},
      {"none", {}, "the pieces leave gaps in the picture of 30x20"},
      {"a gap", {{0, 0, 10, 20}, {11, 0, 19, 20}}, "the pieces leave gaps"},
      {"one on another, the area right", {{0, 0, 20, 20}, {10, 0, 10, 20}}, "or on another piece"},
  };
  for (const auto& row : kRows) {
    const auto pieces = Cut(output, row.rects, [&](int i) { return Path("piece" + std::to_string(i)); });
    const Status status = FinishPictureFromPieces(Path("a.png"), pieces, 1, {}, Path("out"));
    EXPECT_EQ(status.code(), row.message == nullptr ? StatusCode::kOk : StatusCode::kInvalidArgument) << row.row << ": " << status;
    if (row.message != nullptr) {
      EXPECT_THAT(status.message(), HasSubstr(row.message));
    }
  }

  auto pieces = Cut(output, {{0, 0, 30, 10}, {0, 10, 30, 10}}, [&](int i) { return Path("piece" + std::to_string(i)); });
  EXPECT_THAT(FinishPictureFromPieces(Path("a.png"), pieces, 2, {}, Path("out")).message(),
              HasSubstr("leave gaps in the picture of 60x40"));
  pieces[1].rect = {0, 10, 31, 10};
  EXPECT_THAT(FinishPictureFromPieces(Path("a.png"), pieces, 1, {}, Path("out")).message(), HasSubstr("lies outside the picture"));
  pieces[1].rect = {0, 10, 30, 10};

  const std::string bytes = Slurp(pieces[1].path);
  Spill(pieces[1].path, bytes.substr(0, bytes.size() / 2));
  Status status = FinishPictureFromPieces(Path("a.png"), pieces, 1, {}, Path("out"));
  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_THAT(status.message(), HasSubstr(pieces[1].path));
  ASSERT_TRUE(WorkingPicture({0, 0, 30, 9}).Save(Path("other")).ok());
  pieces[1].path = Path("other");
  status = FinishPictureFromPieces(Path("a.png"), pieces, 1, {}, Path("out"));
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("should hold 30x10 pixels of 3 x 16 bits, and holds something else (30x9)"));
  EXPECT_FALSE(std::filesystem::exists(Path("out")));
}

TEST_F(FinishTest, ANetworksOutputMustFitTheSource) {
  Noise(30, 20, 3, VIPS_FORMAT_UCHAR).pngsave(Path("a.png").c_str());
  for (const Rect rect : {Rect{0, 0, 30, 21}, Rect{0, 0, 15, 10}, Rect{1, 0, 30, 20}, Rect{0, 0, 60, 20}}) {
    EXPECT_EQ(FinishPicture(Path("a.png"), WorkingPicture(rect), {}, Path("out")).code(), StatusCode::kInvalidArgument);
  }
}

TEST_F(FinishTest, FailuresNameTheFileAndLeaveNothing) {
  Noise(200, 200, 3, VIPS_FORMAT_UCHAR).jpegsave(Path("a.jpg").c_str());
  const WorkingPicture output = Identity(Path("a.jpg"));
  Status status = FinishPicture(Path("a.jpg"), output, {}, Path("no such folder/out"));
  EXPECT_EQ(status.code(), StatusCode::kNotFound) << status;
  EXPECT_THAT(status.message(), HasSubstr(Path("no such folder/out")));
  EXPECT_EQ(WorkingPicture({0, 0, 3, 3}).Save(Path("no such folder/out")).code(), StatusCode::kNotFound);

  for (const char* format : {"jpg", "png", "webp", "tiff"}) {
    SCOPED_TRACE(format);
    std::filesystem::create_symlink("/dev/full", Path("full"));
    FinishOptions options;
    options.format = format;
    status = FinishPicture(Path("a.jpg"), output, options, Path("full"));
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
    EXPECT_THAT(status.message(), HasSubstr(Path("full") + ": the disk is full; make room on it"));
    EXPECT_FALSE(std::filesystem::is_symlink(Path("full")));
  }
  std::filesystem::create_symlink("/dev/full", Path("full"));
  EXPECT_EQ(output.Save(Path("full")).code(), StatusCode::kResourceExhausted);

  // The source is damaged behind its header, and is needed: for its own share of the pixels.
  const std::string bytes = Slurp(Path("a.jpg"));
  Spill(Path("a.jpg"), bytes.substr(0, bytes.size() / 2));
  FinishOptions options;
  options.strength = 0.5;
  status = FinishPicture(Path("a.jpg"), output, options, Path("out"));
  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_THAT(status.message(), HasSubstr(Path("a.jpg") + " is damaged or truncated"));
  EXPECT_FALSE(std::filesystem::exists(Path("out")));
}

TEST_F(FinishTest, SavedPiecesKeepEveryBit) {
  WorkingPicture picture({7, 9, 123, 45});
  uint32_t state = 1;
  for (uint16_t& sample : picture.samples()) sample = static_cast<uint16_t>((state = state * 1664525u + 1013904223u) >> 16);
  ASSERT_TRUE(picture.Save(Path("piece")).ok());
  const Decoded back = DecodeFile(Path("piece"));
  EXPECT_EQ(back.depth, 16);
  EXPECT_EQ(back.samples, picture.samples());
}

TEST_F(FinishTest, TheWorkingPictureRoundsAndClamps) {
  WorkingPicture picture({10, 20, 4, 2});
  const float planar[] = {-1.0f, 0.5f, 2.0f, 1.0f / 65535, 0, 0, 0.4f / 65535, 0.6f / 65535, 1, 1, 1, 1};
  picture.Write({12, 20, 2, 2}, planar);
  const std::vector<uint16_t> expected = {0, 0, 0, 0, 0, 0, /**/ 0,     0, 65535, 32768, 0, 65535,
                                          0, 0, 0, 0, 0, 0, /**/ 65535, 0, 65535, 1,     1, 65535};
  EXPECT_EQ(picture.samples(), expected);
}

}  // namespace
}  // namespace nsic
