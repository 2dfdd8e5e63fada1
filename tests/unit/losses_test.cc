// Each term of the loss against its definition, written out in loops or known from elsewhere, and the curve that shows it.
#include "models/train/fit/losses.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <complex>

#include "models/train/fit/curve.h"

namespace nsic {
namespace {

using at::Tensor;
using testing::HasSubstr;
using testing::Not;

class LossTest : public testing::Test {
 protected:
  LossTest() {
    torch::manual_seed(3);
    target_ = torch::rand({2, 3, 16, 14});
    output_ = (target_ + torch::randn({2, 3, 16, 14}) * 0.1).requires_grad_();
    output_.data()[1] = target_[1];  // the second picture is perfect
  }

  double Of(const LossWeights& weights, int64_t picture) const { return Loss(output_, target_, weights)[picture].item<double>(); }
  double At(const Tensor& x, int64_t c, int64_t row, int64_t column) const { return x[0][c][row][column].item<double>(); }

  Tensor target_;
  Tensor output_;
};

TEST_F(LossTest, MeanErrors) {
  double squares = 0, round = 0;
  for (int64_t c = 0; c < 3; ++c) {
    for (int64_t y = 0; y < 16; ++y) {
      for (int64_t x = 0; x < 14; ++x) {
        const double d = At(output_, c, y, x) - At(target_, c, y, x);
        squares += d * d / (3 * 16 * 14);
        round += std::sqrt(d * d + 1e-6) / (3 * 16 * 14);
      }
    }
  }
  LossWeights log_mse, charbonnier;
  log_mse.log_mse = 1;
  charbonnier.charbonnier = 1;
  EXPECT_NEAR(Of(log_mse, 0), std::log(squares + 1e-4), 1e-5);
  EXPECT_NEAR(Of(log_mse, 1), std::log(1e-4), 1e-5);
  EXPECT_NEAR(Of(charbonnier, 0), round, 1e-6);
  EXPECT_NEAR(Of(charbonnier, 1), 1e-3, 1e-6);
}

TEST_F(LossTest, Ssim) {
  double window[11][11], sum = 0;
  for (int i = 0; i < 11; ++i) {
    for (int j = 0; j < 11; ++j) sum += window[i][j] = std::exp(-((i - 5) * (i - 5) + (j - 5) * (j - 5)) / (2 * 1.5 * 1.5));
  }
  double mean = 0;
  int count = 0;
  for (int64_t c = 0; c < 3; ++c) {
    for (int64_t y = 0; y + 11 <= 16; ++y) {
      for (int64_t x = 0; x + 11 <= 14; ++x, ++count) {
        double a = 0, b = 0, aa = 0, bb = 0, ab = 0;
        for (int i = 0; i < 11; ++i) {
          for (int j = 0; j < 11; ++j) {
            const double w = window[i][j] / sum, p = At(output_, c, y + i, x + j), q = At(target_, c, y + i, x + j);
            a += w * p, b += w * q, aa += w * p * p, bb += w * q * q, ab += w * p * q;
          }
        }
        const double c1 = 1e-4, c2 = 9e-4;
        mean += (2 * a * b + c1) * (2 * (ab - a * b) + c2) / ((a * a + b * b + c1) * (aa - a * a + bb - b * b + c2));
      }
    }
  }
  LossWeights weights;
  weights.ssim = 1;
  EXPECT_NEAR(Of(weights, 0), 1 - mean / count, 1e-4);
  EXPECT_NEAR(Of(weights, 1), 0, 1e-5);
}

TEST_F(LossTest, Edges) {
  double sum = 0;
  for (int64_t c = 0; c < 3; ++c) {
    for (int64_t y = 1; y < 15; ++y) {
      for (int64_t x = 1; x < 13; ++x) {
        const auto d = [&](int64_t dy, int64_t dx) { return At(output_, c, y + dy, x + dx) - At(target_, c, y + dy, x + dx); };
        sum += std::abs(d(-1, 1) + 2 * d(0, 1) + d(1, 1) - d(-1, -1) - 2 * d(0, -1) - d(1, -1));
        sum += std::abs(d(1, -1) + 2 * d(1, 0) + d(1, 1) - d(-1, -1) - 2 * d(-1, 0) - d(-1, 1));
      }
    }
  }
  LossWeights weights;
  weights.edge = 1;
  EXPECT_NEAR(Of(weights, 0), sum / (2 * 3 * 14 * 12), 1e-4);
  EXPECT_NEAR(Of(weights, 1), 0, 1e-6);
}

TEST_F(LossTest, Frequencies) {
  double sum = 0;
  for (int64_t c = 0; c < 3; ++c) {
    for (int v = 0; v < 16; ++v) {
      for (int u = 0; u <= 7; ++u) {  // half of the spectrum: the rest mirrors it
        std::complex<double> bin = 0;
        for (int64_t y = 0; y < 16; ++y) {
          for (int64_t x = 0; x < 14; ++x) {
            const double angle = -2 * M_PI * (static_cast<double>(u * x) / 14 + static_cast<double>(v * y) / 16);
            bin += (At(output_, c, y, x) - At(target_, c, y, x)) * std::polar(1.0, angle);
          }
        }
        bin /= std::sqrt(16.0 * 14.0);
        sum += std::abs(bin.real()) + std::abs(bin.imag());
      }
    }
  }
  LossWeights weights;
  weights.frequency = 1;
  EXPECT_NEAR(Of(weights, 0), sum / (3 * 16 * 8 * 2), 1e-4);
}

TEST_F(LossTest, AddsUpAndHasGradients) {
  const LossWeights all{0.5, 1, 2, 3, 4};
  double sum = 0;
  const double weights[] = {0.5, 1, 2, 3, 4};
  for (size_t term = 0; term < 5; ++term) {
    LossWeights one;
    double* const fields[] = {&one.log_mse, &one.charbonnier, &one.ssim, &one.edge, &one.frequency};
    *fields[term] = 1;
    sum += weights[term] * Of(one, 0);
    output_.mutable_grad() = Tensor();
    Loss(output_, target_, one)[0].backward();
    EXPECT_GT(output_.grad().abs().sum().item<double>(), 0) << term;
    EXPECT_TRUE(output_.grad().isfinite().all().item<bool>()) << term;
  }
  EXPECT_NEAR(Of(all, 0), sum, 1e-4);
}

TEST(CurveSvg, DrawsALineForTheLossAndEachCase) {
  const std::string svg = CurveSvg(
      "step,minutes,learning_rate,loss,q10_before,q10_after,q90_before,q90_after\n"
      "100,1.00,0.001,-5.1,25.7000,26.2000,37.0,37.1\n"
      "200,2.00,0.0005,-5.4,25.7000,26.8000,37.0,37.5\n",
      "gain");
  for (const char* part : {"<svg xmlns", ">loss -5.4<", ">q10 1.1<", ">q90 0.5<", "</svg>"}) EXPECT_THAT(svg, HasSubstr(part));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  size_t lines = 0;
  for (size_t at = svg.find("<polyline"); at != std::string::npos; at = svg.find("<polyline", at + 1)) ++lines;
  EXPECT_EQ(lines, 3u);
  // A line that does not change, and no line at all.
  EXPECT_THAT(CurveSvg("step,minutes,learning_rate,loss,a_before,a_after\n5,0,0,0,1,1\n", "gain"), Not(HasSubstr("nan")));
  EXPECT_THAT(CurveSvg("step,minutes,learning_rate,loss\n", "gain"), HasSubstr("</svg>"));
}

}  // namespace
}  // namespace nsic
