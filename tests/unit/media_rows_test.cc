// Resizing and sharpening against plain implementations that share nothing with the streaming ones, and against numbers from Pillow itself.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/media/rows.h"

namespace nsic {
namespace {

// A picture of doubles, one channel after the other in each pixel.
struct Plane {
  Size size;
  int channels;
  std::vector<double> samples;
  double& at(int x, int y, int c) { return samples[(static_cast<size_t>(y) * size.width + x) * channels + c]; }
  double at(int x, int y, int c) const { return samples[(static_cast<size_t>(y) * size.width + x) * channels + c]; }
};

Plane MakePlane(Size size, int channels) {
  Plane plane{size, channels, {}};
  uint32_t state = 7;
  for (int64_t i = 0; i < size.area() * channels; ++i) {
    state = state * 1664525u + 1013904223u;
    plane.samples.push_back(state >> 16);
  }
  return plane;
}

class PlaneRows : public RowSource {
 public:
  explicit PlaneRows(const Plane& plane) : RowSource(plane.size, plane.channels), plane_(plane) {}
  Status Next(float* row) override {
    for (size_t i = 0; i < row_samples(); ++i) row[i] = static_cast<float>(plane_.samples[static_cast<size_t>(y_) * row_samples() + i]);
    ++y_;
    return OkStatus();
  }

 private:
  const Plane& plane_;
  int y_ = 0;
};

Plane Drain(RowSource* rows) {
  Plane plane{rows->size(), rows->channels(), {}};
  std::vector<float> row(rows->row_samples());
  for (int y = 0; y < plane.size.height; ++y) {
    EXPECT_TRUE(rows->Next(row.data()).ok());
    plane.samples.insert(plane.samples.end(), row.begin(), row.end());
  }
  return plane;
}

double LargestDifference(const Plane& a, const Plane& b) {
  EXPECT_EQ(a.samples.size(), b.samples.size());
  double largest = 0;
  for (size_t i = 0; i < a.samples.size(); ++i) largest = std::max(largest, std::abs(a.samples[i] - b.samples[i]));
  return largest;
}

double Clip(double value) { return std::clamp(value, 0.0, 65535.0); }

// The definition: a weighted mean of the input around the output pixel's centre, weights of the windowed sinc, two-dimensional at once.
Plane PlainLanczos(const Plane& in, Size size) {
  Plane out{size, in.channels, std::vector<double>(static_cast<size_t>(size.area() * in.channels))};
  const auto weight = [](double distance, double scale) {
    const double x = distance / std::max(scale, 1.0);
    if (std::abs(x) >= 3) return 0.0;
    return x == 0 ? 1.0 : 3 * std::sin(M_PI * x) * std::sin(M_PI * x / 3) / (M_PI * M_PI * x * x);
  };
  const double scale_x = static_cast<double>(in.size.width) / size.width, scale_y = static_cast<double>(in.size.height) / size.height;
  for (int y = 0; y < size.height; ++y) {
    for (int x = 0; x < size.width; ++x) {
      for (int c = 0; c < in.channels; ++c) {
        double sum = 0, weights = 0;
        for (int v = 0; v < in.size.height; ++v) {
          const double wy = weight(v + 0.5 - (y + 0.5) * scale_y, scale_y);
          if (wy == 0) continue;
          for (int u = 0; u < in.size.width; ++u) {
            const double w = wy * weight(u + 0.5 - (x + 0.5) * scale_x, scale_x);
            sum += w * in.at(u, v, c);
            weights += w;
          }
        }
        out.at(x, y, c) = Clip(sum / weights);
      }
    }
  }
  return out;
}

TEST(RowsTest, ResizesLikeTheDefinitionOfLanczos) {
  const struct {
    Size in, out;
  } kRows[] = {{{20, 17}, {40, 34}}, {{20, 17}, {10, 8}}, {{40, 30}, {13, 11}}, {{7, 9}, {50, 3}},
               {{31, 1}, {10, 4}},   {{1, 1}, {5, 6}},    {{64, 50}, {1, 1}},   {{30, 20}, {31, 19}}};
  for (const auto& row : kRows) {
    SCOPED_TRACE(std::to_string(row.in.width) + "x" + std::to_string(row.in.height) + " to " + std::to_string(row.out.width) + "x" +
                 std::to_string(row.out.height));
    for (const int channels : {1, 3}) {
      const Plane in = MakePlane(row.in, channels);
      const auto rows = ResizeRows(std::make_unique<PlaneRows>(in), row.out);
      ASSERT_EQ(rows->size(), row.out);
      EXPECT_LT(LargestDifference(Drain(rows.get()), PlainLanczos(in, row.out)), 0.25);
    }
  }
}

TEST(RowsTest, TheSameSizeIsTheSameNumbers) {
  const Plane in = MakePlane({33, 21}, 3);
  EXPECT_EQ(Drain(ResizeRows(std::make_unique<PlaneRows>(in), {33, 21}).get()).samples, in.samples);
  EXPECT_EQ(Drain(SharpenRows(std::make_unique<PlaneRows>(in), 0).get()).samples, in.samples);
}

TEST(RowsTest, AFlatPictureStaysFlat) {
  Plane in = MakePlane({19, 14}, 3);
  std::fill(in.samples.begin(), in.samples.end(), 43690.0);
  for (const Size size : {Size{40, 40}, Size{5, 3}}) {
    const auto rows = SharpenRows(ResizeRows(std::make_unique<PlaneRows>(in), size), 1);
    for (const double sample : Drain(rows.get()).samples) ASSERT_NEAR(sample, 43690, 0.1);
  }
}

// Pillow's GaussianBlur(1): three passes of 1/6, 4/6, 1/6 each way, the border repeated.
Plane PlainBlur(const Plane& in) {
  Plane blurred = in;
  for (const bool across : {true, false}) {
    for (int pass = 0; pass < 3; ++pass) {
      const Plane before = blurred;
      for (int y = 0; y < in.size.height; ++y) {
        for (int x = 0; x < in.size.width; ++x) {
          for (int c = 0; c < in.channels; ++c) {
            const auto at = [&](int step) {
              return across ? before.at(std::clamp(x + step, 0, in.size.width - 1), y, c)
                            : before.at(x, std::clamp(y + step, 0, in.size.height - 1), c);
            };
            blurred.at(x, y, c) = (at(-1) + 4 * at(0) + at(1)) / 6;
          }
        }
      }
    }
  }
  return blurred;
}

Plane PlainSharpen(const Plane& in, double k) {
  Plane out = in;
  for (int y = 1; y + 1 < in.size.height; ++y) {
    for (int x = 1; x + 1 < in.size.width; ++x) {
      for (int c = 0; c < in.channels; ++c) {
        double sum = 4 * in.at(x, y, c);
        for (int v = -1; v <= 1; ++v) {
          for (int u = -1; u <= 1; ++u) sum += in.at(x + u, y + v, c);
        }
        const double smooth = sum / 13;
        out.at(x, y, c) = Clip(smooth + (1 + 2 * k) * (in.at(x, y, c) - smooth));
      }
    }
  }
  if (k <= 0.5) return out;
  const Plane blurred = PlainBlur(out);
  for (size_t i = 0; i < out.samples.size(); ++i)
    out.samples[i] = Clip(out.samples[i] + (k - 0.5) * 2 * (out.samples[i] - blurred.samples[i]));
  return out;
}

TEST(RowsTest, SharpensAsTheOriginalDoes) {
  for (const Size size : {Size{24, 17}, Size{1, 1}, Size{3, 2}, Size{2, 9}, Size{50, 1}, Size{5, 4}}) {
    for (const double k : {0.2, 0.5, 0.6, 1.0}) {
      SCOPED_TRACE(std::to_string(size.width) + "x" + std::to_string(size.height) + " by " + std::to_string(k));
      const Plane in = MakePlane(size, 3);
      EXPECT_LT(LargestDifference(Drain(SharpenRows(std::make_unique<PlaneRows>(in), k).get()), PlainSharpen(in, k)), 0.1);
    }
  }
}

TEST(RowsTest, BlendsByStrength) {
  const Plane under = MakePlane({9, 5}, 3);
  Plane over = under;
  std::reverse(over.samples.begin(), over.samples.end());
  for (const double strength : {0.0, 0.25, 0.5, 1.0}) {
    const Plane out = Drain(BlendRows(std::make_unique<PlaneRows>(under), std::make_unique<PlaneRows>(over), strength).get());
    for (size_t i = 0; i < out.samples.size(); ++i) {
      ASSERT_NEAR(out.samples[i], (1 - strength) * under.samples[i] + strength * over.samples[i], 0.01) << strength;
    }
  }
}

// What Pillow 9.4 makes of a 12x10 grey picture of 8 bits: 64 and the upper 7 bits of MakePlane's generator, so that nothing clips on the
// way. Pillow rounds between its steps, once or twice here and six times in a blur.
TEST(RowsTest, AgreesWithPillow) {
  Plane in = MakePlane({12, 10}, 1);
  for (double& sample : in.samples) sample = (64 + std::floor(sample / 512)) * 257;
  const auto resize = [](Size size) {
    return [size](const Plane& p) { return Drain(ResizeRows(std::make_unique<PlaneRows>(p), size).get()); };
  };
  const struct {
    const char* row;
    std::function<Plane(const Plane&)> ours;
    std::vector<int> pillow;
    double tolerance;
  } kRows[] = {
      {"resize((7, 6), LANCZOS)",
       resize({7, 6}),
       {125, 161, 139, 132, 100, 139, 143, 139, 126, 132, 113, 113, 116, 131, 155, 124, 107, 146, 116, 116, 112,
        164, 125, 138, 149, 126, 117, 124, 133, 131, 113, 107, 143, 112, 143, 104, 130, 133, 118, 142, 173, 126},
       1.1},
      {"resize((15, 7), LANCZOS)",
       resize({15, 7}),
       {92,  149, 163, 155, 169, 107, 143, 142, 109, 107, 83,  148, 167, 141, 148, 157, 130, 93,  130, 182, 127,
        108, 118, 126, 119, 95,  121, 135, 119, 114, 135, 174, 139, 104, 132, 91,  108, 131, 136, 129, 92,  80,
        136, 152, 104, 123, 172, 151, 93,  104, 125, 181, 161, 116, 125, 114, 146, 131, 91,  92,  168, 177, 121,
        117, 178, 123, 104, 140, 158, 131, 117, 94,  98,  140, 166, 147, 107, 105, 141, 132, 95,  94,  115, 118,
        124, 175, 133, 102, 134, 159, 132, 89,  110, 161, 140, 114, 153, 118, 102, 168, 136, 177, 183, 129, 106},
       1.1},
      {"Sharpness(1.8)",
       [](const Plane& p) { return Drain(SharpenRows(std::make_unique<PlaneRows>(p), 0.4).get()); },
       {94,  180, 142, 182, 70, 173, 110, 70,  72,  189, 188, 132, 121, 135, 137, 178, 175, 115, 125, 211, 106, 124, 39,  159,
        170, 97,  57,  221, 50, 123, 120, 53,  56,  157, 181, 74,  141, 208, 78,  154, 101, 95,  129, 178, 100, 66,  207, 144,
        112, 219, 122, 70,  76, 207, 139, 128, 66,  117, 66,  64,  152, 171, 50,  141, 171, 198, 93,  109, 158, 202, 135, 125,
        164, 213, 88,  204, 65, 83,  217, 168, 72,  39,  85,  169, 161, 66,  127, 181, 117, 102, 99,  62,  199, 71,  162, 153,
        120, 84,  135, 93,  47, 112, 123, 176, 189, 171, 66,  151, 138, 73,  159, 169, 136, 173, 71,  159, 119, 191, 180, 89},
       2.0},
      {"GaussianBlur(1), which the plain sharpening above uses",
       PlainBlur,
       {125, 140, 148, 146, 133, 129, 119, 106, 113, 138, 147, 143, 131, 136, 140, 143, 133, 126, 121, 114, 114, 127, 133, 131,
        140, 135, 131, 133, 126, 121, 120, 114, 111, 120, 126, 122, 144, 140, 128, 123, 121, 124, 125, 119, 112, 117, 122, 118,
        144, 143, 128, 120, 125, 135, 133, 124, 116, 117, 115, 110, 149, 144, 129, 126, 131, 137, 135, 128, 122, 121, 120, 120,
        151, 142, 132, 131, 126, 128, 132, 130, 122, 118, 125, 136, 139, 130, 128, 129, 120, 118, 124, 131, 132, 127, 131, 140,
        124, 119, 126, 127, 120, 119, 124, 136, 145, 144, 137, 134, 119, 117, 131, 137, 133, 129, 125, 135, 149, 156, 144, 126},
       2.0},
  };
  for (const auto& row : kRows) {
    SCOPED_TRACE(row.row);
    const Plane ours = row.ours(in);
    ASSERT_EQ(ours.samples.size(), row.pillow.size());
    for (size_t i = 0; i < row.pillow.size(); ++i) EXPECT_NEAR(ours.samples[i] / 257, row.pillow[i], row.tolerance) << i;
  }
}

}  // namespace
}  // namespace nsic
