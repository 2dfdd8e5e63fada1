#include "models/train/fit.h"

#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>
#include <iomanip>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "core/base/files.h"
#include "models/arch/light_net.h"
#include "models/io/model_pack.h"
#include "models/train/checkpoint.h"
#include "models/train/corpus.h"
#include "models/train/jpeg_simulation.h"

namespace nsic {
namespace {

using at::Tensor;
using nlohmann::json;

// The degradation. Low qualities come more often: there is more to learn, and it takes longer.
constexpr int kLowestQuality = 10;
constexpr int kHighestQuality = 95;
constexpr double kQualitySkew = 1.6;    // quality = lowest + range * u^skew
constexpr double kCleanShare = 0.03;    // crops that are not compressed: the network must leave good pictures alone
constexpr double kHalvedChroma = 0.75;  // of the crops are 4:2:0, the others 4:4:4

constexpr int64_t kWarmUpSteps = 500;
constexpr double kAdamBeta1 = 0.9;
constexpr double kAdamBeta2 = 0.99;
constexpr double kAdamEpsilon = 1e-8;
constexpr double kAverageDecay = 0.999;
// The loss is log(mean squared error + this), so that a crop counts by decibels; the constant keeps nearly perfect crops from ruling.
constexpr double kErrorFloor = 5e-4;

constexpr size_t kValidationPictures = 24;  // at most, evenly spaced in the collection
constexpr int kValidationQualities[] = {10, 40, 90};

constexpr int64_t kProgressUs = 15'000'000;
constexpr int64_t kCheckpointUs = 120'000'000;

// SplitMix64 (Steele, Lea, Flood 2014). Every crop seeds its own, so what is drawn depends neither on where a
// run was broken and resumed nor on how many threads share a batch.
class Random {
 public:
  Random(uint64_t seed, int64_t index) : state_(seed * 0xd1342543de82ef95ull ^ static_cast<uint64_t>(index) * 0x2545f4914f6cdd1dull) {
    Next();
  }
  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  int64_t Below(int64_t bound) { return static_cast<int64_t>(Next() % static_cast<uint64_t>(bound)); }
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

 private:
  uint64_t state_;
};

struct Pair {
  Tensor input;  // N x 3 x h x w in [0, 1]
  Tensor target;
};

// Crops `first` to `last` of the endless sequence of crops that the seed stands for, as pairs.
Pair MakePairs(const std::vector<CorpusPicture>& pictures, const FitOptions& options, int64_t first, int64_t last,
               const at::Device& device) {
  struct Group {
    ChromaSampling sampling;
    std::vector<Tensor> crops;
    std::vector<int64_t> quality;
    std::vector<uint8_t> clean;
  };
  std::array<Group, 2> groups = {Group{ChromaSampling::k420, {}, {}, {}}, Group{ChromaSampling::k444, {}, {}, {}}};
  const int64_t side = options.patch;
  for (int64_t index = first; index < last; ++index) {
    Random random(options.seed, index);
    const CorpusPicture& picture = pictures[static_cast<size_t>(random.Below(static_cast<int64_t>(pictures.size())))];
    const int64_t x = random.Below(picture.width - side + 1), y = random.Below(picture.height - side + 1);
    Tensor crop = torch::empty({side, side, 3}, at::kByte);
    uint8_t* out = crop.data_ptr<uint8_t>();
    for (int64_t row = 0; row < side; ++row) {
      std::memcpy(out + row * side * 3, picture.rgb + ((y + row) * picture.width + x) * 3, static_cast<size_t>(side) * 3);
    }
    crop = crop.permute({2, 0, 1});
    const uint64_t turn = random.Next();
    if (turn & 1) crop = crop.flip(1);
    if (turn & 2) crop = crop.flip(2);
    if (turn & 4) crop = crop.transpose(1, 2);
    Group& group = groups[random.Unit() < kHalvedChroma ? 0 : 1];
    group.crops.push_back(crop);
    const double range = kHighestQuality - kLowestQuality;
    group.quality.push_back(std::lround(kLowestQuality + range * std::pow(random.Unit(), kQualitySkew)));
    group.clean.push_back(random.Unit() < kCleanShare);
  }
  std::vector<Tensor> inputs, targets;
  for (const Group& group : groups) {
    if (group.crops.empty()) continue;
    const Tensor target = at::stack(group.crops).to(device).to(at::kFloat);
    const Tensor clean = torch::tensor(group.clean, at::kByte).to(at::kBool).view({-1, 1, 1, 1}).to(device);
    inputs.push_back(at::where(clean, target, SimulateJpeg(target, torch::tensor(group.quality, at::kLong), group.sampling)));
    targets.push_back(target);
  }
  return {at::cat(inputs).div_(255.0), at::cat(targets).div_(255.0)};
}

NamedTensors Named(const LightNet& net) {
  NamedTensors tensors;
  for (const auto& item : net->named_parameters()) tensors.emplace(item.key(), item.value());
  return tensors;
}

NamedTensors Zeros(const NamedTensors& like) {
  NamedTensors zeros;
  for (const auto& [name, tensor] : like) zeros.emplace(name, at::zeros_like(tensor.detach()));
  return zeros;
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

// Adam (Kingma, Ba 2015) and the average of the weights. Our own, because the layout of LibTorch's optimiser state differs between its
// versions and a checkpoint must not.
class Optimiser {
 public:
  explicit Optimiser(const NamedTensors& weights) : weights_(weights), mean_(Zeros(weights)), variance_(Zeros(weights)) {
    for (const auto& [name, tensor] : weights) averaged_.emplace(name, tensor.detach().clone());
  }

  // `step` counts from 1.
  void Step(int64_t step, double learning_rate) {
    const at::NoGradGuard no_grad;
    const double t = static_cast<double>(step);
    const double rate = learning_rate * std::sqrt(1 - std::pow(kAdamBeta2, t)) / (1 - std::pow(kAdamBeta1, t));
    const double decay = std::min(kAverageDecay, (1 + t) / (10 + t));  // forget the beginning quickly
    for (auto& [name, weight] : weights_) {
      Tensor& gradient = weight.mutable_grad();
      Tensor& mean = mean_.at(name);
      Tensor& variance = variance_.at(name);
      mean.lerp_(gradient, 1 - kAdamBeta1);
      variance.mul_(kAdamBeta2).addcmul_(gradient, gradient, 1 - kAdamBeta2);
      weight.addcdiv_(mean, variance.sqrt().add_(kAdamEpsilon), -rate);
      averaged_.at(name).lerp_(weight, 1 - decay);
      gradient.zero_();
    }
  }

  const NamedTensors& averaged() const { return averaged_; }
  const NamedTensors& mean() const { return mean_; }
  const NamedTensors& variance() const { return variance_; }

 private:
  NamedTensors weights_;
  NamedTensors mean_;
  NamedTensors variance_;
  NamedTensors averaged_;
};

double LearningRate(const FitOptions& options, int64_t step, double done) {
  const double warm = std::min(1.0, static_cast<double>(step + 1) / static_cast<double>(kWarmUpSteps));
  return options.learning_rate * warm * 0.5 * (1 + std::cos(M_PI * std::clamp(done, 0.0, 1.0)));
}

struct Validation {
  int quality = 0;
  double jpeg_psnr = 0;  // dB over R, G and B, mean of the pictures' values
  double restored_psnr = 0;
};

double Psnr(const Tensor& a, const Tensor& b) {  // of 8-bit values
  constexpr double kBest = 100;                  // of equal pictures: infinity would hide the others in a mean
  const double error = (a - b).square().mean().item<double>();
  return error > 0 ? std::min(kBest, 10 * std::log10(255.0 * 255.0 / error)) : kBest;
}

// Measures `net` in fp32 on simulated 4:2:0 JPEGs of every `stride`th picture from `first` on; the sums over the pictures.
std::vector<Validation> ValidateSome(const LightNet& net, const std::vector<CorpusPicture>& pictures, size_t first, size_t stride,
                                     const at::Device& device) {
  const at::NoGradGuard no_grad;
  at::set_num_threads(1);
  std::vector<Validation> rows;
  for (int quality : kValidationQualities) rows.push_back({quality});
  const size_t count = std::min(pictures.size(), kValidationPictures);
  for (size_t i = first; i < count; i += stride) {
    const CorpusPicture& picture = pictures[i * pictures.size() / count];
    const Tensor bytes = torch::from_blob(const_cast<uint8_t*>(picture.rgb), {1, picture.height, picture.width, 3}, at::kByte);
    const Tensor original = bytes.permute({0, 3, 1, 2}).to(device).to(at::kFloat).contiguous();
    for (Validation& row : rows) {
      const Tensor jpeg = SimulateJpeg(original, torch::full({1}, row.quality, at::kLong), ChromaSampling::k420);
      const Tensor padded = at::replication_pad2d(jpeg, {0, picture.width % 2, 0, picture.height % 2});
      const Tensor restored = net->forward(padded / 255.0).narrow(2, 0, picture.height).narrow(3, 0, picture.width);
      row.jpeg_psnr += Psnr(jpeg, original) / static_cast<double>(count);
      row.restored_psnr += Psnr(restored.mul(255.0).round().clamp(0.0, 255.0), original) / static_cast<double>(count);
    }
  }
  return rows;
}

struct Data {
  std::vector<std::unique_ptr<Corpus>> corpora;
  std::vector<CorpusPicture> pictures;
  json summary = json::array();  // for the card and the checkpoint's settings
};

Result<Data> OpenAll(const std::vector<std::string>& paths, const std::string& cache, int64_t smallest, std::ostream& progress) {
  Data data;
  for (const std::string& path : paths) {
    std::vector<std::string> skipped;
    NSIC_ASSIGN_OR_RETURN(std::unique_ptr<Corpus> corpus, OpenData(path, cache, &skipped));
    for (const std::string& reason : skipped) progress << "skipped: " << reason << std::endl;
    int64_t pixels = 0;
    size_t used = 0;
    for (const CorpusPicture& picture : corpus->pictures()) {
      if (picture.width < smallest || picture.height < smallest) {
        progress << "skipped: " << picture.name << " is smaller than " << smallest << "x" << smallest << std::endl;
        continue;
      }
      data.pictures.push_back(picture);
      pixels += int64_t{picture.width} * picture.height;
      ++used;
    }
    const std::filesystem::path trimmed = std::filesystem::path(path).lexically_normal();
    const std::filesystem::path named = trimmed.has_filename() ? trimmed : trimmed.parent_path();
    data.summary.push_back({{"name", (named.parent_path().filename() / named.filename()).string()},
                            {"pictures", used},
                            {"megapixels", std::round(static_cast<double>(pixels) / 1e4) / 100},
                            {"corpus_sha256", corpus->digest()}});
    data.corpora.push_back(std::move(corpus));
  }
  if (data.pictures.empty()) {
    return InvalidArgumentError("there is no picture of at least " + std::to_string(smallest) + " pixels a side in the data");
  }
  return data;
}

Status CheckOptions(const FitOptions& options) {
  NSIC_RETURN_IF_ERROR(CheckLightNetParameters(options.parameters));
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
  Trainer(const FitOptions& options, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress)
      : options_(options), clock_(clock), stop_(stop), progress_(progress), device_(options.device) {}

  Status Run() {
    NSIC_ASSIGN_OR_RETURN(data_, OpenAll(options_.data, options_.state, options_.patch, progress_));
    NSIC_ASSIGN_OR_RETURN(validation_, OpenAll(options_.validation, options_.state, 16, progress_));
    torch::manual_seed(options_.seed);
    for (int64_t shard = 0; shard < options_.threads; ++shard) {
      LightNet net(options_.parameters);
      net->to(device_);
      // The replicas share the first one's weights; their gradients are their own.
      for (auto& [name, tensor] : Named(net)) {
        if (shard > 0) tensor.set_data(Named(replicas_[0]).at(name).data());
      }
      replicas_.push_back(net);
    }
    optimiser_ = std::make_unique<Optimiser>(Named(replicas_[0]));
    NSIC_RETURN_IF_ERROR(Resume());
    started_us_ = clock_.MonotonicUs() - elapsed_us_;
    int64_t reported_us = elapsed_us_, saved_us = elapsed_us_, validated_us = elapsed_us_;
    int64_t reported_step = step_;
    double loss_sum = 0;
    while (Done() < 1) {
      if (stop_) {
        NSIC_RETURN_IF_ERROR(Save());
        return CancelledError("stopped after step " + std::to_string(step_) + "; run the same command to go on");
      }
      loss_sum += Step();
      elapsed_us_ = clock_.MonotonicUs() - started_us_;
      if (elapsed_us_ - reported_us >= kProgressUs) {
        const double steps = static_cast<double>(step_ - reported_step);
        recent_loss_ = loss_sum / steps;
        if (!std::isfinite(recent_loss_)) return DataLossError("the loss is no longer a number; use a lower learning rate");
        Report(steps / (static_cast<double>(elapsed_us_ - reported_us) / 1e6));
        reported_us = elapsed_us_;
        reported_step = step_;
        loss_sum = 0;
      }
      if (static_cast<double>(elapsed_us_ - validated_us) / 60e6 >= options_.validate_minutes) {
        NSIC_RETURN_IF_ERROR(Publish());
        validated_us = saved_us = elapsed_us_ = clock_.MonotonicUs() - started_us_;
      } else if (elapsed_us_ - saved_us >= kCheckpointUs) {
        NSIC_RETURN_IF_ERROR(Save());
        saved_us = elapsed_us_;
      }
    }
    if (step_ > reported_step) recent_loss_ = loss_sum / static_cast<double>(step_ - reported_step);
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
    const Pair pair = MakePairs(data_.pictures, options_, done + first, done + last, device_);
    const Tensor output = replicas_[static_cast<size_t>(shard)]->forward(pair.input, options_.bfloat16 ? at::kBFloat16 : at::kFloat);
    const Tensor error = (output - pair.target).square().mean(at::IntArrayRef{1, 2, 3});
    const Tensor loss = error.add(kErrorFloor).log().sum() / static_cast<double>(options_.batch);
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
        const NamedTensors mine = Named(replicas_[0]), theirs = Named(replicas_[shard]);
        for (const auto& [name, tensor] : mine) {
          Tensor& gradient = theirs.at(name).mutable_grad();
          tensor.mutable_grad().add_(gradient);
          gradient.zero_();
        }
      }
    }
    rate_ = LearningRate(options_, step_, Done());
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

  std::string CheckpointPath() const { return options_.state + "/checkpoint.safetensors"; }
  std::string LogPath() const { return options_.state + "/log.csv"; }

  std::string Settings() const {
    const json settings = {{"parameters", options_.parameters},
                           {"batch", options_.batch},
                           {"patch", options_.patch},
                           {"seed", options_.seed},
                           {"threads", options_.threads},
                           {"data", data_.summary},
                           {"learning_rate", options_.learning_rate},
                           {"bfloat16", options_.bfloat16}};
    return settings.dump();
  }

  Status Resume() {
    NSIC_RETURN_IF_ERROR(MakeFolders(options_.state));
    Result<Checkpoint> checkpoint = ReadCheckpoint(CheckpointPath());
    log_ = "step,minutes,learning_rate,loss";
    for (int quality : kValidationQualities) log_ += ",jpeg_q" + std::to_string(quality) + ",restored_q" + std::to_string(quality);
    log_ += "\n";
    if (checkpoint.status().code() == StatusCode::kNotFound) return OkStatus();
    if (!checkpoint.ok()) return checkpoint.status();
    if (checkpoint->settings != Settings()) {
      return FailedPreconditionError(CheckpointPath() + " is of a run with other settings: " + checkpoint->settings +
                                     "; give those, or another state folder");
    }
    NSIC_RETURN_IF_ERROR(CopyInto(checkpoint->weights, Named(replicas_[0])));
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

  Status Save() {
    Checkpoint checkpoint;
    checkpoint.settings = Settings();
    checkpoint.step = step_;
    checkpoint.elapsed_us = elapsed_us_;
    checkpoint.weights = Named(replicas_[0]);
    checkpoint.averaged = optimiser_->averaged();
    checkpoint.mean = optimiser_->mean();
    checkpoint.variance = optimiser_->variance();
    return WriteCheckpoint(CheckpointPath(), checkpoint);
  }

  // Validates the averaged weights, logs the result, writes the pack and the checkpoint.
  Status Publish() {
    LightNet averaged(options_.parameters);
    averaged->to(device_);
    NSIC_RETURN_IF_ERROR(CopyInto(optimiser_->averaged(), Named(averaged)));
    const auto parts = InShards([&](int64_t shard) {
      return ValidateSome(averaged, validation_.pictures, static_cast<size_t>(shard), static_cast<size_t>(options_.threads), device_);
    });
    std::vector<Validation> rows = parts[0];
    for (size_t part = 1; part < parts.size(); ++part) {
      for (size_t i = 0; i < rows.size(); ++i) {
        rows[i].jpeg_psnr += parts[part][i].jpeg_psnr;
        rows[i].restored_psnr += parts[part][i].restored_psnr;
      }
    }

    std::ostringstream row, line;
    row << std::fixed << step_ << "," << std::setprecision(2) << static_cast<double>(elapsed_us_) / 60e6 << "," << std::setprecision(8)
        << rate_ << "," << std::setprecision(5) << recent_loss_;
    line << std::fixed << std::setprecision(3) << "validation after step " << step_ << ":";
    json metrics = json::array();
    for (const Validation& v : rows) {
      row << "," << std::setprecision(4) << v.jpeg_psnr << "," << v.restored_psnr;
      line << "  q" << v.quality << " " << v.jpeg_psnr << " -> " << v.restored_psnr << " (" << std::showpos << v.restored_psnr - v.jpeg_psnr
           << std::noshowpos << ")";
      metrics.push_back({{"quality", v.quality},
                         {"jpeg_psnr_rgb", std::round(v.jpeg_psnr * 1000) / 1000},
                         {"restored_psnr_rgb", std::round(v.restored_psnr * 1000) / 1000}});
    }
    progress_ << line.str() << std::endl;
    log_ += row.str() + "\n";
    NSIC_RETURN_IF_ERROR(WriteFileAtomically(LogPath(), log_));

    ModelPack pack;
    pack.card.name = options_.name;
    pack.card.task = ModelTask::kEnhance;
    pack.card.architecture = "light";
    pack.card.parameters = options_.parameters;
    pack.card.tiling = LightNetTiling(options_.parameters);
    pack.card.licence = options_.licence;
    pack.card.description = "Repairs JPEG compression of any strength in photographs; light enough for old CPUs.";
    const json card = {{"training",
                        {{"data", data_.summary},
                         {"source", options_.source},
                         {"degradation", "JPEG quality 10 to 95 (4:2:0 and 4:4:4) simulated on random crops; 3% left clean"},
                         {"steps", step_},
                         {"batch", options_.batch},
                         {"patch", options_.patch},
                         {"learning_rate", options_.learning_rate},
                         {"seed", options_.seed},
                         {"precision", options_.bfloat16 ? "bf16" : "fp32"},
                         {"device", options_.device},
                         {"threads", options_.threads},
                         {"hours", std::round(static_cast<double>(elapsed_us_) / 36e6) / 100}}},
                       {"validation", {{"data", validation_.summary}, {"simulated_jpeg", metrics}}}};
    pack.card.card_json = card.dump(-1, ' ', false, json::error_handler_t::replace);
    pack.weights = ToHost(optimiser_->averaged(), at::kHalf);
    NSIC_RETURN_IF_ERROR(WriteModelPack(options_.out, pack));
    return Save();
  }

  const FitOptions& options_;
  const Clock& clock_;
  const std::atomic<bool>& stop_;
  std::ostream& progress_;
  const at::Device device_;
  Data data_;
  Data validation_;
  std::vector<LightNet> replicas_;  // one a shard
  std::unique_ptr<Optimiser> optimiser_;
  std::string log_;
  int64_t step_ = 0;
  int64_t elapsed_us_ = 0;
  int64_t started_us_ = 0;
  double rate_ = 0;
  double recent_loss_ = 0;
};

}  // namespace

Status Fit(const FitOptions& options, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress) {
  NSIC_RETURN_IF_ERROR(CheckOptions(options));
  try {
    return Trainer(options, clock, stop, progress).Run();
  } catch (const c10::Error& error) {
    return InternalError(std::string("LibTorch failed: ") + error.what_without_backtrace());
  }
}

}  // namespace nsic
