// Frames to the network's colours and back, against formulas in double precision.
extern "C" {
#include <libavutil/frame.h>
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
}

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/media/convert_frame.h"
#include "core/media/rows.h"

namespace nsic {
namespace {

using testing::HasSubstr;
using Sampler = std::function<int(int component, int x, int y)>;

const AVPixFmtDescriptor& Descriptor(const std::string& format) { return *av_pix_fmt_desc_get(av_get_pix_fmt(format.c_str())); }

Size PlaneSize(const AVPixFmtDescriptor& format, Size size, int component) {
  if (component == 0 || (format.flags & AV_PIX_FMT_FLAG_RGB) != 0) return size;
  return {AV_CEIL_RSHIFT(size.width, format.log2_chroma_w), AV_CEIL_RSHIFT(size.height, format.log2_chroma_h)};
}

VideoFrame MakeFrame(const std::string& format, Size size, const Sampler& sampler) {
  AVFrame* const frame = av_frame_alloc();
  frame->format = av_get_pix_fmt(format.c_str());
  frame->width = size.width;
  frame->height = size.height;
  EXPECT_GE(av_frame_get_buffer(frame, 0), 0);
  for (const AVBufferRef* const buffer : frame->buf) {
    if (buffer != nullptr) std::memset(buffer->data, 0, buffer->size);
  }
  const AVPixFmtDescriptor& descriptor = Descriptor(format);
  for (int c = 0; c < descriptor.nb_components; ++c) {
    const Size plane = PlaneSize(descriptor, size, c);
    std::vector<uint16_t> row(static_cast<size_t>(plane.width));
    for (int y = 0; y < plane.height; ++y) {
      for (int x = 0; x < plane.width; ++x) row[static_cast<size_t>(x)] = static_cast<uint16_t>(sampler(c, x, y));
      av_write_image_line2(row.data(), frame->data, frame->linesize, &descriptor, 0, y, c, plane.width, 2);
    }
  }
  return VideoFrame(std::shared_ptr<const AVFrame>(frame, [](AVFrame* f) { av_frame_free(&f); }));
}

int Sample(const VideoFrame& frame, int component, int x, int y) {
  const AVPixFmtDescriptor& descriptor = *av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.get()->format));
  const uint8_t* planes[4] = {frame.get()->data[0], frame.get()->data[1], frame.get()->data[2], frame.get()->data[3]};
  uint16_t sample = 0;
  av_read_image_line2(&sample, planes, frame.get()->linesize, &descriptor, x, y, component, 1, 0, 2);
  return sample;
}

VideoInfo Info(const std::string& format, Size size, int matrix = 1, bool full_range = false, int location = 0) {
  VideoInfo info;
  info.size = size;
  info.pixel_format = format;
  info.colour.matrix = matrix;
  info.colour.full_range = full_range;
  info.colour.chroma_location = location;
  return info;
}

EncodePlan Plan(const std::string& format, Size size) {
  EncodePlan plan;
  plan.size = size;
  plan.pixel_format = format;
  return plan;
}

std::vector<float> Rgb(FrameConverter& converter, const VideoFrame& frame) {
  std::vector<float> rgb(static_cast<size_t>(frame.size().area()) * 3);
  const Status status = converter.ToRgb(frame, rgb.data());
  EXPECT_TRUE(status.ok()) << status;
  return rgb;
}

// H.273's equations.
struct Reference {
  double kr, kb;
  int depth;
  bool full;
  double luma_scale() const { return full ? (1 << depth) - 1 : 219 << (depth - 8); }
  double luma_offset() const { return full ? 0 : 16 << (depth - 8); }
  double chroma_scale() const { return full ? (1 << depth) - 1 : 224 << (depth - 8); }
  double chroma_offset() const { return 1 << (depth - 1); }
  std::array<double, 3> ToYuv(const std::array<double, 3>& rgb) const {
    const double y = kr * rgb[0] + (1 - kr - kb) * rgb[1] + kb * rgb[2];
    const double cb = (rgb[2] - y) / (2 * (1 - kb)), cr = (rgb[0] - y) / (2 * (1 - kr));
    return {luma_offset() + luma_scale() * y, chroma_offset() + chroma_scale() * cb, chroma_offset() + chroma_scale() * cr};
  }
};

Reference ReferenceOf(int matrix, int depth, bool full) {
  if (matrix == 1) return {0.2126, 0.0722, depth, full};
  if (matrix == 9) return {0.2627, 0.0593, depth, full};
  return {0.299, 0.114, depth, full};
}

TEST(ConvertFrame, AnIdentityNetworkGivesBackEverySample) {
  const std::array<const char*, 24> formats = {"yuv420p",     "yuv422p",     "yuv444p",     "yuv440p",     "yuv411p",     "yuv410p",
                                               "yuvj420p",    "yuvj444p",    "yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le",
                                               "yuv444p12le", "yuv420p16le", "gray",        "gray10le",    "gbrp",        "gbrp10le",
                                               "nv12",        "p010le",      "bgr0",        "rgb24",       "yuyv422",     "yuv420p10be"};
  const std::array<Size, 6> sizes = {{{64, 48}, {853, 47}, {85, 479}, {1, 1}, {2, 3}, {1500, 16}}};
  for (const char* const format : formats) {
    const int most = (1 << Descriptor(format).comp[0].depth) - 1;
    for (const Size size : sizes) {
      for (const bool full : {false, true}) {
        for (const int matrix : {1, 2, 5, 8, 9}) {
          std::mt19937 random(7);
          // Noise over all codes, saturated stripes, and flat extremes.
          const std::array<Sampler, 3> patterns = {[&](int, int, int) { return static_cast<int>(random() & static_cast<unsigned>(most)); },
                                                   [&](int c, int x, int y) { return (x / 2 + y / 3 + c) % 2 * most; },
                                                   [&](int c, int, int) { return c == 1 ? most : 0; }};
          for (size_t i = 0; i < patterns.size(); ++i) {
            SCOPED_TRACE(std::string(format) + " " + std::to_string(size.width) + "x" + std::to_string(size.height) + " matrix " +
                         std::to_string(matrix) + (full ? " full" : " limited") + " pattern " + std::to_string(i));
            const VideoFrame frame = MakeFrame(format, size, patterns[i]);
            auto converter = FrameConverter::Make(Info(format, size, matrix, full), Plan(format, size), {});
            ASSERT_TRUE(converter.ok()) << converter.status();
            const std::vector<float> rgb = Rgb(**converter, frame);
            const auto [least, greatest] = std::minmax_element(rgb.begin(), rgb.end());
            ASSERT_GE(*least, 0);
            ASSERT_LE(*greatest, 1);
            const Result<VideoFrame> out = (*converter)->Finish(frame, rgb.data(), rgb.data());
            ASSERT_TRUE(out.ok()) << out.status();
            ASSERT_TRUE(out->SamePixels(frame));
            if (size.area() > 10'000) break;  // the patterns differ in values, not in layout
          }
        }
      }
    }
  }
}

TEST(ConvertFrame, ColoursAreThoseOfTheStandard) {
  const std::array<std::array<double, 3>, 6> colours = {
      {{0.5, 0.5, 0.5}, {0.9, 0.1, 0.2}, {0.1, 0.8, 0.3}, {0.2, 0.1, 0.9}, {1, 1, 1}, {0, 0, 0}}};
  constexpr Size kSize = {32, 24};
  for (const char* const format : {"yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p12le"}) {
    for (const int matrix : {1, 5, 6, 9}) {
      for (const bool full : {false, true}) {
        const int depth = Descriptor(format).comp[0].depth;
        const Reference reference = ReferenceOf(matrix, depth, full);
        auto converter = FrameConverter::Make(Info(format, kSize, matrix, full), Plan(format, kSize), {});
        ASSERT_TRUE(converter.ok()) << converter.status();
        for (const auto& colour : colours) {
          SCOPED_TRACE(std::string(format) + " matrix " + std::to_string(matrix) + (full ? " full " : " limited ") +
                       std::to_string(colour[0]) + "," + std::to_string(colour[1]) + "," + std::to_string(colour[2]));
          const auto yuv = reference.ToYuv(colour);
          const int most = (1 << depth) - 1;
          const auto code = [&](int c) { return std::clamp(static_cast<int>(std::lround(yuv[static_cast<size_t>(c)])), 0, most); };
          const VideoFrame frame = MakeFrame(format, kSize, [&](int c, int, int) { return code(c); });
          const std::vector<float> rgb = Rgb(**converter, frame);
          const size_t area = static_cast<size_t>(kSize.area());
          // Codes are whole numbers: RGB is only as near as they are.
          for (size_t c = 0; c < 3; ++c) ASSERT_NEAR(rgb[c * area + 100], colour[c], 2.2 / (219 << (depth - 8))) << "channel " << c;

          // From any colour to any other through the change.
          for (const auto& to : colours) {
            std::vector<float> after(rgb.size());
            for (size_t i = 0; i < after.size(); ++i) after[i] = static_cast<float>(to[i / area]);
            const Result<VideoFrame> out = (*converter)->Finish(frame, rgb.data(), after.data());
            ASSERT_TRUE(out.ok()) << out.status();
            const auto expected = reference.ToYuv(to);
            for (int c = 0; c < 3; ++c) {
              // The source's codes were rounded, and so is the sum.
              ASSERT_NEAR(Sample(*out, c, 7, 5), std::clamp<double>(expected[static_cast<size_t>(c)], 0, most), 1.01) << "component " << c;
            }
          }
        }
      }
    }
  }
}

TEST(ConvertFrame, UnspecifiedMatrixIsTakenAsPlayersDo) {
  const struct {
    Size size;
    int matrix;
  } rows[] = {{{1278, 718}, 6}, {{1280, 16}, 1}, {{16, 720}, 1}, {{720, 576}, 6}};
  for (const auto& row : rows) {
    SCOPED_TRACE(std::to_string(row.size.width) + "x" + std::to_string(row.size.height));
    const VideoFrame frame = MakeFrame("yuv420p", row.size, [](int c, int, int) { return c == 0 ? 100 : c == 1 ? 90 : 200; });
    auto unspecified = FrameConverter::Make(Info("yuv420p", row.size, 2), Plan("yuv420p", row.size), {});
    auto named = FrameConverter::Make(Info("yuv420p", row.size, row.matrix), Plan("yuv420p", row.size), {});
    ASSERT_TRUE(unspecified.ok() && named.ok());
    EXPECT_EQ(Rgb(**unspecified, frame), Rgb(**named, frame));
  }
}

TEST(ConvertFrame, ChromaStandsWhereItsLocationSays) {
  // Cr rises by 2 a chroma sample, so that the interpolated value tells where a chroma sample is thought to be.
  constexpr Size kSize = {64, 64};
  const struct {
    int location;
    double x, y;  // of chroma sample 0, in luma pixels
  } rows[] = {
      {AVCHROMA_LOC_UNSPECIFIED, 0, 0.5}, {AVCHROMA_LOC_LEFT, 0, 0.5}, {AVCHROMA_LOC_CENTER, 0.5, 0.5}, {AVCHROMA_LOC_TOPLEFT, 0, 0}};
  for (const auto& row : rows) {
    for (const bool across : {true, false}) {
      SCOPED_TRACE("location " + std::to_string(row.location) + (across ? " across" : " down"));
      const VideoFrame frame = MakeFrame("yuv420p", kSize, [&](int c, int x, int y) { return c < 2 ? 128 : 96 + 2 * (across ? x : y); });
      auto converter = FrameConverter::Make(Info("yuv420p", kSize, 1, true, row.location), Plan("yuv420p", kSize), {});
      ASSERT_TRUE(converter.ok()) << converter.status();
      const std::vector<float> rgb = Rgb(**converter, frame);
      for (const int at : {20, 21, 30, 41}) {
        const double chroma = 96 + 2 * (at - (across ? row.x : row.y)) / 2 - 128;
        const double red = 128 / 255.0 + chroma / 255.0 * 2 * (1 - 0.2126);
        const size_t index = across ? size_t{32} * 64 + static_cast<size_t>(at) : static_cast<size_t>(at) * 64 + 32;
        EXPECT_NEAR(rgb[index], red, 1e-4) << at;
      }
    }
  }
}

TEST(ConvertFrame, ChangedChromaIsSampledWhereItStands) {
  // A change of red that rises evenly across gives a change of Cr that rises evenly, wherever chroma stands.
  constexpr Size kSize = {64, 16};
  for (const int location : {AVCHROMA_LOC_LEFT, AVCHROMA_LOC_CENTER}) {
    SCOPED_TRACE(location);
    const VideoFrame frame = MakeFrame("yuv420p10le", kSize, [](int, int, int) { return 512; });
    auto converter = FrameConverter::Make(Info("yuv420p10le", kSize, 1, true, location), Plan("yuv420p10le", kSize), {});
    ASSERT_TRUE(converter.ok()) << converter.status();
    const std::vector<float> before = Rgb(**converter, frame);
    std::vector<float> after = before;
    for (int y = 0; y < kSize.height; ++y) {
      for (int x = 0; x < kSize.width; ++x) after[static_cast<size_t>(y * kSize.width + x)] += static_cast<float>(x) / 255;
    }
    const Result<VideoFrame> out = (*converter)->Finish(frame, before.data(), after.data());
    ASSERT_TRUE(out.ok()) << out.status();
    for (const int at : {5, 10, 20}) {
      const double x = 2 * at + (location == AVCHROMA_LOC_CENTER ? 0.5 : 0);
      EXPECT_NEAR(Sample(*out, 2, at, 4), 512 + x / 255 * 0.5 * 1023, 0.51) << at;
    }
  }
}

TEST(ConvertFrame, OtherDepthsChromaAndFamilies) {
  constexpr Size kSize = {34, 18};
  const auto finish = [&](const VideoInfo& info, const std::string& to, const VideoFrame& frame) {
    auto converter = FrameConverter::Make(info, Plan(to, kSize), {});
    EXPECT_TRUE(converter.ok()) << converter.status();
    const std::vector<float> rgb = Rgb(**converter, frame);
    Result<VideoFrame> out = (*converter)->Finish(frame, rgb.data(), rgb.data());
    EXPECT_TRUE(out.ok()) << out.status();
    return *out;
  };
  const auto noise = [](int c, int x, int y) { return 16 + (c * 37 + x * 11 + y * 29) % 200; };

  VideoFrame frame = MakeFrame("yuv420p", kSize, noise);
  VideoFrame out = finish(Info("yuv420p", kSize), "yuv420p10le", frame);
  for (int c = 0; c < 3; ++c) EXPECT_EQ(Sample(out, c, 5, 3), 4 * noise(c, 5, 3)) << "limited range keeps its bits";
  out = finish(Info("yuv420p", kSize, 1, true), "yuv420p10le", frame);
  EXPECT_EQ(Sample(out, 0, 5, 3), std::lround(noise(0, 5, 3) * 1023 / 255.0));

  out = finish(Info("yuv420p", kSize), "yuv444p", frame);
  EXPECT_EQ(Sample(out, 0, 33, 17), noise(0, 33, 17)) << "luma is not touched";

  const VideoFrame deep = MakeFrame("yuv422p10le", kSize, [](int c, int x, int y) { return 64 + (c * 137 + x * 31 + y * 57) % 800; });
  out = finish(Info("yuv422p10le", kSize), "yuv420p", deep);
  EXPECT_EQ(Sample(out, 0, 9, 9), (Sample(deep, 0, 9, 9) + 2) / 4);

  const VideoFrame grey = MakeFrame("gray", kSize, noise);
  out = finish(Info("gray", kSize), "yuv420p", grey);
  EXPECT_EQ(Sample(out, 0, 9, 9), noise(0, 9, 9));
  EXPECT_EQ(Sample(out, 1, 4, 4), 128);
  EXPECT_EQ(Sample(out, 2, 4, 4), 128);

  const VideoFrame red = MakeFrame("gbrp", kSize, [](int c, int, int) { return c == 0 ? 255 : 0; });
  out = finish(Info("gbrp", kSize, 0), "yuv444p", red);
  const auto yuv = ReferenceOf(6, 8, false).ToYuv({1, 0, 0});
  for (int c = 0; c < 3; ++c) EXPECT_NEAR(Sample(out, c, 9, 9), yuv[static_cast<size_t>(c)], 0.51);
  EXPECT_EQ(OutputColour(Info("gbrp", kSize, 0), Plan("yuv444p", kSize)).matrix, 6);
  EXPECT_FALSE(OutputColour(Info("gbrp", kSize, 0), Plan("yuv444p", kSize)).full_range);

  const VideoFrame packed = MakeFrame("rgb24", kSize, noise);
  out = finish(Info("rgb24", kSize, 0), "bgr0", packed);
  for (int c = 0; c < 3; ++c) EXPECT_EQ(Sample(out, c, 33, 17), noise(c, 33, 17));
}

TEST(ConvertFrame, StrengthAndSharpening) {
  constexpr Size kSize = {40, 30};
  const VideoInfo info = Info("yuv444p", kSize, 1, true);
  const VideoFrame frame = MakeFrame("yuv444p", kSize, [](int c, int x, int) { return c > 0 ? 128 : x < 20 ? 80 : 160; });
  const auto finish = [&](const FrameOptions& options, float change) {
    auto converter = FrameConverter::Make(info, Plan("yuv444p", kSize), options);
    EXPECT_TRUE(converter.ok()) << converter.status();
    const std::vector<float> before = Rgb(**converter, frame);
    std::vector<float> after = before;
    for (float& sample : after) sample += change;
    Result<VideoFrame> out = (*converter)->Finish(frame, before.data(), after.data());
    EXPECT_TRUE(out.ok()) << out.status();
    return *out;
  };
  EXPECT_TRUE(finish({0, 0, 1}, 0.3f).SamePixels(frame));
  EXPECT_EQ(Sample(finish({1, 0, 1}, 0.2f), 0, 5, 5), 80 + 51);
  EXPECT_EQ(Sample(finish({0.5, 0, 1}, 0.2f), 0, 5, 5), 80 + 26);  // 25.5, halves up
  EXPECT_TRUE(finish({0.5, 0, 1}, 0).SamePixels(frame));

  // A step from 80 to 160: its dark side at 3x3 smoothing is 80 + 3 * 80 / 13.
  const double smooth = 80 + 3 * 80 / 13.0;
  VideoFrame out = finish({1, 0.5, 1}, 0);
  EXPECT_EQ(Sample(out, 0, 5, 5), 80);
  EXPECT_NEAR(Sample(out, 0, 19, 5), smooth + 2 * (80 - smooth), 0.51);
  EXPECT_EQ(Sample(out, 0, 19, 0), 80) << "the border is left alone";
  // With strength: half of the change, then sharpened.
  out = finish({0.5, 0.5, 1}, 0.2f);
  EXPECT_NEAR(Sample(out, 0, 19, 5), 25.5 + smooth + 2 * (80 - smooth), 0.51);
  // More than a half adds an unsharp mask; what pictures get is the reference.
  class Steps : public RowSource {
   public:
    Steps() : RowSource(kSize, 1) {}
    Status Next(float* row) override {
      for (int x = 0; x < kSize.width; ++x) row[x] = (x < 20 ? 80 : 160) * 257.0f;
      return OkStatus();
    }
  };
  const auto rows = SharpenRows(std::make_unique<Steps>(), 0.9);
  std::vector<float> row(40);
  for (int y = 0; y < 6; ++y) ASSERT_TRUE(rows->Next(row.data()).ok());
  out = finish({1, 0.9, 1}, 0);
  for (int x = 0; x < 40; ++x) EXPECT_NEAR(Sample(out, 0, x, 5), row[static_cast<size_t>(x)] / 257, 0.51) << x;
}

TEST(ConvertFrame, OtherSizes) {
  const struct {
    Size source, plan;
    int scale;
    double strength;
  } rows[] = {{{64, 48}, {128, 96}, 2, 1},     {{64, 48}, {64, 48}, 2, 0.5}, {{65, 47}, {130, 94}, 2, 0.7}, {{64, 48}, {32, 24}, 1, 1},
              {{853, 479}, {1706, 958}, 1, 1}, {{33, 31}, {77, 51}, 4, 0.2}, {{64, 48}, {33, 17}, 1, 0.5}};
  for (const auto& row : rows) {
    for (const char* const format : {"yuv420p", "yuv444p10le", "gray", "gbrp"}) {
      SCOPED_TRACE(std::string(format) + " to " + std::to_string(row.plan.width) + "x" + std::to_string(row.plan.height));
      const int depth = Descriptor(format).comp[0].depth;
      const auto colour = [depth](int c, int, int) { return (c == 0 ? 120 : c == 1 ? 90 : 170) << (depth - 8); };
      const VideoFrame frame = MakeFrame(format, row.source, colour);
      FrameOptions options;
      options.network_scale = row.scale;
      options.strength = row.strength;
      options.sharpen = 0.6;
      auto converter = FrameConverter::Make(Info(format, row.source), Plan(format, row.plan), options);
      ASSERT_TRUE(converter.ok()) << converter.status();
      const std::vector<float> before = Rgb(**converter, frame);
      const size_t area = static_cast<size_t>(row.source.area()) * static_cast<size_t>(row.scale * row.scale);
      std::vector<float> after(3 * area);
      for (size_t i = 0; i < after.size(); ++i) after[i] = before[i / area * static_cast<size_t>(row.source.area())];
      const Result<VideoFrame> out = (*converter)->Finish(frame, before.data(), after.data());
      ASSERT_TRUE(out.ok()) << out.status();
      ASSERT_EQ(out->size(), row.plan);
      const AVPixFmtDescriptor& descriptor = Descriptor(format);
      for (int c = 0; c < descriptor.nb_components; ++c) {
        const Size plane = PlaneSize(descriptor, row.plan, c);
        for (const auto& [x, y] : {std::pair(0, 0), std::pair(plane.width - 1, plane.height - 1), std::pair(plane.width / 2, 3)}) {
          EXPECT_NEAR(Sample(*out, c, x, y), colour(c, x, y), 1) << "component " << c;
        }
      }
    }
  }
  // A guess that players make by size must not change with it.
  EXPECT_EQ(OutputColour(Info("yuv420p", {640, 480}, 2), Plan("yuv420p", {640, 480})).matrix, 2);
  EXPECT_EQ(OutputColour(Info("yuv420p", {640, 480}, 2), Plan("yuv420p", {1280, 960})).matrix, 6);
}

TEST(ConvertFrame, TheSameFrameGivesTheSameBits) {
  constexpr Size kSize = {321, 181};
  std::mt19937 random(3);
  const VideoFrame frame = MakeFrame("yuv420p", kSize, [&](int, int, int) { return static_cast<int>(random() % 256); });
  const VideoFrame other = MakeFrame("yuv420p", kSize, [&](int, int, int) { return static_cast<int>(random() % 256); });
  FrameOptions options;
  options.strength = 0.8;
  options.sharpen = 0.3;
  const auto run = [&](bool busy_before) {
    auto converter = FrameConverter::Make(Info("yuv420p", kSize), Plan("yuv420p", kSize), options);
    EXPECT_TRUE(converter.ok());
    const auto restore = [&](const VideoFrame& in) {
      const std::vector<float> before = Rgb(**converter, in);
      std::vector<float> after = before;
      for (size_t i = 0; i < after.size(); ++i) after[i] = std::sqrt(after[i]);
      return *(*converter)->Finish(in, before.data(), after.data());
    };
    if (busy_before) (void)restore(other);
    return restore(frame);
  };
  EXPECT_TRUE(run(false).SamePixels(run(true)));
  EXPECT_FALSE(run(false).SamePixels(frame));
}

TEST(ConvertFrame, RefusesByName) {
  constexpr Size kSize = {16, 16};
  const struct {
    const char* format;
    int matrix;
    const char* message;
  } rows[] = {{"yuva420p", 1, "yuva420p is not handled (transparency)"},
              {"pal8", 1, "pal8"},
              {"gbrpf32le", 0, "floating point"},
              {"bayer_rggb8", 1, "mosaic"},
              {"vaapi", 1, "not in memory"},
              {"monow", 1, "less than a byte"},
              {"xyz12le", 1, "CIE XYZ"},
              {"yuv420p", 10, "bt2020c"},
              {"yuv420p", 14, "ictcp"},
              {"nonsense", 1, "\"nonsense\" is not known"},
              {"rgb565le", 1, "rgb565le"}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.format);
    const auto converter = FrameConverter::Make(Info(row.format, kSize, row.matrix), Plan("yuv420p", kSize), {});
    ASSERT_FALSE(converter.ok());
    EXPECT_EQ(converter.status().code(), StatusCode::kUnimplemented);
    EXPECT_THAT(converter.status().message(), HasSubstr(row.message));
    EXPECT_EQ(CheckPixelFormat(row.format, row.matrix).code(), StatusCode::kUnimplemented);
  }
  auto converter = FrameConverter::Make(Info("yuv420p", kSize), Plan("yuv420p", kSize), {});
  ASSERT_TRUE(converter.ok());
  std::vector<float> rgb(3 * 16 * 18);
  const Sampler flat = [](int, int, int) { return 128; };
  EXPECT_EQ((*converter)->ToRgb(MakeFrame("yuv420p", {16, 18}, flat), rgb.data()).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ((*converter)->ToRgb(MakeFrame("yuv422p", kSize, flat), rgb.data()).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ((*converter)->ToRgb(VideoFrame(), rgb.data()).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(FrameConverter::Make(Info("yuv420p", kSize), Plan("yuv420p", kSize), {1.5, 0, 1}).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace nsic
