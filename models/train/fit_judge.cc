#include "models/train/fit_judge.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <future>
#include <iomanip>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "core/base/files.h"
#include "models/arch/tile_net.h"
#include "models/train/checkpoint.h"
#include "models/train/curve.h"
#include "models/train/export.h"
#include "models/train/judge_samples.h"
#include "models/train/optimiser.h"
#include "models/train/pairs.h"
#include "models/train/rank_correlation.h"

namespace nsic {
namespace {

using at::Tensor;
using nlohmann::json;

constexpr int64_t kValidationSamples = 192;  // the first so many of the validation pictures' sequence, the same at each validation
constexpr int64_t kValidationBatch = 16;
constexpr uint64_t kValidationSeed = 20;
constexpr int64_t kProgressUs = 15'000'000;
constexpr int64_t kCheckpointUs = 120'000'000;

// Of the scorer's loss, over score / 100. The difference of two versions counts twice: in it, what the crop shows cancels out.
constexpr double kRoundFoot = 0.05;  // below this an error counts by its square
constexpr double kDifferenceWeight = 2;
constexpr double kOrderWeight = 0.1;
constexpr double kOrderSlope = 20;
constexpr double kSameScore = 0.005;  // closer versions have no order

Tensor Huber(const Tensor& error) { return at::smooth_l1_loss(error, at::zeros_like(error), at::Reduction::Sum, kRoundFoot); }

Tensor ScoreLoss(const Tensor& output, const Tensor& target) {
  const Tensor score = output.squeeze(1).sigmoid(), truth = target / 100.0;
  const Tensor pairs = score.view({-1, 2}), true_pairs = truth.view({-1, 2});
  const Tensor difference = pairs.select(1, 0) - pairs.select(1, 1), true_difference = true_pairs.select(1, 0) - true_pairs.select(1, 1);
  const Tensor ordered = (true_difference.abs() > kSameScore).to(at::kFloat);
  const Tensor order = at::softplus(difference * true_difference.sign() * -kOrderSlope) * ordered;
  return Huber(score - truth) / 2.0 + Huber(difference - true_difference) * kDifferenceWeight + order.sum() * kOrderWeight;
}

std::vector<double> Doubles(const Tensor& values) {
  const Tensor host = values.to(at::kCPU, at::kDouble).contiguous();
  return {host.data_ptr<double>(), host.data_ptr<double>() + host.numel()};
}

Status CopyInto(const NamedTensors& from, const NamedTensors& to) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : to) {
    const auto found = from.find(name);
    if (from.size() != to.size() || found == from.end() || found->second.sizes() != tensor.sizes()) {
      return FailedPreconditionError("the checkpoint is of another network");
    }
    tensor.copy_(found->second);
  }
  return OkStatus();
}

Status CheckOptions(const FitJudgeOptions& options) {
  if ((options.steps > 0) == (options.minutes > 0)) return InvalidArgumentError("give either steps or minutes");
  if (options.threads < 1) return InvalidArgumentError("training needs at least one thread");
  if (options.batch < options.threads) return InvalidArgumentError("the batch must hold at least one sample a thread");
  if (!(options.learning_rate > 0)) return InvalidArgumentError("the learning rate must be positive");
  if (!(options.validate_minutes > 0)) return InvalidArgumentError("the time between validations must be positive");
  if (options.features < 4 || options.features > 256) return InvalidArgumentError("the network takes 4 to 256 features");
  return OkStatus();
}

// The header and the rows of steps up to `step`: a run that was killed may have logged more than its checkpoint holds.
std::string RowsUntil(const std::string& log, int64_t step) {
  std::istringstream in(log);
  std::string line, kept;
  for (bool header = true; std::getline(in, line); header = false) {
    if (header || std::atoll(line.c_str()) <= step) kept += line + "\n";
  }
  return kept;
}

struct Measure {
  std::string name;
  double value;
};

// One training run; the members are what its steps share.
class JudgeTrainer {
 public:
  JudgeTrainer(const FitJudgeOptions& options, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress)
      : options_(options),
        scores_(options.task == ModelTask::kScore),
        shape_(scores_ ? TileNetShape{options.features, 0, 1}
                       : TileNetShape{options.features, kJpegHints, static_cast<int64_t>(JudgeLabels().size())}),
        clock_(clock),
        stop_(stop),
        progress_(progress),
        device_(options.device) {}

  Status Run() {
    NSIC_RETURN_IF_ERROR(OpenData());
    torch::manual_seed(options_.seed);
    for (int64_t shard = 0; shard < options_.threads; ++shard) {
      replicas_.push_back(MakeTrainableTileNet(shape_));
      replicas_.back()->MoveTo(device_);
      if (shard > 0) replicas_.back()->ShareWeightsOf(*replicas_[0]);
    }
    optimiser_ = std::make_unique<Optimiser>(replicas_[0]->weights());
    NSIC_RETURN_IF_ERROR(Resume());
    started_us_ = clock_.MonotonicUs() - elapsed_us_;
    int64_t reported_us = elapsed_us_, saved_us = elapsed_us_, validated_us = elapsed_us_;
    int64_t reported_step = step_;
    double loss_sum = 0;
    const auto average_loss = [&] {
      if (step_ > reported_step) recent_loss_ = loss_sum / static_cast<double>(step_ - reported_step);
    };
    while (Done() < 1) {
      if (stop_) {
        NSIC_RETURN_IF_ERROR(Save());
        return CancelledError("stopped after step " + std::to_string(step_) + "; run the same command to go on");
      }
      loss_sum += Step();
      elapsed_us_ = clock_.MonotonicUs() - started_us_;
      if (elapsed_us_ - reported_us >= kProgressUs) {
        average_loss();
        if (!std::isfinite(recent_loss_)) return DataLossError("the loss is no longer a number; use a lower learning rate");
        Report(static_cast<double>(step_ - reported_step) / (static_cast<double>(elapsed_us_ - reported_us) / 1e6));
        reported_us = elapsed_us_;
        reported_step = step_;
        loss_sum = 0;
      }
      if (static_cast<double>(elapsed_us_ - validated_us) / 60e6 >= options_.validate_minutes) {
        average_loss();
        NSIC_RETURN_IF_ERROR(Publish());
        validated_us = saved_us = elapsed_us_ = clock_.MonotonicUs() - started_us_;
      } else if (elapsed_us_ - saved_us >= kCheckpointUs) {
        NSIC_RETURN_IF_ERROR(Save());
        saved_us = elapsed_us_;
      }
    }
    average_loss();
    return Publish();
  }

 private:
  Status OpenData() {
    struct Part {
      const std::vector<std::string>& paths;
      std::vector<CorpusPicture>* pictures;
      const char* name;
    };
    for (const Part& part :
         {Part{options_.photographs, &pictures_.photographs, "photographs"}, Part{options_.drawings, &pictures_.drawings, "drawings"},
          Part{options_.photograph_validation, &validation_.photographs, "photographs to measure on"},
          Part{options_.drawing_validation, &validation_.drawings, "drawings to measure on"}}) {
      if (part.paths.empty()) return InvalidArgumentError(std::string("training needs ") + part.name);
      NSIC_ASSIGN_OR_RETURN(TrainingData data, OpenTrainingData(part.paths, options_.state, kJudgeSmallest, progress_));
      for (size_t i = 0; i < part.paths.size(); ++i) {
        if (options_.source.empty() && data.corpora[i]->sources().empty()) {
          return InvalidArgumentError(part.paths[i] + " does not say where its pictures are from, and under which licences; give --source");
        }
      }
      *part.pictures = data.pictures;
      summary_[part.name] = json::parse(data.summary);
      data_.push_back(std::move(data));
    }
    return OkStatus();
  }

  double Done() const {
    return options_.steps > 0 ? static_cast<double>(step_) / static_cast<double>(options_.steps)
                              : static_cast<double>(elapsed_us_) / (options_.minutes * 60e6);
  }

  // Runs `work(shard)` for each shard, at once, one thread each, and gives the results in order; why not LibTorch's threads, fit.cc says.
  template <typename Work>
  auto InShards(Work work) {
    std::vector<std::future<decltype(work(int64_t{0}))>> futures;
    for (int64_t shard = 1; shard < options_.threads; ++shard) futures.push_back(std::async(std::launch::async, work, shard));
    std::vector<decltype(work(int64_t{0}))> results = {work(0)};
    for (auto& future : futures) results.push_back(future.get());
    return results;
  }

  JudgeBatch Samples(const JudgePictures& pictures, uint64_t seed, int64_t first, int64_t last) const {
    return scores_ ? MakeScoreBatch(pictures, seed, first, last, device_) : MakeClassBatch(pictures, seed, first, last, device_);
  }

  // Adds the gradients of the shard's part of the batch to the shard's replica; the part's contribution to the loss.
  double Learn(int64_t shard) {
    at::set_num_threads(1);
    const int64_t first = options_.batch * shard / options_.threads, last = options_.batch * (shard + 1) / options_.threads;
    const int64_t done = step_ * options_.batch;
    const JudgeBatch batch = Samples(pictures_, options_.seed, done + first, done + last);
    const Tensor output = replicas_[static_cast<size_t>(shard)]->Forward(batch.tiles, options_.bfloat16 ? at::kBFloat16 : at::kFloat);
    Tensor loss = scores_ ? ScoreLoss(output, batch.target) : at::cross_entropy_loss(output, batch.target, {}, at::Reduction::Sum);
    loss = loss / static_cast<double>(options_.batch);
    loss.backward();
    return loss.item<double>();
  }

  // The loss.
  double Step() {
    double loss = 0;
    for (double part : InShards([this](int64_t shard) { return Learn(shard); })) loss += part;
    {
      const at::NoGradGuard no_grad;
      for (size_t shard = 1; shard < replicas_.size(); ++shard) {
        for (const auto& [name, tensor] : replicas_[0]->weights()) {
          Tensor& gradient = replicas_[shard]->weights().at(name).mutable_grad();
          tensor.mutable_grad().add_(gradient);
          gradient.zero_();
        }
      }
    }
    rate_ = LearningRate(options_.learning_rate, step_, Done());
    optimiser_->Step(++step_, rate_);
    return loss;
  }

  void Report(double steps_per_second) {
    std::ostringstream line;
    line << std::fixed << std::setprecision(1) << "step " << step_ << "  " << static_cast<double>(elapsed_us_) / 60e6 << " min  "
         << 100 * Done() << "%  loss " << std::setprecision(4) << recent_loss_ << "  rate " << std::scientific << std::setprecision(2)
         << rate_ << "  " << std::fixed << std::setprecision(1) << steps_per_second * static_cast<double>(options_.batch) << " samples/s";
    progress_ << line.str() << std::endl;
  }

  std::string LogPath() const { return options_.state + "/log.csv"; }

  std::string Settings() const {
    const json settings = {{"architecture", scores_ ? "tile-iqa" : "tile-c"},
                           {"parameters", {{"features", options_.features}}},
                           {"batch", options_.batch},
                           {"tile", kJudgeTile},
                           {"seed", options_.seed},
                           {"threads", options_.threads},
                           {"data", summary_},
                           {"learning_rate", options_.learning_rate},
                           {"bfloat16", options_.bfloat16}};
    return settings.dump();
  }

  Status Resume() {
    NSIC_RETURN_IF_ERROR(MakeFolders(options_.state));
    Result<Checkpoint> checkpoint = ReadCheckpoint(CheckpointPath(options_.state));
    log_ = std::string("step,minutes,learning_rate,loss,") + (scores_ ? "spearman,pair_order" : "accuracy") + "\n";
    if (checkpoint.status().code() == StatusCode::kNotFound) return OkStatus();
    if (!checkpoint.ok()) return checkpoint.status();
    if (checkpoint->settings != Settings()) {
      return FailedPreconditionError(CheckpointPath(options_.state) + " is of a run with other settings: " + checkpoint->settings +
                                     "; give those, or another state folder");
    }
    NSIC_RETURN_IF_ERROR(CopyInto(checkpoint->weights, replicas_[0]->weights()));
    NSIC_RETURN_IF_ERROR(CopyInto(checkpoint->averaged, optimiser_->averaged()));
    NSIC_RETURN_IF_ERROR(CopyInto(checkpoint->mean, optimiser_->mean()));
    NSIC_RETURN_IF_ERROR(CopyInto(checkpoint->variance, optimiser_->variance()));
    step_ = checkpoint->step;
    elapsed_us_ = checkpoint->elapsed_us;
    Result<std::string> log = ReadFile(LogPath());
    if (log.ok()) {
      log_ = RowsUntil(*log, step_);
    } else if (log.status().code() != StatusCode::kNotFound) {
      return log.status();
    }
    progress_ << "resumed after step " << step_ << std::endl;
    return OkStatus();
  }

  Checkpoint Now() {
    json notes = {{"name", options_.name}, {"licence", options_.licence}, {"device", options_.device}};
    if (!options_.source.empty()) notes["source"] = options_.source;
    Checkpoint checkpoint;
    checkpoint.settings = Settings();
    checkpoint.notes = notes.dump(-1, ' ', false, json::error_handler_t::replace);
    checkpoint.step = step_;
    checkpoint.elapsed_us = elapsed_us_;
    checkpoint.weights = replicas_[0]->weights();
    checkpoint.averaged = optimiser_->averaged();
    checkpoint.mean = optimiser_->mean();
    checkpoint.variance = optimiser_->variance();
    return checkpoint;
  }

  Status Save() { return WriteCheckpoint(CheckpointPath(options_.state), Now()); }

  // Of `net` on the validation pictures, spoilt as those that are learnt from.
  std::vector<Measure> Validate(TrainableNet& net) {
    struct Judged {
      std::vector<double> said, truth;
    };
    const std::vector<Judged> parts = InShards([&](int64_t shard) {
      const at::NoGradGuard no_grad;
      at::set_num_threads(1);
      Judged judged;
      for (int64_t first = shard * kValidationBatch; first < kValidationSamples; first += options_.threads * kValidationBatch) {
        const JudgeBatch batch = Samples(validation_, kValidationSeed, first, first + kValidationBatch);
        const Tensor output = net.Forward(batch.tiles, at::kFloat);
        const std::vector<double> said = Doubles(scores_ ? output.squeeze(1).sigmoid() * 100.0 : output.argmax(1));
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
      return {{"accuracy", static_cast<double>(right) / static_cast<double>(all.said.size())}};
    }
    for (size_t i = 0; i + 1 < all.said.size(); i += 2) {
      if (std::abs(all.truth[i] - all.truth[i + 1]) <= 100 * kSameScore) continue;
      ++asked;
      right += (all.said[i] > all.said[i + 1]) == (all.truth[i] > all.truth[i + 1]);
    }
    return {{"spearman", RankCorrelation(all.said, all.truth)},
            {"pair_order", asked > 0 ? static_cast<double>(right) / static_cast<double>(asked) : 0}};
  }

  ModelPack Pack(const std::vector<Measure>& measures) const {
    ModelPack pack;
    pack.card.name = options_.name;
    pack.card.task = options_.task;
    pack.card.architecture = scores_ ? "tile-iqa" : "tile-c";
    pack.card.parameters = {{"features", options_.features}};
    pack.card.tiling.tile = static_cast<int>(kJudgeTile);
    pack.card.tiling.multiple = static_cast<int>(kTileMultiple);
    pack.card.licence = options_.licence;
    if (scores_) {
      pack.card.description = "Scores how good a picture looks, 0 to 100, without its original, at native resolution.";
    } else {
      pack.card.description = "Says what a picture is, photograph or drawing, how much it was compressed, or that it is a mosaic.";
      pack.card.labels = JudgeLabels();
      pack.card.recommends = JudgeRecommendations();
    }
    json training = json::parse(Settings());
    training.erase("parameters");
    training.erase("architecture");
    training["steps"] = step_;
    training["hours"] = std::round(static_cast<double>(elapsed_us_) / 36e6) / 100;
    training["device"] = options_.device;
    if (!options_.source.empty()) training["source"] = options_.source;
    json validation = json::object();
    for (const Measure& measure : measures) validation[measure.name] = std::round(measure.value * 1e4) / 1e4;
    const json card = {{"training", training}, {"validation", validation}};
    pack.card.card_json = card.dump(-1, ' ', false, json::error_handler_t::replace);
    pack.weights = ToHost(optimiser_->averaged(), at::kHalf);
    return pack;
  }

  // Validates the averaged weights, logs the result, writes the pack and the checkpoint.
  Status Publish() {
    const std::unique_ptr<TrainableNet> averaged = MakeTrainableTileNet(shape_);
    averaged->MoveTo(device_);
    NSIC_RETURN_IF_ERROR(CopyInto(optimiser_->averaged(), averaged->weights()));
    const std::vector<Measure> measures = Validate(*averaged);
    std::ostringstream row, line;
    row << std::fixed << step_ << "," << std::setprecision(2) << static_cast<double>(elapsed_us_) / 60e6 << "," << std::setprecision(8)
        << rate_ << "," << std::setprecision(5) << recent_loss_;
    line << std::fixed << std::setprecision(4) << "validation after step " << step_ << ":";
    for (const Measure& measure : measures) {
      row << "," << measure.value;
      line << "  " << measure.name << " " << measure.value;
    }
    progress_ << line.str() << std::endl;
    log_ += row.str() + "\n";
    NSIC_RETURN_IF_ERROR(WriteFileAtomically(LogPath(), log_));
    NSIC_RETURN_IF_ERROR(WriteFileAtomically(options_.state + "/curve.svg", CurveSvg(log_, "on pictures held back, over steps")));
    NSIC_RETURN_IF_ERROR(WriteModelPack(options_.out, Pack(measures)));
    return Save();
  }

  const FitJudgeOptions& options_;
  const bool scores_;  // else it classifies
  const TileNetShape shape_;
  const Clock& clock_;
  const std::atomic<bool>& stop_;
  std::ostream& progress_;
  const at::Device device_;
  std::vector<TrainingData> data_;
  JudgePictures pictures_, validation_;  // point into data_
  json summary_ = json::object();
  std::vector<std::unique_ptr<TrainableNet>> replicas_;  // one a shard, all with the first one's weights
  std::unique_ptr<Optimiser> optimiser_;
  std::string log_;
  int64_t step_ = 0;
  int64_t elapsed_us_ = 0;
  int64_t started_us_ = 0;
  double rate_ = 0;
  double recent_loss_ = 0;
};

}  // namespace

Status FitJudge(const FitJudgeOptions& options, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress) {
  NSIC_RETURN_IF_ERROR(CheckOptions(options));
  try {
    return JudgeTrainer(options, clock, stop, progress).Run();
  } catch (const c10::Error& error) {
    return InternalError(std::string("LibTorch failed: ") + error.what_without_backtrace());
  }
}

}  // namespace nsic
