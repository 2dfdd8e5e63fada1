// SimulateJpeg against libjpeg itself, over qualities, chroma samplings and odd sizes.
#include "models/train/samples/jpeg_simulation.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/unit/libjpeg_round_trip.h"

namespace nsic {
namespace {

using at::Tensor;

std::string Row(int width, int height, int quality, ChromaSampling sampling) {
  return std::to_string(width) + "x" + std::to_string(height) + " quality " + std::to_string(quality) +
         (sampling == ChromaSampling::k420 ? " 4:2:0" : " 4:4:4");
}

TEST(SimulateJpeg, EqualsLibjpegBitForBit) {
  const std::vector<std::pair<int, int>> sizes = {{96, 64}, {97, 63}, {33, 50}, {17, 16}, {16, 17}, {8, 8}, {5, 5}, {4, 7}, {3, 2}, {1, 1}};
  for (const auto& [width, height] : sizes) {
    const std::vector<uint8_t> rgb = MakePicture(width, height);
    for (int quality : {1, 5, 10, 20, 30, 40, 49, 50, 51, 60, 75, 85, 90, 95, 100}) {
      for (ChromaSampling sampling : {ChromaSampling::k444, ChromaSampling::k420}) {
        SCOPED_TRACE(Row(width, height, quality, sampling));
        const DecodedJpeg real = ThroughLibjpeg(rgb, width, height, quality, sampling);
        const Tensor simulated = SimulateJpeg(ToPlanes(rgb, width, height), torch::full({1}, quality, at::kLong), sampling);
        const Tensor difference = (simulated - ToPlanes(real.rgb, width, height)).abs();
        EXPECT_EQ(difference.max().item<double>(), 0);
      }
    }
  }
}

TEST(SimulateJpeg, UsesLibjpegsTables) {
  const std::vector<uint8_t> rgb = MakePicture(8, 8);
  for (int quality = 1; quality <= 100; ++quality) {
    const DecodedJpeg real = ThroughLibjpeg(rgb, 8, 8, quality, ChromaSampling::k444);
    const auto luminance = LuminanceTable(quality), chrominance = ChrominanceTable(quality);
    EXPECT_EQ(std::vector<int>(luminance.begin(), luminance.end()), real.luminance) << "quality " << quality;
    EXPECT_EQ(std::vector<int>(chrominance.begin(), chrominance.end()), real.chrominance) << "quality " << quality;
  }
}

TEST(SimulateJpeg, TreatsEachPictureOfABatchByItself) {
  const Tensor one = ToPlanes(MakePicture(32, 32), 32, 32);
  const Tensor two = one.flip(3).contiguous();
  for (ChromaSampling sampling : {ChromaSampling::k444, ChromaSampling::k420}) {
    const Tensor quality = torch::tensor({10, 85}, at::kLong);
    const Tensor both = SimulateJpeg(at::cat({one, two}), quality, sampling);
    EXPECT_TRUE(both.narrow(0, 0, 1).equal(SimulateJpeg(one, quality.narrow(0, 0, 1), sampling))) << Row(32, 32, 10, sampling);
    EXPECT_TRUE(both.narrow(0, 1, 1).equal(SimulateJpeg(two, quality.narrow(0, 1, 1), sampling))) << Row(32, 32, 85, sampling);
  }
}

}  // namespace
}  // namespace nsic
