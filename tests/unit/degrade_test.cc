// Every degradation against a reference of another kind: libjpeg, sums over pixels, statistics, the ffmpeg command line.
#include "models/train/samples/degrade.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/base/files.h"
#include "tests/unit/libjpeg_round_trip.h"

namespace nsic {
namespace {

using at::Tensor;
using at::indexing::Slice;

Tensor Picture(int width, int height) { return ToPlanes(MakePicture(width, height), width, height); }

// `count` times the same picture.
Tensor Copies(const Tensor& picture, int64_t count) { return picture.expand({count, -1, -1, -1}).contiguous(); }

std::vector<uint64_t> Seeds(size_t count, uint64_t first = 1) {
  std::vector<uint64_t> seeds;
  for (size_t i = 0; i < count; ++i) seeds.push_back(first + i);
  return seeds;
}

template <typename Kind>
Degradation Only(const Kind& kind) {
  Degradation degradation;
  degradation.steps.push_back({kind});
  return degradation;
}

JpegStep PlainJpeg(double quality, double halved_chroma) {
  JpegStep step;
  step.quality = {quality, quality};
  step.halved_chroma = halved_chroma;
  return step;
}

Tensor RealJpeg(const Tensor& rgb, int quality, ChromaSampling sampling) {
  const int width = static_cast<int>(rgb.size(3)), height = static_cast<int>(rgb.size(2));
  const Tensor bytes = rgb[0].permute({1, 2, 0}).to(at::kByte).contiguous();
  const std::vector<uint8_t> samples(bytes.data_ptr<uint8_t>(), bytes.data_ptr<uint8_t>() + bytes.numel());
  return ToPlanes(ThroughLibjpeg(samples, width, height, quality, sampling).rgb, width, height);
}

double Psnr(const Tensor& a, const Tensor& b) { return 10 * std::log10(255.0 * 255.0 / (a - b).square().mean().item<double>()); }

TEST(Degrade, CompressesAsLibjpegDoes) {
  const Tensor picture = Picture(64, 48);
  for (int quality : {5, 30, 95}) {
    EXPECT_TRUE(Degrade(picture, {1}, Only(PlainJpeg(quality, 1))).equal(RealJpeg(picture, quality, ChromaSampling::k420))) << quality;
    EXPECT_TRUE(Degrade(picture, {1}, Only(PlainJpeg(quality, 0))).equal(RealJpeg(picture, quality, ChromaSampling::k444))) << quality;
  }
}

TEST(Degrade, CompressesTwiceOffTheGridAsLibjpegDoes) {
  const Tensor picture = Picture(64, 48);
  struct Row {
    const char* name;
    int64_t shift;
    double halved;
  };
  for (const Row& row : {Row{"4:2:0 shift 4", 4, 1}, Row{"4:4:4 shift 3", 3, 0}, Row{"4:2:0 shift 7", 7, 1}, Row{"same grid", 0, 1}}) {
    const ChromaSampling sampling = row.halved == 1 ? ChromaSampling::k420 : ChromaSampling::k444;
    JpegStep step = PlainJpeg(30, row.halved);
    step.first_quality = {10, 10};
    step.shifted = 1;
    step.shift = {static_cast<double>(row.shift), static_cast<double>(row.shift)};
    const Tensor twice = Degrade(picture, {7}, Only(step));
    // The picture with its first row and column repeated, compressed, cropped, compressed again.
    const Tensor larger = at::replication_pad2d(picture, {row.shift, 0, row.shift, 0});
    const Tensor first = RealJpeg(larger, 10, sampling).slice(2, row.shift).slice(3, row.shift).contiguous();
    EXPECT_TRUE(twice.equal(RealJpeg(first, 30, sampling))) << row.name << ": " << (twice - RealJpeg(first, 30, sampling)).abs().max();
  }
}

TEST(Degrade, DrawsQualitiesShiftsAndSamplings) {
  JpegStep step;
  step.quality = {20, 23};
  const Tensor picture = Picture(32, 32);
  const Tensor results = Degrade(Copies(picture, 64), Seeds(64), Only(step));
  std::set<std::string> seen;
  for (int64_t n = 0; n < 64; ++n) {
    for (int quality = 20; quality <= 23; ++quality) {
      for (ChromaSampling sampling : {ChromaSampling::k420, ChromaSampling::k444}) {
        if (!results.narrow(0, n, 1).equal(RealJpeg(picture, quality, sampling))) continue;
        seen.insert(std::to_string(quality) + (sampling == ChromaSampling::k420 ? " 4:2:0" : " 4:4:4"));
      }
    }
  }
  EXPECT_EQ(seen.size(), 8u);
}

// Output sample i of `to` from `from` samples, as a sum over all inputs of the cubic filter with a = -0.5.
Tensor CubicResample(const Tensor& x, int64_t height, int64_t width) {
  const auto weights = [](int64_t from, int64_t to) {
    Tensor matrix = torch::zeros({to, from}, at::kDouble);
    const double step = static_cast<double>(from) / static_cast<double>(to), widen = std::max(step, 1.0);
    for (int64_t i = 0; i < to; ++i) {
      for (int64_t j = 0; j < from; ++j) {
        const double d = std::abs((static_cast<double>(j) + 0.5) - (static_cast<double>(i) + 0.5) * step) / widen;
        const double w = d < 1 ? 1.5 * d * d * d - 2.5 * d * d + 1 : d < 2 ? -0.5 * d * d * d + 2.5 * d * d - 4 * d + 2 : 0;
        matrix[i][j] = w;
      }
    }
    return matrix / matrix.sum(1, true);
  };
  const Tensor result = at::matmul(at::matmul(weights(x.size(2), height), x.to(at::kDouble)), weights(x.size(3), width).t());
  return result.add(0.5).floor().clamp(0.0, 255.0).to(at::kFloat);
}

TEST(Degrade, ResamplesThereAndBack) {
  const Tensor picture = Picture(60, 44);
  for (double scale : {0.5, 0.75, 1.3, 2.0}) {
    RescaleStep step;
    step.scale = {scale, scale};
    step.resampling = {Resampling::kCubic};
    const Tensor smaller = CubicResample(picture, std::llround(44 * scale), std::llround(60 * scale));
    const Tensor expected = CubicResample(smaller, 44, 60);
    // What lies within rounding of a half may go either way.
    const Tensor difference = (Degrade(picture, {3}, Only(step)) - expected).abs();
    EXPECT_LE(difference.max().item<double>(), 1) << scale;
    EXPECT_LT(difference.mean().item<double>(), 0.01) << scale;
  }
}

TEST(Degrade, ResamplesAsLibTorchDoes) {
  const Tensor picture = Picture(60, 44);
  RescaleStep step;
  step.scale = {0.5, 0.5};
  step.resampling = {Resampling::kTriangle};
  const auto whole = [](const Tensor& x) { return x.add(0.5).floor().clamp(0.0, 255.0); };
  const Tensor smaller = whole(at::_upsample_bilinear2d_aa(picture, {22, 30}, false));
  const Tensor expected = whole(at::_upsample_bilinear2d_aa(smaller, {44, 60}, false));
  EXPECT_LE((Degrade(picture, {3}, Only(step)) - expected).abs().max().item<double>(), 1);

  step.resampling = {Resampling::kBox};
  const Tensor blocks = whole(at::avg_pool2d(picture, 2));
  const Tensor boxes = at::repeat_interleave(at::repeat_interleave(blocks, 2, 2), 2, 3);
  EXPECT_TRUE(Degrade(picture, {3}, Only(step)).equal(boxes));
}

TEST(Degrade, CompressesAtAnotherSizeFirst) {
  const Tensor picture = Picture(64, 48);
  for (double scale : {0.5, 1.5}) {
    JpegStep step = PlainJpeg(30, 1);
    step.first_quality = {10, 10};
    step.resized = 1;
    step.scale = {scale, scale};
    step.resampling = {Resampling::kCubic};
    const Tensor other = CubicResample(picture, std::llround(48 * scale), std::llround(64 * scale));
    const Tensor back = CubicResample(RealJpeg(other, 10, ChromaSampling::k420), 48, 64);
    const Tensor expected = RealJpeg(back, 30, ChromaSampling::k420);
    // A sample that was rounded the other way can move a coefficient over a quantiser's edge.
    EXPECT_GT(Psnr(Degrade(picture, {3}, Only(step)), expected), 45) << scale;
  }
}

// The mean of each block over its pixels inside [top, bottom) x [left, right), blocks counted from (y0, x0).
Tensor NaiveMosaic(const Tensor& x, int64_t block, int64_t y0, int64_t x0, int64_t top, int64_t bottom, int64_t left, int64_t right) {
  Tensor out = x.clone();
  for (int64_t y = y0; y < bottom; y += block) {
    for (int64_t c = x0; c < right; c += block) {
      const Slice rows(std::max(y, top), std::min(y + block, bottom)), columns(std::max(c, left), std::min(c + block, right));
      const Tensor mean = x.index({Slice(), Slice(), rows, columns}).to(at::kDouble).mean({2, 3}, true).add(0.5).floor();
      out.index_put_({Slice(), Slice(), rows, columns}, mean.to(at::kFloat));
    }
  }
  return out;
}

TEST(Degrade, LaysMosaicsFromAnywhere) {
  const Tensor picture = Picture(41, 30);
  for (int64_t block : {2, 3, 8}) {
    MosaicStep step;
    step.block = {static_cast<double>(block), static_cast<double>(block)};
    const Tensor results = Degrade(Copies(picture, 24), Seeds(24), Only(step));
    std::set<std::pair<int64_t, int64_t>> seen;
    for (int64_t n = 0; n < results.size(0); ++n) {
      bool found = false;
      for (int64_t dy = 0; dy < block; ++dy) {
        for (int64_t dx = 0; dx < block; ++dx) {
          if (!results.narrow(0, n, 1).equal(NaiveMosaic(picture, block, -dy, -dx, 0, 30, 0, 41))) continue;
          found = true;
          seen.emplace(dy, dx);
        }
      }
      EXPECT_TRUE(found) << "block " << block << ", picture " << n;
    }
    EXPECT_GT(seen.size(), 2u) << "block " << block;
  }
}

TEST(Degrade, LaysMosaicsOverRegions) {
  const Tensor picture = Picture(64, 48);
  MosaicStep step;
  step.block = {4, 4};
  step.region = 1;
  const Tensor results = Degrade(Copies(picture, 16), Seeds(16), Only(step));
  std::set<int64_t> areas;
  for (int64_t n = 0; n < results.size(0); ++n) {
    // Of random samples hardly any equals its block's mean, so the changed ones show the rectangle.
    const Tensor changed = results[n].ne(picture[0]).any(0);
    const Tensor rows = changed.any(1).nonzero(), columns = changed.any(0).nonzero();
    const int64_t top = rows.min().item<int64_t>(), bottom = rows.max().item<int64_t>() + 1;
    const int64_t left = columns.min().item<int64_t>(), right = columns.max().item<int64_t>() + 1;
    EXPECT_TRUE(results.narrow(0, n, 1).equal(NaiveMosaic(picture, 4, top, left, top, bottom, left, right))) << "picture " << n;
    areas.insert((bottom - top) * (right - left));
  }
  EXPECT_GT(areas.size(), 10u);
}

TEST(Degrade, AddsGaussianNoise) {
  const Tensor grey = torch::full({1, 3, 200, 200}, 128.0);
  for (double sigma : {2.0, 12.0}) {
    GaussianNoiseStep step;
    step.sigma = {sigma, sigma};
    const Tensor noise = Degrade(Copies(grey, 2), Seeds(2), Only(step)) - 128;
    EXPECT_NEAR(noise.mean().item<double>(), 0, 0.05 * sigma);
    EXPECT_NEAR(noise.var(false).item<double>(), sigma * sigma + 1.0 / 12, 0.03 * sigma * sigma) << sigma;
    // Independent: of channels, of pictures.
    EXPECT_NEAR((noise[0][0] * noise[0][1]).mean().item<double>(), 0, 0.05 * sigma * sigma);
    EXPECT_NEAR((noise[0][0] * noise[1][0]).mean().item<double>(), 0, 0.05 * sigma * sigma);
    step.grey = 1;
    const Tensor same = Degrade(grey, {1}, Only(step));
    EXPECT_TRUE(same[0][0].equal(same[0][1]) && same[0][0].equal(same[0][2]));
  }
}

TEST(Degrade, AddsPhotonNoise) {
  for (double photons : {40.0, 1000.0}) {
    for (double level : {10.0, 60.0, 150.0}) {
      PoissonNoiseStep step;
      step.photons = {photons, photons};
      const Tensor noisy = Degrade(torch::full({1, 3, 200, 200}, level), {5}, Only(step));
      const double variance = level * 255 / photons;
      EXPECT_NEAR(noisy.mean().item<double>(), level, 0.02 * level) << photons << " " << level;
      EXPECT_NEAR(noisy.var(false).item<double>(), variance + 1.0 / 12, 0.04 * variance + 0.05) << photons << " " << level;
    }
  }
}

TEST(Degrade, Blurs) {
  const Tensor picture = Picture(40, 30);
  for (double sigma : {0.4, 1.0, 2.5}) {
    const int64_t radius = static_cast<int64_t>(std::ceil(4 * sigma));
    const Tensor d = at::arange(-radius, radius + 1, at::kDouble);
    Tensor kernel = (d.unsqueeze(0).square() + d.unsqueeze(1).square()).div(-2 * sigma * sigma).exp();
    kernel = kernel / kernel.sum();
    const Tensor padded = at::replication_pad2d(picture.to(at::kDouble), {radius, radius, radius, radius});
    const Tensor convolved = at::conv2d(padded.transpose(0, 1), kernel.view({1, 1, 2 * radius + 1, 2 * radius + 1})).transpose(0, 1);
    BlurStep step;
    step.sigma = {sigma, sigma};
    // Rounded to whole numbers.
    EXPECT_LE((Degrade(picture, {1}, Only(step)).to(at::kDouble) - convolved).abs().max().item<double>(), 0.501) << sigma;
  }
  BlurStep stretched;
  stretched.sigma = {0.5, 4};
  stretched.stretched = 1;
  Tensor dot = torch::zeros({8, 3, 41, 41});
  dot.index_put_({Slice(), Slice(), 20, 20}, 255.0);
  const Tensor spots = Degrade(dot, Seeds(8), Only(stretched));
  int64_t unequal = 0;
  for (int64_t n = 0; n < 8; ++n) unequal += !spots[n].equal(spots[n].transpose(1, 2));
  EXPECT_GT(unequal, 6);
}

// The picture through libx264 at a constant quantiser, one key frame, as the ffmpeg command line does it.
Tensor ThroughX264(const Tensor& rgb, int64_t quantiser) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / ("nsic-degrade-" + RandomHex(8));
  std::filesystem::create_directories(folder);
  const Tensor bytes = rgb[0].permute({1, 2, 0}).to(at::kByte).contiguous();
  EXPECT_TRUE(WriteFileAtomically(folder / "in.raw", std::string(reinterpret_cast<const char*>(bytes.data_ptr()), bytes.nbytes())).ok());
  const std::string size = std::to_string(rgb.size(3)) + "x" + std::to_string(rgb.size(2)), f = folder.string();
  const std::string encode = "ffmpeg -v error -y -f rawvideo -pix_fmt rgb24 -s " + size + " -i " + f + "/in.raw -c:v libx264 -qp " +
                             std::to_string(quantiser) +
                             " -x264-params ipratio=1 -sws_flags accurate_rnd+full_chroma_int -pix_fmt yuv420p " + f + "/v.mkv";
  const std::string decode =
      "ffmpeg -v error -y -i " + f + "/v.mkv -sws_flags accurate_rnd+full_chroma_int -f rawvideo -pix_fmt rgb24 " + f + "/out.raw";
  EXPECT_EQ(std::system((encode + " && " + decode).c_str()), 0);
  const std::string out = *ReadFile(folder / "out.raw");
  std::filesystem::remove_all(folder);
  return ToPlanes(std::vector<uint8_t>(out.begin(), out.end()), static_cast<int>(rgb.size(3)), static_cast<int>(rgb.size(2)));
}

TEST(Degrade, SpoilsAsMuchAsAVideoCodec) {
  // Shading, edges and a fine texture; the test picture's noise is nothing that video is made of.
  const Tensor y = at::arange(160, at::kFloat).view({1, 160, 1}), x = at::arange(192, at::kFloat).view({1, 1, 192});
  const Tensor phase = at::arange(3, at::kFloat).view({3, 1, 1});
  Tensor picture = (x * 0.11 + phase).sin() * (y * 0.07).cos() * 50 + (x * 0.9 + y * 0.5).sin() * 12 + 120;
  picture = picture + ((x / 23).floor() + (y / 17).floor()).remainder(2.0) * 45;
  picture = picture.round().clamp(0.0, 255.0).unsqueeze(0).contiguous();
  double before = 100;
  for (int64_t quantiser : {18, 24, 30, 36, 42}) {
    VideoStep step;
    step.quantiser = {static_cast<double>(quantiser), static_cast<double>(quantiser)};
    step.block = {16, 16};
    step.adaptive = {0, 0};
    const Tensor simulated = Degrade(picture, {1}, Only(step));
    const Tensor real = ThroughX264(picture, quantiser);
    const auto luma = [](const Tensor& rgb) { return rgb.select(1, 0) * 0.299 + rgb.select(1, 1) * 0.587 + rgb.select(1, 2) * 0.114; };
    const double ours = Psnr(luma(simulated), luma(picture)), theirs = Psnr(luma(real), luma(picture));
    EXPECT_NEAR(ours, theirs, 0.5) << "quantiser " << quantiser;
    EXPECT_LT(ours, before) << "quantiser " << quantiser;
    before = ours;
  }
}

TEST(Degrade, KeepsOddSizesAndWholeNumbers) {
  Degradation all;
  all.shuffled = true;
  JpegStep jpeg;
  jpeg.shifted = jpeg.resized = 0.4;
  all.steps = {{jpeg}, {MosaicStep()}, {GaussianNoiseStep()}, {PoissonNoiseStep()}, {BlurStep()}, {RescaleStep()}, {VideoStep()}};
  const std::vector<std::pair<int, int>> sizes = {{33, 17}, {16, 16}, {11, 40}, {1, 1}};
  for (const auto& [width, height] : sizes) {
    const Tensor picture = Picture(width, height), result = Degrade(Copies(picture, 6), Seeds(6), all);
    EXPECT_EQ(result.sizes(), at::IntArrayRef({6, 3, height, width}));
    EXPECT_TRUE(result.equal(result.round().clamp(0.0, 255.0))) << width << "x" << height;
  }
}

TEST(Degrade, DependsOnThePictureAndItsSeedOnly) {
  Degradation all;
  all.shuffled = true;
  JpegStep jpeg;
  jpeg.shifted = jpeg.resized = 0.4;
  MosaicStep mosaic;
  mosaic.region = 0.5;
  all.steps = {{jpeg, 0.8},       {mosaic, 0.5},        {GaussianNoiseStep(), 0.5}, {PoissonNoiseStep(), 0.5},
               {BlurStep(), 0.5}, {RescaleStep(), 0.5}, {VideoStep(), 0.5}};
  const Tensor pictures = at::cat({Picture(48, 48), Picture(48, 48).flip(3), Picture(48, 48).flip(2)}).repeat({4, 1, 1, 1});
  const Tensor together = Degrade(pictures, Seeds(12), all);
  EXPECT_TRUE(together.equal(Degrade(pictures, Seeds(12), all)));
  for (int64_t n = 0; n < 12; ++n) {
    EXPECT_TRUE(together.narrow(0, n, 1).equal(Degrade(pictures.narrow(0, n, 1), {static_cast<uint64_t>(n + 1)}, all))) << n;
  }
  EXPECT_FALSE(together.equal(Degrade(pictures, Seeds(12, 100), all)));
}

TEST(Degrade, TakesSharesAndOrders) {
  const Tensor picture = Picture(32, 32);
  BlurStep blur;
  blur.sigma = {1.5, 1.5};
  const Degradation jpeg_only = Only(PlainJpeg(20, 0)), blur_only = Only(blur);
  const Tensor jpeg = Degrade(picture, {1}, jpeg_only), blurred = Degrade(picture, {1}, blur_only);
  const Tensor jpeg_first = Degrade(jpeg, {1}, blur_only), blur_first = Degrade(blurred, {1}, jpeg_only);
  struct Row {
    const char* name;
    double clean, jpeg_share, blur_share;
    bool shuffled;
    double untouched, jpeg, blurred, jpeg_first, blur_first;  // expected shares
  };
  const std::vector<Row> rows = {
      {"as listed", 0, 1, 1, false, 0, 0, 0, 1, 0},
      {"shuffled", 0, 1, 1, true, 0, 0, 0, 0.5, 0.5},
      {"shares", 0, 0.5, 0.25, false, 0.375, 0.375, 0.125, 0.125, 0},
      {"clean", 0.25, 1, 1, false, 0.25, 0, 0, 0.75, 0},
      {"never", 0, 0, 0, true, 1, 0, 0, 0, 0},
  };
  constexpr int64_t kCount = 400;
  for (const Row& row : rows) {
    Degradation degradation;
    degradation.clean = row.clean;
    degradation.shuffled = row.shuffled;
    degradation.steps = {{PlainJpeg(20, 0), row.jpeg_share}, {blur, row.blur_share}};
    const Tensor results = Degrade(Copies(picture, kCount), Seeds(kCount), degradation);
    const auto expect_share = [&](const char* what, const Tensor& expected, double share) {
      const int64_t count = results.eq(expected).view({kCount, -1}).all(1).sum().item<int64_t>();
      EXPECT_NEAR(static_cast<double>(count) / kCount, share, share == 0 || share == 1 ? 0 : 0.07) << row.name << ", " << what;
    };
    expect_share("untouched", picture, row.untouched);
    expect_share("jpeg", jpeg, row.jpeg);
    expect_share("blurred", blurred, row.blurred);
    expect_share("jpeg first", jpeg_first, row.jpeg_first);
    expect_share("blur first", blur_first, row.blur_first);
  }
}

}  // namespace
}  // namespace nsic
