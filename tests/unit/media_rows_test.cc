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

// What Pillow 9.4 makes of a 12x10 grey picture of 8 bits: MakePlane's generator, its upper 8 bits. Pillow rounds between its
// steps, six times in a blur.
TEST(RowsTest, AgreesWithPillow) {
  Plane in = MakePlane({12, 10}, 1);
  for (double& sample : in.samples) sample = std::floor(sample / 256) * 257;
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
       {124, 195, 151, 136, 72,  151, 159, 151, 124, 138, 98, 98,  104, 134, 182, 121, 87,  164, 105, 103, 97,
        200, 122, 149, 169, 125, 108, 120, 139, 135, 99,  87, 159, 96,  160, 81,  131, 138, 108, 156, 219, 126},
       1.1},
      {"resize((15, 7), LANCZOS)",
       resize({15, 7}),
       {58,  171, 199, 182, 211, 88,  158, 158, 92,  86,  39,  168, 180, 154, 169, 187, 132, 59,  134, 236, 127,
        89,  108, 125, 110, 63,  114, 145, 111, 99,  143, 221, 151, 80,  136, 54,  88,  135, 145, 131, 58,  32,
        144, 176, 80,  118, 216, 173, 58,  80,  122, 235, 194, 106, 122, 101, 166, 135, 54,  57,  209, 226, 115,
        106, 229, 119, 79,  151, 188, 135, 107, 59,  68,  152, 205, 165, 86,  82,  153, 136, 64,  59,  102, 107,
        120, 222, 138, 78,  142, 191, 138, 51,  93,  194, 153, 99,  179, 108, 76,  208, 145, 225, 216, 132, 83},
       1.1},
      {"Sharpness(1.8)",
       [](const Plane& p) { return Drain(SharpenRows(std::make_unique<PlaneRows>(p), 0.4).get()); },
       {61,  233, 156, 237, 12, 219, 92,  13,  17,  251, 249, 136, 115, 143, 146, 230, 224, 103, 125, 255, 85,  120, 0,   191,
        213, 66,  0,   255, 0,  119, 112, 0,   0,   187, 236, 21,  155, 255, 28,  181, 74,  61,  131, 228, 73,  4,   255, 160,
        97,  255, 116, 13,  24, 255, 151, 130, 3,   107, 5,   0,   177, 214, 0,   156, 217, 255, 59,  90,  191, 255, 142, 123,
        201, 255, 48,  255, 3,  38,  255, 210, 17,  0,   44,  211, 194, 7,   126, 236, 106, 76,  70,  0,   255, 15,  198, 179,
        112, 40,  141, 58,  0,  97,  119, 224, 250, 214, 7,   175, 149, 19,  190, 210, 144, 218, 14,  191, 111, 254, 233, 50},
       1.1},
      {"GaussianBlur(1), which the plain sharpening above uses",
       PlainBlur,
       {123, 155, 170, 164, 138, 130, 110, 86,  99,  149, 167, 158, 136, 145, 153, 159, 139, 125, 115, 102, 102, 126, 138, 136,
        155, 142, 134, 139, 123, 115, 113, 102, 95,  113, 126, 117, 162, 154, 129, 119, 113, 121, 124, 112, 97,  105, 118, 109,
        162, 161, 128, 112, 122, 142, 139, 122, 106, 106, 103, 93,  172, 161, 131, 125, 135, 147, 144, 129, 118, 115, 113, 115,
        174, 157, 136, 135, 126, 127, 138, 133, 119, 109, 122, 145, 150, 132, 129, 130, 112, 108, 122, 134, 138, 127, 134, 154,
        121, 111, 124, 128, 114, 111, 119, 144, 164, 161, 148, 142, 112, 105, 133, 148, 139, 129, 120, 145, 171, 184, 163, 127},
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
