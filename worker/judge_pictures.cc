#include "worker/judge_pictures.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>

#include "core/base/planar_image.h"

namespace nsic {
namespace {

constexpr int kBlockSide = 1024;
constexpr int kCropSide = 256;
constexpr int kCropsASide = 4;
constexpr size_t kSamples = 4;
constexpr std::array<size_t, 4> kInFourRows = {1, 3, 0, 2};  // the column of each row's sample
constexpr int kJpegBlock = 8;
constexpr double kLeastProbability = 1e-12;  // keeps logarithms finite
constexpr size_t kKnownFiles = 1000;

// Where crops begin along a side of the picture.
std::vector<int> CropStarts(int side) {
  const int room = std::max(0, side - kCropSide);
  const int count = std::min(kCropsASide, (side + kCropSide - 1) / kCropSide);
  std::vector<int> starts;
  for (int i = 0; i < count; ++i) {
    const int64_t start = count > 1 ? int64_t{room} * i / (count - 1) : 0;
    starts.push_back(static_cast<int>(start) / kJpegBlock * kJpegBlock);
  }
  return starts;
}

Result<PlanarImage> ReadPart(const Rect& part, const ReadPixels& read) {
  PlanarImage picture(3, part.width, part.height);
  NSIC_RETURN_IF_ERROR(read(part, picture.samples.data()));
  return picture;
}

Classes MostProbableFirst(const std::map<std::string, double>& probabilities) {
  Classes classes(probabilities.begin(), probabilities.end());
  std::stable_sort(classes.begin(), classes.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  return classes;
}

class OneAtATime : public Classifier {
 public:
  OneAtATime(Classifier* classifier, std::mutex* mutex) : classifier_(classifier), mutex_(mutex) {}
  Result<Classes> Classify(const PlanarImage& picture, const std::optional<JpegTables>& jpeg) override {
    const std::lock_guard<std::mutex> lock(*mutex_);
    return classifier_->Classify(picture, jpeg);
  }

 private:
  Classifier* const classifier_;
  std::mutex* const mutex_;
};

}  // namespace

std::vector<Rect> BlocksToScore(Size picture) {
  const int columns = (picture.width + kBlockSide - 1) / kBlockSide;
  const int rows = (picture.height + kBlockSide - 1) / kBlockSide;
  const auto edge = [](int side, int i, int count) { return static_cast<int>(int64_t{side} * i / count); };
  std::vector<Rect> blocks;
  for (int row = 0; row < rows; ++row) {
    const int top = edge(picture.height, row, rows);
    for (int column = 0; column < columns; ++column) {
      const int left = edge(picture.width, column, columns);
      blocks.push_back({left, top, edge(picture.width, column + 1, columns) - left, edge(picture.height, row + 1, rows) - top});
    }
  }
  return blocks;
}

std::vector<Rect> CropsToClassify(Size picture) {
  std::vector<Rect> crops;
  for (const int top : CropStarts(picture.height)) {
    for (const int left : CropStarts(picture.width)) {
      crops.push_back({left, top, std::min(kCropSide, picture.width), std::min(kCropSide, picture.height)});
    }
  }
  return crops;
}

std::vector<Rect> SampleCrops(Size picture) {
  const std::vector<Rect> crops = CropsToClassify(picture);
  if (crops.size() <= kSamples) return crops;
  std::vector<Rect> samples;
  for (size_t i = 0; i < kSamples; ++i) {
    // Of 4x4, one in each row and column.
    samples.push_back(crops[crops.size() == kInFourRows.size() * kInFourRows.size() ? kInFourRows.size() * i + kInFourRows[i]
                                                                                    : crops.size() * i / kSamples]);
  }
  return samples;
}

std::vector<Rect> SamplesToScore(Size picture) {
  constexpr int64_t kFew = static_cast<int64_t>(kSamples) * kCropSide * kCropSide;
  return picture.area() <= kFew ? BlocksToScore(picture) : SampleCrops(picture);
}

Classes MeanOfClasses(const std::vector<Classes>& parts) {
  std::map<std::string, double> sums;
  for (const Classes& part : parts) {
    for (const auto& [label, probability] : part) sums[label] += probability / static_cast<double>(parts.size());
  }
  return MostProbableFirst(sums);
}

Classes GeometricMeanOfClasses(const std::vector<Classes>& parts) {
  std::map<std::string, double> means;
  for (const Classes& part : parts) {
    for (const auto& [label, probability] : part) {
      means[label] += std::log(std::max(probability, kLeastProbability)) / static_cast<double>(parts.size());
    }
  }
  double sum = 0;
  for (auto& [label, mean] : means) sum += mean = std::exp(mean);
  for (auto& [label, mean] : means) mean /= sum;
  return MostProbableFirst(means);
}

Result<Classes> ClassifyPicture(Classifier* classifier, const std::vector<Rect>& crops, const ReadPixels& read,
                                const std::optional<JpegTables>& tables, const CancelToken& cancel) {
  std::vector<Classes> parts;
  for (const Rect& crop : crops) {
    NSIC_RETURN_IF_ERROR(cancel.Check());
    NSIC_ASSIGN_OR_RETURN(const PlanarImage part, ReadPart(crop, read));
    NSIC_ASSIGN_OR_RETURN(Classes classes, classifier->Classify(part, tables));
    parts.push_back(std::move(classes));
  }
  return GeometricMeanOfClasses(parts);
}

Result<double> PictureJudge::Score(Scorer* scorer, const std::vector<Rect>& parts, const ReadPixels& read, const CancelToken& cancel) {
  double sum = 0;
  double area = 0;
  for (const Rect& part : parts) {
    NSIC_RETURN_IF_ERROR(cancel.Check());
    NSIC_ASSIGN_OR_RETURN(const PlanarImage pixels, ReadPart(part, read));
    const std::lock_guard<std::mutex> lock(scoring_);
    NSIC_ASSIGN_OR_RETURN(const PictureQuality quality, scorer->Score(pixels));
    sum += quality.score * static_cast<double>(part.area());
    area += static_cast<double>(part.area());
  }
  if (area <= 0) return InvalidArgumentError("there is nothing to score");
  return std::clamp(sum / area, 0.0, 100.0);
}

Result<Classes> PictureJudge::Classify(Classifier* classifier, const std::string& key,
                                       const std::function<Result<Classes>(Classifier*)>& look) {
  {
    const std::lock_guard<std::mutex> lock(known_mutex_);
    const auto known = std::find_if(known_.begin(), known_.end(), [&key](const auto& entry) { return entry.first == key; });
    if (known != known_.end()) {
      known_.splice(known_.begin(), known_, known);
      return known_.front().second;
    }
  }
  // Without a lock: to look may take memory, for which tasks wait that want to look as well.
  OneAtATime guarded(classifier, &classifying_);
  NSIC_ASSIGN_OR_RETURN(Classes classes, look(&guarded));
  if (classes.empty()) return InternalError("the recommender knows no label");
  const std::lock_guard<std::mutex> lock(known_mutex_);
  known_.emplace_front(key, std::move(classes));
  if (known_.size() > kKnownFiles) known_.pop_back();
  return known_.front().second;
}

}  // namespace nsic
