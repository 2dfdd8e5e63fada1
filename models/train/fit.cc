#include "models/train/fit.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <iomanip>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "core/base/files.h"
#include "models/arch/trainable_net.h"
#include "models/arch/weights.h"
#include "models/io/model_pack.h"
#include "models/io/usual_tiling.h"
#include "models/train/checkpoint.h"
#include "models/train/curve.h"
#include "models/train/export.h"
#include "models/train/losses.h"
#include "models/train/optimiser.h"
#include "models/train/pairs.h"
#include "models/train/recipe.h"

namespace nsic {
namespace {

using at::Tensor;
using nlohmann::json;

constexpr size_t kValidationPictures = 24;  // at most, evenly spaced in the collection

constexpr int64_t kProgressUs = 15'000'000;
constexpr int64_t kCheckpointUs = 120'000'000;

// Everything that a pack of the network holds.
NamedTensors Everything(const TrainableNet& net, NamedTensors weights) {
  weights.insert(net.statistics().begin(), net.statistics().end());
  return weights;
}

// Overwrites `to` with `from`; FAILED_PRECONDITION unless names and shapes agree.
Status CopyInto(const NamedTensors& from, const NamedTensors& to) {
  const at::NoGradGuard no_grad;
  if (from.size() != to.size()) return FailedPreconditionError("the checkpoint is of another network");
  for (const auto& [name, tensor] : to) {
    const auto found = from.find(name);
    if (found == from.end() || found->second.sizes() != tensor.sizes()) {
      return FailedPreconditionError("the checkpoint is of another network: '" + name + "' differs");
    }
    tensor.copy_(found->second);
  }
  return OkStatus();
}

// What a validation case measured: dB over R, G and B, mean of the pictures' values.
struct Score {
  double before = 0;
  double after = 0;
};

double Psnr(const Tensor& a, const Tensor& b) {  // of 8-bit values
  constexpr double kBest = 100;                  // of equal pictures: infinity would hide the others in a mean
  const double error = (a - b).square().mean().item<double>();
  return error > 0 ? std::min(kBest, 10 * std::log10(255.0 * 255.0 / error)) : kBest;
}

// Measures `net` in fp32 on every `stride`th picture from `first` on; a case's share of the mean over all.
std::vector<Score> ValidateSome(TrainableNet& net, int64_t multiple, const std::vector<CorpusPicture>& pictures,
                                const std::vector<ValidationCase>& cases, size_t first, size_t stride, const at::Device& device) {
  const at::NoGradGuard no_grad;
  at::set_num_threads(1);
  std::vector<Score> scores(cases.size());
  const size_t count = std::min(pictures.size(), kValidationPictures);
  for (size_t i = first; i < count; i += stride) {
    const CorpusPicture& picture = pictures[i * pictures.size() / count];
    const Tensor original = WholePicture(picture, device);
    for (size_t c = 0; c < cases.size(); ++c) {
      const Tensor degraded = Degrade(original, {i}, cases[c].degradation);
      const Tensor padded = at::replication_pad2d(degraded, {0, -picture.width & (multiple - 1), 0, -picture.height & (multiple - 1)});
      const Tensor restored = net.Forward(padded / 255.0, at::kFloat).narrow(2, 0, picture.height).narrow(3, 0, picture.width);
      scores[c].before += Psnr(degraded, original) / static_cast<double>(count);
      scores[c].after += Psnr(restored.mul(255.0).round().clamp(0.0, 255.0), original) / static_cast<double>(count);
    }
  }
  return scores;
}

Status CheckOptions(const FitOptions& options) {
  if ((options.steps > 0) == (options.minutes > 0)) return InvalidArgumentError("give either steps or minutes");
  if (options.threads < 1) return InvalidArgumentError("training needs at least one thread");
  if (options.batch < options.threads) return InvalidArgumentError("the batch must hold at least one crop a thread");
  if (options.patch < 16 || options.patch % 16 != 0) return InvalidArgumentError("the side of a crop must be a multiple of 16");
  if (!(options.learning_rate > 0)) return InvalidArgumentError("the learning rate must be positive");
  if (!(options.validate_minutes > 0)) return InvalidArgumentError("the time between validations must be positive");
  if (options.data.empty() || options.validation.empty()) return InvalidArgumentError("training needs data and validation data");
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

// One training run; the members are what its steps share.
class Trainer {
 public:
  Trainer(const FitOptions& options, Recipe recipe, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress)
      : options_(options), recipe_(std::move(recipe)), clock_(clock), stop_(stop), progress_(progress), device_(options.device) {}

  Status Run() {
    NSIC_ASSIGN_OR_RETURN(parameters_, UsualParameters(options_.architecture));
    for (const auto& [name, value] : options_.parameters) parameters_[name] = value;
    NSIC_ASSIGN_OR_RETURN(data_, OpenTrainingData(options_.data, options_.state, options_.patch, progress_));
    NSIC_ASSIGN_OR_RETURN(validation_, OpenTrainingData(options_.validation, options_.state, 16, progress_));
    for (size_t i = 0; i < options_.data.size(); ++i) {
      if (options_.source.empty() && data_.corpora[i]->sources().empty()) {
        return InvalidArgumentError(options_.data[i] +
                                    " does not say where its pictures are from, and under which licences; give --source");
      }
    }
    torch::manual_seed(options_.seed);
    for (int64_t shard = 0; shard < options_.threads; ++shard) {
      NSIC_ASSIGN_OR_RETURN(std::unique_ptr<TrainableNet> net, MakeTrainableNet(options_.architecture, parameters_));
      net->MoveTo(device_);
      if (shard > 0) net->ShareWeightsOf(*replicas_[0]);
      replicas_.push_back(std::move(net));
    }
    if (!options_.from.empty()) NSIC_RETURN_IF_ERROR(StartFrom(options_.from));
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
  double Done() const {
    return options_.steps > 0 ? static_cast<double>(step_) / static_cast<double>(options_.steps)
                              : static_cast<double>(elapsed_us_) / (options_.minutes * 60e6);
  }

  // Runs `work(shard)` for each shard, at once, one thread each, and gives the results in order. LibTorch's own threads meet at a barrier
  // in every operation, which on a machine with other work costs up to twenty times the work itself; these meet once.
  template <typename Work>
  auto InShards(Work work) {
    std::vector<std::future<decltype(work(int64_t{0}))>> futures;
    for (int64_t shard = 1; shard < options_.threads; ++shard) futures.push_back(std::async(std::launch::async, work, shard));
    std::vector<decltype(work(int64_t{0}))> results = {work(0)};
    for (auto& future : futures) results.push_back(future.get());
    return results;
  }

  // Adds the gradients of the shard's part of the batch to the shard's replica; the part's contribution to the loss.
  double Learn(int64_t shard) {
    at::set_num_threads(1);
    const int64_t first = options_.batch * shard / options_.threads, last = options_.batch * (shard + 1) / options_.threads;
    const int64_t done = step_ * options_.batch;
    const Pair pair = MakePairs(data_.pictures, recipe_.degradation, options_.patch, options_.seed, done + first, done + last, device_);
    const Tensor output = replicas_[static_cast<size_t>(shard)]->Forward(pair.input, options_.bfloat16 ? at::kBFloat16 : at::kFloat);
    const Tensor loss = Loss(output, pair.target, recipe_.loss).sum() / static_cast<double>(options_.batch);
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
         << rate_ << "  " << std::fixed << std::setprecision(2)
         << steps_per_second * static_cast<double>(options_.batch * options_.patch * options_.patch) / 1e6 << " MP/s";
    progress_ << line.str() << std::endl;
  }

  std::string LogPath() const { return options_.state + "/log.csv"; }

  std::string Settings() const {
    const json settings = {{"architecture", options_.architecture},
                           {"parameters", parameters_},
                           {"from", from_identity_},
                           {"batch", options_.batch},
                           {"patch", options_.patch},
                           {"seed", options_.seed},
                           {"threads", options_.threads},
                           {"data", json::parse(data_.summary)},
                           {"recipe", json::parse(recipe_.json)},
                           {"learning_rate", options_.learning_rate},
                           {"bfloat16", options_.bfloat16}};
    return settings.dump();
  }

  // Overwrites the new network's tensors with those of the pack.
  Status StartFrom(const std::string& folder) {
    NSIC_ASSIGN_OR_RETURN(const ModelPack pack, ReadModelPack(folder));
    if (pack.card.architecture != options_.architecture || pack.card.parameters != parameters_) {
      return InvalidArgumentError(folder + " is of another network: architecture " + pack.card.architecture + " with the parameters " +
                                  json(pack.card.parameters).dump() + "; give those with --architecture and the like");
    }
    WeightReader reader(pack.weights, device_);
    NamedTensors tensors;
    for (const auto& [name, tensor] : Everything(*replicas_[0], replicas_[0]->weights())) {
      tensors.emplace(name, reader.Take(name, tensor.sizes()));
    }
    const Status taken = reader.Finish();
    if (!taken.ok()) return taken.WithContext(folder);
    from_identity_ = PackIdentity(pack.card);
    return CopyInto(tensors, Everything(*replicas_[0], replicas_[0]->weights()));
  }

  Status Resume() {
    NSIC_RETURN_IF_ERROR(MakeFolders(options_.state));
    Result<Checkpoint> checkpoint = ReadCheckpoint(CheckpointPath(options_.state));
    log_ = "step,minutes,learning_rate,loss";
    for (const ValidationCase& measured : recipe_.validation) log_ += "," + measured.name + "_before," + measured.name + "_after";
    log_ += "\n";
    if (checkpoint.status().code() == StatusCode::kNotFound) return OkStatus();
    if (!checkpoint.ok()) return checkpoint.status();
    if (checkpoint->settings != Settings()) {
      return FailedPreconditionError(CheckpointPath(options_.state) + " is of a run with other settings: " + checkpoint->settings +
                                     "; give those, or another state folder");
    }
    NSIC_RETURN_IF_ERROR(CopyInto(checkpoint->weights, replicas_[0]->weights()));
    NSIC_RETURN_IF_ERROR(CopyInto(checkpoint->averaged, optimiser_->averaged()));
    NSIC_RETURN_IF_ERROR(CopyInto(checkpoint->statistics, replicas_[0]->statistics()));
    NSIC_RETURN_IF_ERROR(CopyInto(checkpoint->mean, optimiser_->mean()));
    NSIC_RETURN_IF_ERROR(CopyInto(checkpoint->variance, optimiser_->variance()));
    const json notes = json::parse(checkpoint->notes, nullptr, /*allow_exceptions=*/false);
    if (!notes.is_object() || !notes.contains("validation")) return DataLossError(CheckpointPath(options_.state) + " is damaged");
    validated_ = notes["validation"];
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
    json notes = {{"name", options_.name}, {"licence", options_.licence}, {"device", options_.device}, {"validation", validated_}};
    if (!options_.source.empty()) notes["source"] = options_.source;
    Checkpoint checkpoint;
    checkpoint.settings = Settings();
    checkpoint.notes = notes.dump(-1, ' ', false, json::error_handler_t::replace);
    checkpoint.step = step_;
    checkpoint.elapsed_us = elapsed_us_;
    checkpoint.weights = replicas_[0]->weights();
    checkpoint.averaged = optimiser_->averaged();
    checkpoint.statistics = replicas_[0]->statistics();
    checkpoint.mean = optimiser_->mean();
    checkpoint.variance = optimiser_->variance();
    return checkpoint;
  }

  Status Save() { return WriteCheckpoint(CheckpointPath(options_.state), Now()); }

  // Validates the averaged weights, logs the result, writes the pack and the checkpoint.
  Status Publish() {
    NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<TrainableNet> averaged, MakeTrainableNet(options_.architecture, parameters_));
    averaged->MoveTo(device_);
    averaged->SetLearning(false);
    NSIC_RETURN_IF_ERROR(CopyInto(optimiser_->averaged(), averaged->weights()));
    NSIC_RETURN_IF_ERROR(CopyInto(replicas_[0]->statistics(), averaged->statistics()));
    const int64_t multiple = UsualTiling(options_.architecture, parameters_).multiple;
    const auto parts = InShards([&](int64_t shard) {
      return ValidateSome(*averaged, multiple, validation_.pictures, recipe_.validation, static_cast<size_t>(shard),
                          static_cast<size_t>(options_.threads), device_);
    });
    std::ostringstream row, line;
    row << std::fixed << step_ << "," << std::setprecision(2) << static_cast<double>(elapsed_us_) / 60e6 << "," << std::setprecision(8)
        << rate_ << "," << std::setprecision(5) << recent_loss_;
    line << std::fixed << std::setprecision(3) << "validation after step " << step_ << ":";
    json measured = json::array();
    for (size_t i = 0; i < recipe_.validation.size(); ++i) {
      const std::string& name = recipe_.validation[i].name;
      Score score;
      for (const std::vector<Score>& part : parts) {
        score.before += part[i].before;
        score.after += part[i].after;
      }
      row << "," << std::setprecision(4) << score.before << "," << score.after;
      line << "  " << name << " " << score.before << " -> " << score.after << " (" << std::showpos << score.after - score.before
           << std::noshowpos << ")";
      measured.push_back(
          {{"name", name}, {"before", std::round(score.before * 1000) / 1000}, {"after", std::round(score.after * 1000) / 1000}});
    }
    validated_ = {{"data", json::parse(validation_.summary)}, {"step", step_}, {"psnr_rgb", measured}};
    progress_ << line.str() << std::endl;
    log_ += row.str() + "\n";
    NSIC_RETURN_IF_ERROR(WriteFileAtomically(LogPath(), log_));
    NSIC_RETURN_IF_ERROR(WriteFileAtomically(options_.state + "/curve.svg", CurveSvg(log_)));
    const Checkpoint checkpoint = Now();
    NSIC_ASSIGN_OR_RETURN(const ModelPack pack, PackOf(checkpoint));
    NSIC_RETURN_IF_ERROR(WriteModelPack(options_.out, pack));
    return WriteCheckpoint(CheckpointPath(options_.state), checkpoint);
  }

  const FitOptions& options_;
  const Recipe recipe_;
  const Clock& clock_;
  const std::atomic<bool>& stop_;
  std::ostream& progress_;
  const at::Device device_;
  std::map<std::string, int64_t> parameters_;
  std::string from_identity_;  // of the pack that the run started from, if it did
  TrainingData data_;
  TrainingData validation_;
  std::vector<std::unique_ptr<TrainableNet>> replicas_;  // one a shard, all with the first one's weights
  std::unique_ptr<Optimiser> optimiser_;
  std::string log_;
  json validated_ = json::object();  // what the last validation measured, for the card
  int64_t step_ = 0;
  int64_t elapsed_us_ = 0;
  int64_t started_us_ = 0;
  double rate_ = 0;
  double recent_loss_ = 0;
};

}  // namespace

Status Fit(const FitOptions& options, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress) {
  NSIC_RETURN_IF_ERROR(CheckOptions(options));
  NSIC_ASSIGN_OR_RETURN(Recipe recipe, LoadRecipe(options.recipe));
  try {
    return Trainer(options, std::move(recipe), clock, stop, progress).Run();
  } catch (const c10::Error& error) {
    return InternalError(std::string("LibTorch failed: ") + error.what_without_backtrace());
  }
}

}  // namespace nsic
