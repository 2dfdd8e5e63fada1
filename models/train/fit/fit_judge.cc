#include "models/train/fit/fit_judge.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "models/arch/ns_assess.h"
#include "models/arch/tile_net.h"
#include "models/train/fit/training_run.h"
#include "models/train/measure/rank_correlation.h"
#include "models/train/samples/judge_samples.h"
#include "models/train/samples/pairs.h"

namespace nsic {
namespace {

using at::Tensor;
using nlohmann::json;

constexpr int64_t kValidationSamples = 192;  // the first so many of the validation pictures' sequence, the same at each validation
constexpr int64_t kValidationBatch = 16;
constexpr uint64_t kValidationSeed = 20;
// Of the original's design: to spoil and judge a whole picture takes longer than to learn from it, so that it learns from the same so many
// pairs again and again, as the original does from its files.
constexpr int64_t kWholePairs = 512;

// Of the scorer's loss, over score / 100 and, scaled to the same range, over the score's logit: that is the logarithm of the error that the
// score is of (reference_quality.h), in which nearly good and good are as far apart as bad and worse. The difference of two versions counts
// twice: in it, what the crop shows cancels out.
constexpr double kRoundFoot = 0.05;  // below this an error counts by its square
constexpr double kDifferenceWeight = 2;
constexpr double kOrderWeight = 0.2;
constexpr double kOrderSlope = 20;
constexpr double kSameScore = 0.005;   // closer versions have no order
constexpr double kLeastScore = 0.005;  // of which, and of one minus which, there is a logit

Tensor Huber(const Tensor& error) { return at::smooth_l1_loss(error, at::zeros_like(error), at::Reduction::Sum, kRoundFoot); }

// Both 0 to 1; two by two, versions of one crop.
Tensor DistanceLoss(const Tensor& said, const Tensor& truth) {
  const Tensor error = said - truth, pairs = error.view({-1, 2});
  return Huber(error) / 2.0 + Huber(pairs.select(1, 0) - pairs.select(1, 1)) * kDifferenceWeight;
}

// A score's logit, from 0 to 1.
Tensor Logit(const Tensor& score) {
  const double largest = std::log((1 - kLeastScore) / kLeastScore);
  return at::logit(score, kLeastScore) / (2 * largest) + 0.5;
}

// Scores and their targets, 0 to 1.
Tensor ScoreLoss(const Tensor& score, const Tensor& truth) {
  const Tensor pairs = score.view({-1, 2}), true_pairs = truth.view({-1, 2});
  const Tensor difference = pairs.select(1, 0) - pairs.select(1, 1), true_difference = true_pairs.select(1, 0) - true_pairs.select(1, 1);
  const Tensor ordered = (true_difference.abs() > kSameScore).to(at::kFloat);
  const Tensor order = at::softplus(difference * true_difference.sign() * -kOrderSlope) * ordered;
  return DistanceLoss(score, truth) + DistanceLoss(Logit(score), Logit(truth)) + order.sum() * kOrderWeight;
}

std::vector<double> Doubles(const Tensor& values) {
  const Tensor host = values.to(at::kCPU, at::kDouble).contiguous();
  return {host.data_ptr<double>(), host.data_ptr<double>() + host.numel()};
}

Status CheckOptions(const FitJudgeOptions& options) {
  if (options.features < 4 || options.features > 256) return InvalidArgumentError("the network takes 4 to 256 features");
  if (options.architecture != "tile" && options.architecture != "ns-iqa") {
    return InvalidArgumentError("fit-judge does not train the architecture '" + options.architecture + "'; it trains tile and ns-iqa");
  }
  if (options.architecture == "ns-iqa" && options.task != ModelTask::kScore) return InvalidArgumentError("ns-iqa is a scorer");
  return OkStatus();
}

// The versions in the corpora, by picture and codec; those too small to learn from, and single ones, left out.
std::vector<SpoiltVersions> VersionsIn(const TrainingData& data) {
  std::vector<SpoiltVersions> all;
  for (const auto& corpus : data.corpora) {
    std::map<std::pair<size_t, std::string>, std::vector<CorpusPicture>> of;
    for (const SpoiltPicture& spoilt : corpus->spoilt()) {
      if (std::min(spoilt.picture.width, spoilt.picture.height) >= kJudgeTile) of[{spoilt.of, spoilt.by}].push_back(spoilt.picture);
    }
    for (auto& [key, versions] : of) {
      if (versions.size() >= 2) all.push_back({corpus->pictures()[key.first], std::move(versions)});
    }
  }
  return all;
}

// Samples of whole pictures, made once. Thread-safe.
class WholePairs {
 public:
  // As MakeWholeScoreBatch; sample n is the same as n + kWholePairs.
  JudgeBatch Samples(const JudgePictures& pictures, uint64_t seed, int64_t first, int64_t last, const at::Device& device) {
    std::vector<Tensor> tiles, targets;
    for (int64_t index = first; index < last; ++index) {
      const JudgeBatch pair = Find(pictures, seed, index % kWholePairs, device);
      tiles.push_back(pair.tiles.to(at::kFloat));
      targets.push_back(pair.target);
    }
    return {at::cat(tiles), at::cat(targets)};
  }

 private:
  JudgeBatch Find(const JudgePictures& pictures, uint64_t seed, int64_t number, const at::Device& device) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (const auto found = made_.find(number); found != made_.end()) return found->second;
    }
    JudgeBatch pair = MakeWholeScoreBatch(pictures, seed, number, number + 1, device);
    pair.tiles = pair.tiles.to(at::kHalf);
    const std::lock_guard<std::mutex> lock(mutex_);
    return made_.emplace(number, std::move(pair)).first->second;
  }

  std::mutex mutex_;
  std::map<int64_t, JudgeBatch> made_;  // guarded by mutex_; 0.8 MB each
};

struct Measure {
  std::string name;
  double value;
};

class JudgeRun : public TrainingRun {
 public:
  JudgeRun(const FitJudgeOptions& options, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress)
      : TrainingRun(options, clock, stop, progress),
        options_(options),
        scores_(options.task == ModelTask::kScore),
        original_(options.architecture == "ns-iqa"),
        shape_(scores_ ? TileNetShape{options.features, 0, 1}
                       : TileNetShape{options.features, kJpegHints, static_cast<int64_t>(JudgeLabels().size())}) {}

 protected:
  Status Open() override {
    struct Part {
      const std::vector<std::string>& paths;
      std::vector<CorpusPicture>* pictures;
      std::vector<SpoiltVersions>* spoilt;
      const char* name;
    };
    for (const Part& part :
         {Part{options_.photographs, &pictures_.photographs, &pictures_.spoilt_photographs, "photographs"},
          Part{options_.drawings, &pictures_.drawings, &pictures_.spoilt_drawings, "drawings"},
          Part{options_.photograph_validation, &validation_.photographs, &validation_.spoilt_photographs, "photographs to measure on"},
          Part{options_.drawing_validation, &validation_.drawings, &validation_.spoilt_drawings, "drawings to measure on"}}) {
      if (part.paths.empty()) return InvalidArgumentError(std::string("training needs ") + part.name);
      NSIC_ASSIGN_OR_RETURN(TrainingData data, OpenToLearn(part.paths, kJudgeSmallest));
      *part.pictures = data.pictures;
      *part.spoilt = VersionsIn(data);
      summary_[part.name] = json::parse(data.summary);
      data_.push_back(std::move(data));
    }
    return OkStatus();
  }

  Result<std::unique_ptr<TrainableNet>> MakeNet() const override { return original_ ? MakeTrainableNsIqa() : MakeTrainableTileNet(shape_); }

  Tensor LossOf(TrainableNet* net, int64_t first, int64_t last) override {
    const JudgeBatch batch = Samples(pictures_, &whole_pairs_, options_.seed, first, last);
    const Tensor output = Judgement(net, batch.tiles, compute_type());
    if (scores_) return ScoreLoss(Scores(output), batch.target / 100.0);
    return at::cross_entropy_loss(output, batch.target, {}, at::Reduction::Sum);
  }

  // On the validation pictures, spoilt as those that are learnt from.
  Validation Validate(TrainableNet* net) override {
    struct Judged {
      std::vector<double> said, truth;
    };
    const std::vector<Judged> parts = InShards([&](int64_t shard) {
      const at::NoGradGuard no_grad;
      at::set_num_threads(1);
      Judged judged;
      for (int64_t first = shard * kValidationBatch; first < kValidationSamples; first += options_.threads * kValidationBatch) {
        const JudgeBatch batch = Samples(validation_, &whole_validation_, kValidationSeed, first, first + kValidationBatch);
        const Tensor output = Judgement(net, batch.tiles, at::kFloat);
        const std::vector<double> said = Doubles(scores_ ? Scores(output) * 100.0 : output.argmax(1));
        const std::vector<double> truth = Doubles(batch.target);
        judged.said.insert(judged.said.end(), said.begin(), said.end());
        judged.truth.insert(judged.truth.end(), truth.begin(), truth.end());
      }
      return judged;
    });
    Judged all;
    for (const Judged& part : parts) {
      all.said.insert(all.said.end(), part.said.begin(), part.said.end());
      all.truth.insert(all.truth.end(), part.truth.begin(), part.truth.end());
    }
    int64_t right = 0, asked = 0;
    if (!scores_) {
      for (size_t i = 0; i < all.said.size(); ++i) right += all.said[i] == all.truth[i];
      return Told({{"accuracy", static_cast<double>(right) / static_cast<double>(all.said.size())}});
    }
    for (size_t i = 0; i + 1 < all.said.size(); i += 2) {
      if (std::abs(all.truth[i] - all.truth[i + 1]) <= 100 * kSameScore) continue;
      ++asked;
      right += (all.said[i] > all.said[i + 1]) == (all.truth[i] > all.truth[i + 1]);
    }
    return Told({{"spearman", RankCorrelation(all.said, all.truth)},
                 {"pair_order", asked > 0 ? static_cast<double>(right) / static_cast<double>(asked) : 0}});
  }

  json Settings() const override {
    if (original_) return {{"architecture", "ns-iqa"}, {"parameters", json::object()}, {"data", summary_}};
    return {{"architecture", scores_ ? "tile-iqa" : "tile-c"},
            {"parameters", {{"features", options_.features}}},
            {"tile", kJudgeTile},
            {"data", summary_}};
  }

  std::vector<std::string> Columns() const override {
    return scores_ ? std::vector<std::string>{"spearman", "pair_order"} : std::vector<std::string>{"accuracy"};
  }

  std::string CurveTitle() const override { return "on pictures held back, over steps"; }

  std::string SpeedText(double samples_per_second) const override {
    std::ostringstream text;
    text << std::fixed << std::setprecision(1) << samples_per_second << " samples/s";
    return text.str();
  }

 private:
  JudgeBatch Samples(const JudgePictures& pictures, WholePairs* whole, uint64_t seed, int64_t first, int64_t last) const {
    if (original_) return whole->Samples(pictures, seed, first, last, device());
    return scores_ ? MakeScoreBatch(pictures, seed, first, last, device()) : MakeClassBatch(pictures, seed, first, last, device());
  }

  // Of a scorer's output, 0 to 1, as the engine reads it.
  Tensor Scores(const Tensor& output) const {
    const Tensor score = output.squeeze(1);
    return original_ ? score / 100.0 : score.sigmoid();
  }

  // A scorer's of each tile, a classifier's of each picture from what it sees of its tiles, as the engine puts them together. A picture,
  // not a tile, is what must be recognised.
  Tensor Judgement(TrainableNet* net, const Tensor& tiles, at::ScalarType compute) const {
    const Tensor seen = net->Forward(tiles, compute);
    return net->Conclude(scores_ ? seen : seen.unflatten(0, {-1, kClassTiles}).mean(1));
  }

  static Validation Told(const std::vector<Measure>& measures) {
    Validation validation;
    validation.card = json::object();
    std::ostringstream cells, line;
    cells << std::fixed << std::setprecision(5);
    line << std::fixed << std::setprecision(4);
    for (const Measure& measure : measures) {
      const bool first = &measure == &measures.front();
      cells << (first ? "" : ",") << measure.value;
      line << (first ? "" : "  ") << measure.name << " " << measure.value;
      validation.card[measure.name] = std::round(measure.value * 1e4) / 1e4;
    }
    validation.cells = cells.str();
    validation.line = line.str();
    return validation;
  }

  const FitJudgeOptions& options_;
  const bool scores_;    // else it classifies
  const bool original_;  // NS-IQA
  const TileNetShape shape_;
  std::vector<TrainingData> data_;
  JudgePictures pictures_, validation_;        // point into data_
  WholePairs whole_pairs_, whole_validation_;  // of them, for the original's design
  json summary_ = json::object();
};

}  // namespace

Status FitJudge(const FitJudgeOptions& options, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress) {
  NSIC_RETURN_IF_ERROR(CheckOptions(options));
  try {
    return JudgeRun(options, clock, stop, progress).Run();
  } catch (const c10::Error& error) {
    return InternalError(std::string("LibTorch failed: ") + error.what_without_backtrace());
  }
}

}  // namespace nsic
