// The quantisation tables of JPEG files, against those of the standard's annex K as libjpeg scales them.
#include "core/media/jpeg_tables.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>

#include "tests/unit/media_pictures.h"

namespace nsic {
namespace {

// ITU-T T.81, tables K.1 and K.2.
constexpr std::array<int, 64> kLuma = {16, 11,  10,  16, 24, 40, 51, 61, 12,  12,  14,  19,  26, 58, 60, 55,  14,  13,  16,  24, 40, 57,
                                       69, 56,  14,  17, 22, 29, 51, 87, 80,  62,  18,  22,  37, 56, 68, 109, 103, 77,  24,  35, 55, 64,
                                       81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98,  112, 100, 103, 99};
constexpr std::array<int, 64> kChroma = {17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99,
                                         99, 99, 47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
                                         99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99};

// jpeg_quality_scaling and jpeg_add_quant_table of libjpeg, forced to baseline.
int Scaled(int step, int quality) {
  const int percent = quality < 50 ? 5000 / quality : 200 - 2 * quality;
  return std::clamp((step * percent + 50) / 100, 1, 255);
}

using JpegTablesTest = PictureTest;

TEST_F(JpegTablesTest, AreThoseOfTheQuality) {
  const struct {
    const char* name;
    int quality, bands;
    bool progressive;
  } kRows[] = {
      {"fifty", 50, 3, false}, {"coarse", 10, 3, false}, {"fine", 95, 3, false}, {"grey", 40, 1, false}, {"progressive", 75, 3, true}};
  for (const auto& row : kRows) {
    const std::string path = Path(std::string(row.name) + ".jpg");
    Noise(70, 50, row.bands, VIPS_FORMAT_UCHAR)
        .jpegsave(path.c_str(), vips::VImage::option()->set("Q", row.quality)->set("interlace", row.progressive));
    const Result<std::optional<JpegQuantisation>> tables = ReadJpegQuantisation(path);
    ASSERT_TRUE(tables.ok()) << row.name << ": " << tables.status();
    ASSERT_TRUE(tables->has_value()) << row.name;
    for (size_t i = 0; i < 64; ++i) {
      EXPECT_EQ((*tables)->luma[i], Scaled(kLuma[i], row.quality)) << row.name << " " << i;
      EXPECT_EQ((*tables)->chroma[i], Scaled(row.bands == 1 ? kLuma[i] : kChroma[i], row.quality)) << row.name << " " << i;
    }
  }
}

TEST_F(JpegTablesTest, WhatIsNoWholeHeaderHasNone) {
  const std::string path = Path("a.jpg");
  Noise(70, 50, 3, VIPS_FORMAT_UCHAR).jpegsave(path.c_str());
  const std::string good = Slurp(path);
  const size_t picture = good.find("\xff\xda");
  ASSERT_NE(picture, std::string::npos);
  for (size_t length = 0; length < picture; length += 7) {
    Spill(Path("cut"), good.substr(0, length));
    const Result<std::optional<JpegQuantisation>> tables = ReadJpegQuantisation(Path("cut"));
    ASSERT_TRUE(tables.ok()) << length << ": " << tables.status();  // and nothing is read beyond the end
  }
  for (size_t at = 2; at < picture; ++at) {  // no byte can lead outside
    std::string broken = good;
    broken[at] = static_cast<char>(broken[at] ^ 0xff);
    Spill(Path("broken"), broken.substr(0, picture + 20));
    EXPECT_TRUE(ReadJpegQuantisation(Path("broken")).ok()) << at;
  }
  Noise(20, 20, 3, VIPS_FORMAT_UCHAR).pngsave(Path("b.png").c_str());
  EXPECT_FALSE(ReadJpegQuantisation(Path("b.png"))->has_value());
  EXPECT_EQ(ReadJpegQuantisation(Path("gone.jpg")).status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace nsic
