#include "core/media/rows.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <utility>
#include <vector>

namespace nsic {
namespace {

constexpr float kFull = 65535.0f;

// What one output coordinate takes from the input: weights of the coordinates from `first` on, which sum to 1.
struct Taps {
  int first = 0;
  std::vector<float> weights;
  int last() const { return first + static_cast<int>(weights.size()) - 1; }
};

void Normalise(const std::vector<double>& weights, Taps* taps) {
  double sum = 0;
  for (const double weight : weights) sum += weight;
  taps->weights.clear();
  for (const double weight : weights) taps->weights.push_back(static_cast<float>(weight / sum));
}

double Sinc(double x) { return x == 0 ? 1 : std::sin(x * M_PI) / (x * M_PI); }
double Lanczos3(double x) { return std::abs(x) < 3 ? Sinc(x) * Sinc(x / 3) : 0; }

// precompute_coeffs of Pillow's Resample.c.
std::vector<Taps> LanczosTaps(int in, int out) {
  std::vector<Taps> all(static_cast<size_t>(out));
  const double scale = static_cast<double>(in) / out;
  const double widening = std::max(scale, 1.0);
  const double support = 3 * widening;
  std::vector<double> weights;
  for (int i = 0; i < out; ++i) {
    const double centre = (i + 0.5) * scale;
    Taps& taps = all[static_cast<size_t>(i)];
    taps.first = std::max(0, static_cast<int>(centre - support + 0.5));
    const int end = std::min(in, static_cast<int>(centre + support + 0.5));
    weights.clear();
    for (int x = taps.first; x < end; ++x) weights.push_back(Lanczos3((x - centre + 0.5) / widening));
    Normalise(weights, &taps);
  }
  return all;
}

// Pillow's GaussianBlur(1) is three box blurs of radius 1/4, that is of the weights 1/6, 2/3, 1/6, the border repeated each time
// (BoxBlur.c).
std::vector<Taps> BlurTaps(int size) {
  constexpr int kReach = 3;
  std::vector<Taps> all(static_cast<size_t>(size));
  for (int i = 0; i < size; ++i) {
    const int first = std::max(0, i - kReach), last = std::min(size - 1, i + kReach);
    std::vector<double> weights(static_cast<size_t>(last - first + 1), 0.0);
    weights[static_cast<size_t>(i - first)] = 1;
    for (int pass = 0; pass < 3; ++pass) {
      std::vector<double> spread(weights.size(), 0.0);
      for (int j = first; j <= last; ++j) {
        const double weight = weights[static_cast<size_t>(j - first)];
        if (weight == 0) continue;
        for (const auto& [at, part] : {std::pair(j - 1, 1.0 / 6), std::pair(j, 2.0 / 3), std::pair(j + 1, 1.0 / 6)}) {
          spread[static_cast<size_t>(std::clamp(at, 0, size - 1) - first)] += weight * part;
        }
      }
      weights = std::move(spread);
    }
    all[static_cast<size_t>(i)].first = first;
    Normalise(weights, &all[static_cast<size_t>(i)]);
  }
  return all;
}

// One row through horizontal taps.
void FilterRow(const std::vector<Taps>& all, const float* in, int channels, float* out) {
  for (const Taps& taps : all) {
    const float* from = in + ptrdiff_t{taps.first} * channels;
    for (int channel = 0; channel < channels; ++channel) {
      float sum = 0;
      const float* sample = from + channel;
      for (const float weight : taps.weights) {
        sum += weight * *sample;
        sample += channels;
      }
      *out++ = sum;
    }
  }
}

// The last rows of a stream, numbered from the picture's top.
class RowWindow {
 public:
  // Room for a row after the newest one.
  std::vector<float>& Push(size_t samples) {
    rows_.emplace_back(samples);
    return rows_.back();
  }
  void DropBefore(int row) {
    for (; top_ < row && !rows_.empty(); ++top_) rows_.pop_front();
  }
  int end() const { return top_ + static_cast<int>(rows_.size()); }
  const float* row(int row) const { return rows_[static_cast<size_t>(row - top_)].data(); }

  // The row of vertical taps.
  void Filter(const Taps& taps, size_t samples, float* out) const {
    std::fill_n(out, samples, 0.0f);
    int from = taps.first;
    for (const float weight : taps.weights) {
      const float* in = row(from++);
      for (size_t i = 0; i < samples; ++i) out[i] += weight * in[i];
    }
  }

 private:
  std::deque<std::vector<float>> rows_;
  int top_ = 0;
};

void Clip(float* row, size_t samples) {
  for (size_t i = 0; i < samples; ++i) row[i] = std::clamp(row[i], 0.0f, kFull);
}

class Resized : public RowSource {
 public:
  Resized(std::unique_ptr<RowSource> in, Size size)
      : RowSource(size, in->channels()),
        in_(std::move(in)),
        across_(LanczosTaps(in_->size().width, size.width)),
        down_(LanczosTaps(in_->size().height, size.height)),
        in_row_(in_->row_samples()) {}

  Status Next(float* row) override {
    const Taps& taps = down_[static_cast<size_t>(next_++)];
    window_.DropBefore(taps.first);
    while (window_.end() <= taps.last()) {
      NSIC_RETURN_IF_ERROR(in_->Next(in_row_.data()));
      FilterRow(across_, in_row_.data(), channels(), window_.Push(row_samples()).data());
    }
    window_.Filter(taps, row_samples(), row);
    Clip(row, row_samples());
    return OkStatus();
  }

 private:
  std::unique_ptr<RowSource> in_;
  std::vector<Taps> across_, down_;
  std::vector<float> in_row_;
  RowWindow window_;  // of rows filtered across
  int next_ = 0;
};

class Blended : public RowSource {
 public:
  Blended(std::unique_ptr<RowSource> under, std::unique_ptr<RowSource> over, double strength)
      : RowSource(over->size(), over->channels()),
        under_(std::move(under)),
        over_(std::move(over)),
        strength_(static_cast<float>(strength)),
        under_row_(row_samples()) {}

  Status Next(float* row) override {
    NSIC_RETURN_IF_ERROR(over_->Next(row));
    NSIC_RETURN_IF_ERROR(under_->Next(under_row_.data()));
    for (size_t i = 0; i < row_samples(); ++i) row[i] = (1 - strength_) * under_row_[i] + strength_ * row[i];
    return OkStatus();
  }

 private:
  std::unique_ptr<RowSource> under_, over_;
  float strength_;
  std::vector<float> under_row_;
};

// Pillow's ImageEnhance.Sharpness: smooth + factor * (image - smooth), with ImageFilter.SMOOTH, which leaves the border alone.
class Sharpness : public RowSource {
 public:
  Sharpness(std::unique_ptr<RowSource> in, float factor) : RowSource(in->size(), in->channels()), in_(std::move(in)), factor_(factor) {}

  Status Next(float* row) override {
    const int y = next_++;
    const int last = std::min(y + 1, size().height - 1);
    window_.DropBefore(y - 1);
    while (window_.end() <= last) NSIC_RETURN_IF_ERROR(in_->Next(window_.Push(row_samples()).data()));
    const float* here = window_.row(y);
    std::copy_n(here, row_samples(), row);
    if (y == 0 || y == size().height - 1) return OkStatus();
    const float* above = window_.row(y - 1);
    const float* below = window_.row(y + 1);
    const size_t step = static_cast<size_t>(channels());
    for (size_t i = step; i + step < row_samples(); ++i) {
      const float ones =
          above[i - step] + above[i] + above[i + step] + here[i - step] + here[i + step] + below[i - step] + below[i] + below[i + step];
      const float smooth = (ones + 5 * here[i]) / 13;
      row[i] = std::clamp(smooth + factor_ * (here[i] - smooth), 0.0f, kFull);
    }
    return OkStatus();
  }

 private:
  std::unique_ptr<RowSource> in_;
  float factor_;
  RowWindow window_;
  int next_ = 0;
};

// image + amount * (image - GaussianBlur(1) of it).
class Unsharp : public RowSource {
 public:
  Unsharp(std::unique_ptr<RowSource> in, float amount)
      : RowSource(in->size(), in->channels()),
        in_(std::move(in)),
        amount_(amount),
        across_(BlurTaps(size().width)),
        down_(BlurTaps(size().height)),
        blurred_row_(row_samples()) {}

  Status Next(float* row) override {
    const int y = next_++;
    const Taps& taps = down_[static_cast<size_t>(y)];
    window_.DropBefore(y);
    blurred_.DropBefore(taps.first);
    while (window_.end() <= taps.last()) {
      std::vector<float>& in_row = window_.Push(row_samples());
      NSIC_RETURN_IF_ERROR(in_->Next(in_row.data()));
      FilterRow(across_, in_row.data(), channels(), blurred_.Push(row_samples()).data());
    }
    blurred_.Filter(taps, row_samples(), blurred_row_.data());
    const float* here = window_.row(y);
    for (size_t i = 0; i < row_samples(); ++i) row[i] = std::clamp(here[i] + amount_ * (here[i] - blurred_row_[i]), 0.0f, kFull);
    return OkStatus();
  }

 private:
  std::unique_ptr<RowSource> in_;
  float amount_;
  std::vector<Taps> across_, down_;
  std::vector<float> blurred_row_;
  RowWindow window_;
  RowWindow blurred_;  // across only
  int next_ = 0;
};

}  // namespace

std::unique_ptr<RowSource> ResizeRows(std::unique_ptr<RowSource> in, Size size) {
  if (in->size() == size) return in;
  return std::make_unique<Resized>(std::move(in), size);
}

std::unique_ptr<RowSource> BlendRows(std::unique_ptr<RowSource> under, std::unique_ptr<RowSource> over, double strength) {
  return std::make_unique<Blended>(std::move(under), std::move(over), strength);
}

std::unique_ptr<RowSource> SharpenRows(std::unique_ptr<RowSource> in, double k) {
  if (k <= 0) return in;
  in = std::make_unique<Sharpness>(std::move(in), static_cast<float>(1 + 2 * k));
  if (k <= 0.5) return in;
  return std::make_unique<Unsharp>(std::move(in), static_cast<float>((k - 0.5) * 2));
}

}  // namespace nsic
