#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "core/quality/metrics.h"

namespace nsic {
namespace {

constexpr int kSsimWindow = 11;
constexpr int kBlock = 8;
constexpr int kLeastBrightest = 16;  // of 255: smaller differences do not fill the heatmap's range

double Decibels(double mean_squared_error) {
  if (mean_squared_error <= 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(255.0 * 255.0 / mean_squared_error);
}

// BT.601 luma of full-range RGB, unrounded.
cv::Mat Luma(const Rgb8& picture) {
  cv::Mat luma(picture.size.height, picture.size.width, CV_64FC1);
  const uint8_t* sample = picture.samples.data();
  for (int y = 0; y < luma.rows; ++y) {
    double* row = luma.ptr<double>(y);
    for (int x = 0; x < luma.cols; ++x, sample += 3) row[x] = 0.299 * sample[0] + 0.587 * sample[1] + 0.114 * sample[2];
  }
  return luma;
}

// Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004, equation 13,
// with the constants and the window of its section III-C, averaged where the window lies wholly inside the picture.
double Ssim(const cv::Mat& a, const cv::Mat& b) {
  const auto blur = [](const cv::Mat& in) {
    cv::Mat out;
    cv::GaussianBlur(in, out, cv::Size(kSsimWindow, kSsimWindow), 1.5, 1.5, cv::BORDER_REFLECT_101);
    const int border = kSsimWindow / 2;
    return cv::Mat(out, cv::Rect(border, border, in.cols - 2 * border, in.rows - 2 * border)).clone();
  };
  const double c1 = std::pow(0.01 * 255, 2);
  const double c2 = std::pow(0.03 * 255, 2);
  const cv::Mat mean_a = blur(a);
  const cv::Mat mean_b = blur(b);
  const cv::Mat square_a = blur(a.mul(a));
  const cv::Mat square_b = blur(b.mul(b));
  const cv::Mat product = blur(a.mul(b));
  double sum = 0;
  for (int y = 0; y < mean_a.rows; ++y) {
    for (int x = 0; x < mean_a.cols; ++x) {
      const double ma = mean_a.at<double>(y, x);
      const double mb = mean_b.at<double>(y, x);
      const double variance_a = square_a.at<double>(y, x) - ma * ma;
      const double variance_b = square_b.at<double>(y, x) - mb * mb;
      const double covariance = product.at<double>(y, x) - ma * mb;
      sum += (2 * ma * mb + c1) * (2 * covariance + c2) / ((ma * ma + mb * mb + c1) * (variance_a + variance_b + c2));
    }
  }
  return sum / (static_cast<double>(mean_a.rows) * mean_a.cols);
}

// The blocking effect factor of one picture: Yim and Bovik, "Quality Assessment of Deblocked Images", 2011, equations 6 to 12, blocks of 8.
double BlockingEffectFactor(const cv::Mat& luma) {
  double boundary = 0, inside = 0;
  int64_t boundaries = 0, insides = 0;
  const auto add = [&](double difference, bool at_boundary) {
    (at_boundary ? boundary : inside) += difference * difference;
    ++(at_boundary ? boundaries : insides);
  };
  for (int y = 0; y < luma.rows; ++y) {
    const double* row = luma.ptr<double>(y);
    const double* below = y + 1 < luma.rows ? luma.ptr<double>(y + 1) : nullptr;
    for (int x = 0; x < luma.cols; ++x) {
      if (x + 1 < luma.cols) add(row[x] - row[x + 1], (x + 1) % kBlock == 0);
      if (below != nullptr) add(row[x] - below[x], (y + 1) % kBlock == 0);
    }
  }
  if (boundaries == 0 || insides == 0) return 0;
  const double at_boundary = boundary / static_cast<double>(boundaries);
  const double elsewhere = inside / static_cast<double>(insides);
  if (at_boundary <= elsewhere) return 0;
  const double weight = std::log2(kBlock) / std::log2(std::min(luma.rows, luma.cols));
  return weight * (at_boundary - elsewhere);
}

std::string SizeText(Size size) { return std::to_string(size.width) + "x" + std::to_string(size.height); }

Status CheckPair(const Rgb8& a, const Rgb8& b) {
  if (a.size != b.size) {
    return InvalidArgumentError("only pictures of one size can be compared: these are " + SizeText(a.size) + " and " + SizeText(b.size));
  }
  const size_t samples = static_cast<size_t>(a.size.area()) * 3;
  if (a.samples.size() == samples && b.samples.size() == samples) return OkStatus();
  return InvalidArgumentError("a picture of " + SizeText(a.size) + " must have " + std::to_string(samples) + " samples");
}

}  // namespace

double MeanSquaredError(const Rgb8& a, const Rgb8& b) {
  int64_t sum = 0;
  for (size_t i = 0; i < a.samples.size(); ++i) {
    const int difference = int{a.samples[i]} - int{b.samples[i]};
    sum += int64_t{difference} * difference;
  }
  return static_cast<double>(sum) / static_cast<double>(a.samples.size());
}

Result<Rgb8> DifferenceHeatmap(const Rgb8& a, const Rgb8& b) {
  NSIC_RETURN_IF_ERROR(CheckPair(a, b));
  try {
    cv::Mat difference(a.size.height, a.size.width, CV_8UC1);
    int largest = kLeastBrightest;
    size_t at = 0;
    for (int y = 0; y < difference.rows; ++y) {
      uint8_t* const row = difference.ptr<uint8_t>(y);
      for (int x = 0; x < difference.cols; ++x) {
        int most = 0;
        for (int channel = 0; channel < 3; ++channel, ++at) most = std::max(most, std::abs(int{a.samples[at]} - int{b.samples[at]}));
        row[x] = static_cast<uint8_t>(most);
        largest = std::max(largest, most);
      }
    }
    difference.convertTo(difference, CV_8UC1, 255.0 / largest);
    cv::Mat colours;
    cv::applyColorMap(difference, colours, cv::COLORMAP_INFERNO);
    cv::cvtColor(colours, colours, cv::COLOR_BGR2RGB);
    Rgb8 heatmap;
    heatmap.size = a.size;
    heatmap.samples.assign(colours.data, colours.data + a.samples.size());
    return heatmap;
  } catch (const cv::Exception& e) {
    return InternalError(std::string("OpenCV: ") + e.what());
  }
}

Result<QualityScores> CompareQuality(const Rgb8& reference, const Rgb8& picture) {
  NSIC_RETURN_IF_ERROR(CheckPair(reference, picture));
  if (reference.size.width < kSsimWindow || reference.size.height < kSsimWindow) {
    return InvalidArgumentError("pictures must be at least 11x11 to be compared: these are " + SizeText(reference.size));
  }
  try {
    const cv::Mat a = Luma(reference);
    const cv::Mat b = Luma(picture);
    const double error = cv::norm(a, b, cv::NORM_L2SQR) / static_cast<double>(reference.size.area());
    QualityScores scores;
    scores.psnr_rgb = Decibels(MeanSquaredError(reference, picture));
    scores.psnr_y = Decibels(error);
    scores.ssim_y = Ssim(a, b);
    scores.psnr_b = Decibels(error + BlockingEffectFactor(b));
    return scores;
  } catch (const cv::Exception& e) {
    return InternalError(std::string("OpenCV: ") + e.what());
  }
}

}  // namespace nsic
