#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "core/quality/metrics.h"

namespace nsic {
namespace {

Rgb8 Make(int width, int height, const std::function<int(int x, int y, int channel)>& sample) {
  Rgb8 picture{{width, height}, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int channel = 0; channel < 3; ++channel)
        picture.samples.push_back(static_cast<uint8_t>(std::clamp(sample(x, y, channel), 0, 255)));
    }
  }
  return picture;
}

int Hash(int x, int y, int channel) {
  uint32_t h = static_cast<uint32_t>(x) * 374761393u + static_cast<uint32_t>(y) * 668265263u + static_cast<uint32_t>(channel) * 2246822519u;
  h = (h ^ (h >> 13)) * 1274126177u;
  return static_cast<int>((h ^ (h >> 16)) & 255);
}

Rgb8 Textured(int width, int height) {
  return Make(width, height, [](int x, int y, int c) { return 60 + 2 * x + y + 20 * c + Hash(x / 2, y / 2, c) / 6; });
}

double LumaAt(const Rgb8& picture, int x, int y) {
  const uint8_t* p = &picture.samples[(static_cast<size_t>(y) * picture.size.width + x) * 3];
  return 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2];
}

double Psnr(double mse) { return 10 * std::log10(65025 / mse); }

TEST(QualityTest, EqualPicturesArePerfect) {
  const Rgb8 picture = Make(40, 33, Hash);
  const auto scores = CompareQuality(picture, picture);
  ASSERT_TRUE(scores.ok());
  EXPECT_EQ(scores->psnr_rgb, std::numeric_limits<double>::infinity());
  EXPECT_EQ(scores->psnr_y, std::numeric_limits<double>::infinity());
  EXPECT_NEAR(scores->ssim_y, 1, 1e-12);
}

TEST(QualityTest, ConstantOffsetsGiveTheValuesOfTheFormula) {
  const Rgb8 black = Make(32, 32, [](int, int, int) { return 0; });
  const struct {
    const char* row;
    int r, g, b;
    double mse_rgb, difference_y;
  } kRows[] = {
      {"white", 255, 255, 255, 65025, 255}, {"one", 1, 1, 1, 1, 1},          {"ten", 10, 10, 10, 100, 10},
      {"red", 30, 0, 0, 300, 8.97},         {"green", 0, 30, 0, 300, 17.61}, {"blue", 0, 0, 30, 300, 3.42},
  };
  for (const auto& row : kRows) {
    SCOPED_TRACE(row.row);
    const Rgb8 other = Make(32, 32, [&row](int, int, int c) { return c == 0 ? row.r : c == 1 ? row.g : row.b; });
    const auto scores = CompareQuality(black, other);
    ASSERT_TRUE(scores.ok());
    EXPECT_NEAR(scores->psnr_rgb, Psnr(row.mse_rgb), 1e-9);
    EXPECT_NEAR(scores->psnr_y, Psnr(row.difference_y * row.difference_y), 1e-9);
    EXPECT_NEAR(scores->psnr_b, scores->psnr_y, 1e-9) << "a flat picture has no blocks";
    // Without variance SSIM is its luminance term: (2 a b + C1) / (a^2 + b^2 + C1), with a = 0.
    const double c1 = 6.5025;
    EXPECT_NEAR(scores->ssim_y, c1 / (row.difference_y * row.difference_y + c1), 1e-9);
  }
}

// Written from the paper's formula, window by window, with nothing of the other implementation.
double PlainSsim(const Rgb8& a, const Rgb8& b) {
  double window[11][11], total = 0;
  for (int v = 0; v < 11; ++v) {
    for (int u = 0; u < 11; ++u) total += window[v][u] = std::exp(-((u - 5) * (u - 5) + (v - 5) * (v - 5)) / (2 * 1.5 * 1.5));
  }
  double sum = 0;
  int windows = 0;
  for (int y = 0; y + 11 <= a.size.height; ++y) {
    for (int x = 0; x + 11 <= a.size.width; ++x, ++windows) {
      double mean_a = 0, mean_b = 0, var_a = 0, var_b = 0, cov = 0;
      for (int v = 0; v < 11; ++v) {
        for (int u = 0; u < 11; ++u) {
          mean_a += window[v][u] / total * LumaAt(a, x + u, y + v);
          mean_b += window[v][u] / total * LumaAt(b, x + u, y + v);
        }
      }
      for (int v = 0; v < 11; ++v) {
        for (int u = 0; u < 11; ++u) {
          const double da = LumaAt(a, x + u, y + v) - mean_a, db = LumaAt(b, x + u, y + v) - mean_b, w = window[v][u] / total;
          var_a += w * da * da;
          var_b += w * db * db;
          cov += w * da * db;
        }
      }
      sum +=
          (2 * mean_a * mean_b + 6.5025) * (2 * cov + 58.5225) / ((mean_a * mean_a + mean_b * mean_b + 6.5025) * (var_a + var_b + 58.5225));
    }
  }
  return sum / windows;
}

TEST(QualityTest, SsimAgreesWithAPlainImplementation) {
  for (const Size size : {Size{11, 11}, Size{12, 40}, Size{53, 37}}) {
    const Rgb8 reference = Textured(size.width, size.height);
    const Rgb8 noisy = Make(size.width, size.height, [&](int x, int y, int c) {
      return reference.samples[(static_cast<size_t>(y) * size.width + x) * 3 + c] + Hash(x, y, c + 7) / 8 - 16;
    });
    const auto scores = CompareQuality(reference, noisy);
    ASSERT_TRUE(scores.ok());
    EXPECT_NEAR(scores->ssim_y, PlainSsim(reference, noisy), 1e-9) << size.width << "x" << size.height;
    EXPECT_LT(scores->ssim_y, 0.99);
  }
}

// The same error, once as a step at every 8th column, once between them: only the first is blocking.
TEST(QualityTest, PsnrBPenalisesBlocksOnTheGridOnly) {
  const int size = 64;
  const Rgb8 flat = Make(size, size, [](int, int, int) { return 100; });
  const auto blocks = [&](int shift) {
    return Make(size, size, [shift](int x, int, int) { return ((x + shift) / 8) % 2 == 0 ? 100 : 108; });
  };
  const auto on_grid = CompareQuality(flat, blocks(0));
  const auto off_grid = CompareQuality(flat, blocks(4));
  ASSERT_TRUE(on_grid.ok() && off_grid.ok());
  EXPECT_NEAR(on_grid->psnr_y, off_grid->psnr_y, 1e-9);
  EXPECT_NEAR(on_grid->psnr_y, Psnr(32), 1e-9);
  EXPECT_NEAR(off_grid->psnr_b, off_grid->psnr_y, 1e-9);
  // 7 of the 63 column borders and 7 of the 63 row borders are block borders; the columns' 7 step by 8 each: their mean square is 64 / 2.
  // Nothing steps elsewhere. Weight log2(8) / log2(64) = 1 / 2.
  EXPECT_NEAR(on_grid->psnr_b, Psnr(32 + 0.5 * 32), 1e-9);
}

TEST(QualityTest, TheBlocksOfTheReferenceDoNotCount) {
  const Rgb8 blocky = Make(64, 64, [](int x, int y, int) { return ((x / 8 + y / 8) % 2) * 40 + 80; });
  const Rgb8 smooth = Make(64, 64, [](int x, int y, int) { return 80 + (x + y) / 4; });
  EXPECT_NEAR(CompareQuality(blocky, smooth)->psnr_b, CompareQuality(blocky, smooth)->psnr_y, 1e-9);
  EXPECT_LT(CompareQuality(smooth, blocky)->psnr_b, CompareQuality(smooth, blocky)->psnr_y - 1);
}

TEST(QualityTest, TheHeatmapShowsWhereTwoDiffer) {
  const Rgb8 a = Make(20, 10, [](int, int, int) { return 100; });
  Rgb8 b = Make(20, 10, [](int x, int y, int channel) {
    if (x == 7 && y == 4 && channel == 1) return 180;
    return x == 7 && y == 5 && channel == 2 ? 60 : 100;
  });
  EXPECT_DOUBLE_EQ(MeanSquaredError(a, b), (80.0 * 80 + 40 * 40) / 600);
  const Result<Rgb8> heatmap = DifferenceHeatmap(a, b);
  ASSERT_TRUE(heatmap.ok()) << heatmap.status();
  ASSERT_EQ(heatmap->samples.size(), 600u);
  const auto brightness = [&](int x, int y) {
    const uint8_t* const pixel = heatmap->samples.data() + (y * 20 + x) * 3;
    return pixel[0] + pixel[1] + pixel[2];
  };
  EXPECT_LT(brightness(0, 0), 10);
  EXPECT_GT(brightness(7, 5), 100);
  EXPECT_GT(brightness(7, 4), brightness(7, 5));
  const Result<Rgb8> equal = DifferenceHeatmap(a, a);
  ASSERT_TRUE(equal.ok());
  EXPECT_LT(*std::max_element(equal->samples.begin(), equal->samples.end()), 10);
  b.size = {10, 20};
  EXPECT_EQ(DifferenceHeatmap(a, b).status().code(), StatusCode::kInvalidArgument);
}

TEST(QualityTest, RefusesWhatCannotBeCompared) {
  const auto flat = [](int width, int height) { return Make(width, height, [](int, int, int) { return 9; }); };
  const struct {
    Rgb8 a, b;
    const char* message;
  } kRows[] = {
      {flat(20, 20), flat(20, 21), "only pictures of one size can be compared: these are 20x20 and 20x21"},
      {flat(10, 20), flat(10, 20), "pictures must be at least 11x11 to be compared: these are 10x20"},
      {flat(20, 20), Rgb8{{20, 20}, {1, 2, 3}}, "a picture of 20x20 must have 1200 samples"},
  };
  for (const auto& row : kRows) {
    const auto scores = CompareQuality(row.a, row.b);
    EXPECT_EQ(scores.status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(scores.status().message(), row.message);
  }
}

}  // namespace
}  // namespace nsic
