#include "models/train/fit/training_run.h"

#include <dlfcn.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iomanip>
#include <map>
#include <sstream>
#include <utility>
#include <vector>

#include "core/base/files.h"
#include "models/io/model_pack.h"
#include "models/train/fit/curve.h"
#include "models/train/fit/export.h"
#include "models/train/fit/start_from.h"

namespace nsic {
namespace {

using at::Tensor;
using nlohmann::json;

constexpr int64_t kProgressUs = 15'000'000;
constexpr int64_t kCheckpointUs = 120'000'000;

double Minutes(int64_t us) { return static_cast<double>(us) / 60e6; }

Status CheckOptions(const RunOptions& options) {
  if ((options.steps > 0) == (options.minutes > 0)) return InvalidArgumentError("give either steps or minutes");
  if (options.threads < 1) return InvalidArgumentError("training needs at least one thread");
  if (options.batch < options.threads) return InvalidArgumentError("the batch must hold at least one sample a thread");
  if (!(options.learning_rate > 0)) return InvalidArgumentError("the learning rate must be positive");
  if (options.warm_up < 1) return InvalidArgumentError("the warm-up takes at least one step");
  if (!(options.validate_minutes > 0)) return InvalidArgumentError("the time between validations must be positive");
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

// How an earlier run was trained, but for what is as in the `later` one; null says that the earlier one did not have it. Else the card of a
// pack that came about in ten runs would say ten times what the data were.
json WhatDiffers(const json& earlier, const json& later) {
  json differing = earlier;
  for (const auto& [name, value] : later.items()) {
    if (!earlier.contains(name)) {
      differing[name] = nullptr;
    } else if (earlier[name] == value) {
      differing.erase(name);
    }
  }
  return differing;
}

// Whether the run that made the pack `from`, an element of a card's "from", or one before it, started from the pack `identity`.
bool Mentions(const json& from, const json& identity) {
  if (!from.contains("training") || !from["training"].contains("from") || !from["training"]["from"].is_array()) return false;
  const json& earlier = from["training"]["from"];
  return std::any_of(earlier.begin(), earlier.end(),
                     [&](const json& one) { return one.value("identity", json()) == identity || Mentions(one, identity); });
}

std::string LogPath(const std::string& state) { return state + "/log.csv"; }

// Debian's LibTorch multiplies matrices with OpenBLAS, whose threads are not LibTorch's and wait by spinning: beside shards with a thread
// each they took a third of the machine.
void LeaveThreadsToShards() {
  using SetThreads = void (*)(int);
  if (const auto set = reinterpret_cast<SetThreads>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"))) set(1);
}

}  // namespace

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

TrainingRun::TrainingRun(const RunOptions& options, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress)
    : options_(options), clock_(clock), stop_(stop), progress_(progress), device_(options.device) {}

Status TrainingRun::Run() {
  NSIC_RETURN_IF_ERROR(CheckOptions(options_));
  NSIC_RETURN_IF_ERROR(Open());
  LeaveThreadsToShards();
  torch::manual_seed(options_.seed);
  for (int64_t shard = 0; shard < options_.threads; ++shard) {
    NSIC_ASSIGN_OR_RETURN(std::unique_ptr<TrainableNet> net, MakeNet());
    net->MoveTo(device_);
    if (shard > 0) net->ShareWeightsOf(*replicas_[0]);
    replicas_.push_back(std::move(net));
  }
  NSIC_RETURN_IF_ERROR(Begin());
  optimiser_ = std::make_unique<Optimiser>(replicas_[0]->weights(), compute_type());
  NSIC_RETURN_IF_ERROR(Resume());
  return Train();
}

// With what the packs to start from have learnt.
Status TrainingRun::Begin() {
  const json settings = json::parse(AllSettings());
  const auto architecture = settings.at("architecture").get<std::string>();
  const auto parameters = settings.at("parameters").get<std::map<std::string, int64_t>>();
  std::map<std::string, std::vector<ModelPack>> of_architecture;
  for (const std::string& folder : options_.from) {
    NSIC_ASSIGN_OR_RETURN(ModelPack pack, ReadModelPack(folder));
    // Each by itself, so that an error names its folder; the mean of those of one network comes after.
    const Status begun = StartFrom(pack, architecture, parameters, device_, replicas_[0].get());
    if (!begun.ok()) return begun.WithContext(folder);
    const json card = json::parse(pack.card.card_json, nullptr, /*allow_exceptions=*/false);
    json from = {{"identity", PackIdentity(pack.card)}, {"name", pack.card.name}};
    if (card.is_object() && card.contains("training")) {
      json training = card["training"];
      training["architecture"] = pack.card.architecture;
      training["parameters"] = pack.card.parameters;
      from["training"] = WhatDiffers(training, settings);
    }
    from_.push_back(std::move(from));
    of_architecture[pack.card.architecture].push_back(std::move(pack));
  }
  for (json& from : from_) {
    const auto told = [&](const json& other) { return Mentions(other, from["identity"]); };
    if (std::any_of(from_.begin(), from_.end(), told)) from.erase("training");
  }
  for (const auto& [shared, packs] : of_architecture) {
    if (packs.size() == 1) continue;
    NSIC_ASSIGN_OR_RETURN(const ModelPack mean, MeanOf(packs));
    NSIC_RETURN_IF_ERROR(StartFrom(mean, architecture, parameters, device_, replicas_[0].get()));
  }
  return OkStatus();
}

Status TrainingRun::Train() {
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
    if (Minutes(elapsed_us_ - validated_us) >= options_.validate_minutes) {
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

Result<TrainingData> TrainingRun::OpenToLearn(const std::vector<std::string>& paths, int64_t smallest) const {
  NSIC_ASSIGN_OR_RETURN(TrainingData data, OpenTrainingData(paths, options_.state, smallest, progress_));
  for (size_t i = 0; i < paths.size(); ++i) {
    if (options_.source.empty() && data.corpora[i]->sources().empty()) {
      return InvalidArgumentError(paths[i] + " does not say where its pictures are from, and under which licences; give --source");
    }
  }
  return data;
}

double TrainingRun::Done() const {
  return options_.steps > 0 ? static_cast<double>(step_) / static_cast<double>(options_.steps) : Minutes(elapsed_us_) / options_.minutes;
}

// Adds the gradients of the shard's part of the batch to the shard's replica; the part's contribution to the loss.
double TrainingRun::Learn(int64_t shard) {
  at::set_num_threads(1);
  const int64_t first = options_.batch * shard / options_.threads, last = options_.batch * (shard + 1) / options_.threads;
  const int64_t done = step_ * options_.batch;
  const Tensor loss = LossOf(replicas_[static_cast<size_t>(shard)].get(), done + first, done + last) / static_cast<double>(options_.batch);
  loss.backward();
  return loss.item<double>();
}

// Moves one of the weights against the sum of the replicas' gradients.
void TrainingRun::Move(const std::string& name) {
  const at::NoGradGuard no_grad;
  for (size_t shard = 1; shard < replicas_.size(); ++shard) {
    Tensor& gradient = replicas_[shard]->weights().at(name).mutable_grad();
    replicas_[0]->weights().at(name).mutable_grad().add_(gradient);
    gradient.zero_();
  }
  optimiser_->Step(name, step_, rate_);
}

// The loss.
double TrainingRun::Step() {
  double loss = 0;
  for (double part : InShards([this](int64_t shard) { return Learn(shard); })) loss += part;
  rate_ = LearningRate(options_.learning_rate, options_.warm_up, step_, Done());
  ++step_;
  std::atomic<size_t> next = 0;
  InShards([&](int64_t) {
    at::set_num_threads(1);
    for (size_t i = next++; i < optimiser_->names().size(); i = next++) Move(optimiser_->names()[i]);
    return 0;
  });
  return loss;
}

void TrainingRun::Report(double steps_per_second) {
  std::ostringstream line;
  line << std::fixed << std::setprecision(1) << "step " << step_ << "  " << Minutes(elapsed_us_) << " min  " << 100 * Done() << "%  loss "
       << std::setprecision(4) << recent_loss_ << "  rate " << std::scientific << std::setprecision(2) << rate_ << "  "
       << SpeedText(steps_per_second * static_cast<double>(options_.batch));
  progress_ << line.str() << std::endl;
}

std::string TrainingRun::AllSettings() const {
  json settings = Settings();
  settings["batch"] = options_.batch;
  settings["seed"] = options_.seed;
  settings["threads"] = options_.threads;
  settings["learning_rate"] = options_.learning_rate;
  settings["warm_up"] = options_.warm_up;
  settings["bfloat16"] = options_.bfloat16;
  if (!from_.is_null()) settings["from"] = from_;
  return settings.dump();
}

Status TrainingRun::Resume() {
  NSIC_RETURN_IF_ERROR(MakeFolders(options_.state));
  const std::string path = CheckpointPath(options_.state);
  Result<Checkpoint> checkpoint = ReadCheckpoint(path);
  log_ = "step,minutes,learning_rate,loss";
  for (const std::string& column : Columns()) log_ += "," + column;
  log_ += "\n";
  if (checkpoint.status().code() == StatusCode::kNotFound) return OkStatus();
  if (!checkpoint.ok()) return checkpoint.status();
  if (checkpoint->settings != AllSettings()) {
    return FailedPreconditionError(path + " is of a run with other settings: " + checkpoint->settings +
                                   "; give those, or another state folder");
  }
  NSIC_RETURN_IF_ERROR(CopyInto(checkpoint->weights, replicas_[0]->weights()));
  NSIC_RETURN_IF_ERROR(CopyInto(checkpoint->averaged, optimiser_->averaged()));
  NSIC_RETURN_IF_ERROR(CopyInto(checkpoint->statistics, replicas_[0]->statistics()));
  NSIC_RETURN_IF_ERROR(CopyInto(checkpoint->mean, optimiser_->mean()));
  NSIC_RETURN_IF_ERROR(CopyInto(checkpoint->variance, optimiser_->variance()));
  const json notes = json::parse(checkpoint->notes, nullptr, /*allow_exceptions=*/false);
  if (!notes.is_object() || !notes.contains("validation")) return DataLossError(path + " is damaged");
  validated_ = notes["validation"];
  step_ = checkpoint->step;
  elapsed_us_ = checkpoint->elapsed_us;
  Result<std::string> log = ReadFile(LogPath(options_.state));
  if (log.ok()) {
    log_ = RowsUntil(*log, step_);
  } else if (log.status().code() != StatusCode::kNotFound) {
    return log.status();
  }
  progress_ << "resumed after step " << step_ << std::endl;
  return OkStatus();
}

Checkpoint TrainingRun::Now() {
  json notes = {{"name", options_.name}, {"licence", options_.licence}, {"device", options_.device}, {"validation", validated_}};
  if (!options_.source.empty()) notes["source"] = options_.source;
  Checkpoint checkpoint;
  checkpoint.settings = AllSettings();
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

Status TrainingRun::Save() { return WriteCheckpoint(CheckpointPath(options_.state), Now()); }

// Validates the averaged weights, logs the result, writes the pack and the checkpoint.
Status TrainingRun::Publish() {
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<TrainableNet> averaged, MakeNet());
  averaged->MoveTo(device_);
  averaged->SetLearning(false);
  NSIC_RETURN_IF_ERROR(CopyInto(optimiser_->averaged(), averaged->weights()));
  NSIC_RETURN_IF_ERROR(CopyInto(replicas_[0]->statistics(), averaged->statistics()));
  const Validation validation = Validate(averaged.get());
  validated_ = validation.card;
  validated_["step"] = step_;
  progress_ << "validation after step " << step_ << ": " << validation.line << std::endl;
  std::ostringstream row;
  row << std::fixed << step_ << "," << std::setprecision(2) << Minutes(elapsed_us_) << "," << std::setprecision(8) << rate_ << ","
      << std::setprecision(5) << recent_loss_ << "," << validation.cells << "\n";
  log_ += row.str();
  NSIC_RETURN_IF_ERROR(WriteFileAtomically(LogPath(options_.state), log_));
  NSIC_RETURN_IF_ERROR(WriteFileAtomically(options_.state + "/curve.svg", CurveSvg(log_, CurveTitle())));
  const Checkpoint checkpoint = Now();
  NSIC_ASSIGN_OR_RETURN(const ModelPack pack, PackOf(checkpoint));
  NSIC_RETURN_IF_ERROR(WriteModelPack(options_.out, pack));
  return WriteCheckpoint(CheckpointPath(options_.state), checkpoint);
}

}  // namespace nsic
