#include "models/train/fit/fit.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "models/arch/trainable_net.h"
#include "models/io/model_pack.h"
#include "models/io/usual_tiling.h"
#include "models/train/fit/losses.h"
#include "models/train/fit/start_from.h"
#include "models/train/fit/training_run.h"
#include "models/train/samples/pairs.h"
#include "models/train/samples/recipe.h"

namespace nsic {
namespace {

using at::Tensor;
using nlohmann::json;

constexpr size_t kValidationPictures = 24;  // at most, evenly spaced in the collection

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
  if (options.patch < 16 || options.patch % 16 != 0) return InvalidArgumentError("the side of a crop must be a multiple of 16");
  if (options.data.empty() || options.validation.empty()) return InvalidArgumentError("training needs data and validation data");
  return OkStatus();
}

class EnhancerRun : public TrainingRun {
 public:
  EnhancerRun(const FitOptions& options, Recipe recipe, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress)
      : TrainingRun(options, clock, stop, progress), options_(options), recipe_(std::move(recipe)) {}

 protected:
  Status Open() override {
    architecture_ = options_.architecture;
    std::vector<ModelPack> packs;
    for (const std::string& folder : options_.from) {
      NSIC_ASSIGN_OR_RETURN(ModelPack pack, ReadModelPack(folder));
      if (architecture_.empty()) architecture_ = pack.card.architecture;
      if (options_.architecture.empty() && architecture_ != pack.card.architecture) architecture_ = "ensemble";
      packs.push_back(std::move(pack));
    }
    for (const ModelPack& pack : packs) {
      for (const auto& [name, value] : ParametersFrom(pack, architecture_)) parameters_[name] = value;
    }
    if (architecture_.empty()) architecture_ = "light";
    NSIC_ASSIGN_OR_RETURN(const auto usual, UsualParameters(architecture_));
    parameters_.insert(usual.begin(), usual.end());  // those that are missing
    for (const auto& [name, value] : options_.parameters) parameters_[name] = value;
    NSIC_ASSIGN_OR_RETURN(data_, OpenToLearn(options_.data, options_.patch));
    NSIC_ASSIGN_OR_RETURN(validation_, OpenTrainingData(options_.validation, options_.state, 16, progress()));
    return OkStatus();
  }

  Result<std::unique_ptr<TrainableNet>> MakeNet() const override { return MakeTrainableNet(architecture_, parameters_); }

  Tensor LossOf(TrainableNet* net, int64_t first, int64_t last) override {
    const Pair pair = MakePairs(data_.pictures, recipe_.degradation, options_.patch, options_.seed, first, last, device());
    return Loss(net->Forward(pair.input, compute_type()), pair.target, recipe_.loss).sum();
  }

  Validation Validate(TrainableNet* net) override {
    const int64_t multiple = UsualTiling(architecture_, parameters_).multiple;
    const auto parts = InShards([&](int64_t shard) {
      return ValidateSome(*net, multiple, validation_.pictures, recipe_.validation, static_cast<size_t>(shard),
                          static_cast<size_t>(options_.threads), device());
    });
    std::ostringstream cells, line;
    cells << std::fixed << std::setprecision(4);
    line << std::fixed << std::setprecision(3);
    json measured = json::array();
    for (size_t i = 0; i < recipe_.validation.size(); ++i) {
      const std::string& name = recipe_.validation[i].name;
      Score score;
      for (const std::vector<Score>& part : parts) {
        score.before += part[i].before;
        score.after += part[i].after;
      }
      cells << (i == 0 ? "" : ",") << score.before << "," << score.after;
      line << (i == 0 ? "" : "  ") << name << " " << score.before << " -> " << score.after << " (" << std::showpos
           << score.after - score.before << std::noshowpos << ")";
      measured.push_back(
          {{"name", name}, {"before", std::round(score.before * 1000) / 1000}, {"after", std::round(score.after * 1000) / 1000}});
    }
    return {cells.str(), line.str(), {{"data", json::parse(validation_.summary)}, {"psnr_rgb", measured}}};
  }

  json Settings() const override {
    return {{"architecture", architecture_},
            {"parameters", parameters_},
            {"patch", options_.patch},
            {"data", json::parse(data_.summary)},
            {"recipe", json::parse(recipe_.json)}};
  }

  std::vector<std::string> Columns() const override {
    std::vector<std::string> columns;
    for (const ValidationCase& measured : recipe_.validation) {
      for (const char* end : {"_before", "_after"}) columns.push_back(measured.name + end);
    }
    return columns;
  }

  std::string CurveTitle() const override { return "PSNR gain over steps (dB)"; }

  std::string SpeedText(double samples_per_second) const override {
    std::ostringstream text;
    text << std::fixed << std::setprecision(2) << samples_per_second * static_cast<double>(options_.patch * options_.patch) / 1e6
         << " MP/s";
    return text.str();
  }

 private:
  const FitOptions& options_;
  const Recipe recipe_;
  std::string architecture_;
  std::map<std::string, int64_t> parameters_;
  TrainingData data_;
  TrainingData validation_;
};

}  // namespace

Status Fit(const FitOptions& options, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress) {
  NSIC_RETURN_IF_ERROR(CheckOptions(options));
  NSIC_ASSIGN_OR_RETURN(Recipe recipe, LoadRecipe(options.recipe));
  try {
    return EnhancerRun(options, std::move(recipe), clock, stop, progress).Run();
  } catch (const c10::Error& error) {
    return InternalError(std::string("LibTorch failed: ") + error.what_without_backtrace());
  }
}

}  // namespace nsic
