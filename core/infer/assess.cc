#include <torch/torch.h>

#include <algorithm>
#include <utility>

#include "core/infer/engine.h"
#include "core/infer/load_network.h"
#include "core/infer/torch_errors.h"

namespace nsic {
namespace {

constexpr int64_t kSide = 256;  // both networks see the whole picture at this size

// Runs the network over the picture as it was trained: resized as torchvision resizes (antialiased bilinear), ImageNet's normalisation.
Result<at::Tensor> Assess(const LoadedNetwork& loaded, const PlanarImage& picture) {
  if (picture.channels != 3 || picture.width < 1 || picture.height < 1) {
    return InvalidArgumentError("the picture to assess must have three channels and at least one pixel");
  }
  at::Tensor output;
  NSIC_RETURN_IF_ERROR(CatchTorchErrors("assessing a picture on " + loaded.device, [&]() -> Status {
    const c10::InferenceMode no_gradients;
    loaded.Prepare();
    // from_blob wants a mutable pointer; nothing writes through it.
    at::Tensor x = at::from_blob(const_cast<float*>(picture.samples.data()), {1, 3, picture.height, picture.width}, at::kFloat);
    x = at::_upsample_bilinear2d_aa(x.to(at::Device(loaded.device)), {kSide, kSide}, /*align_corners=*/false);
    const at::Tensor mean = at::tensor({0.485f, 0.456f, 0.406f}, x.options()).view({1, 3, 1, 1});
    const at::Tensor deviation = at::tensor({0.229f, 0.224f, 0.225f}, x.options()).view({1, 3, 1, 1});
    output = loaded.network->Forward((x - mean) / deviation).squeeze(0).to(at::kCPU);
    if (!at::isfinite(output).all().item<bool>()) return DataLossError("the network gives NaN or Inf for this picture");
    return OkStatus();
  }));
  return output;
}

Result<LoadedNetwork> LoadFor(ModelTask task, const std::string& what, const ModelPack& pack, const EngineOptions& options) {
  if (pack.card.task != task) return InvalidArgumentError("model " + pack.card.name + " is no " + what);
  NSIC_ASSIGN_OR_RETURN(LoadedNetwork loaded, LoadNetwork(pack, options));
  const int64_t needed = loaded.network->PeakBytes(kSide, kSide);
  if (needed > options.memory_budget) {
    return ResourceExhaustedError("model " + pack.card.name + " needs " + std::to_string(needed >> 20) +
                                  " MiB, more than the memory budget of " + std::to_string(options.memory_budget >> 20) + " MiB");
  }
  return loaded;
}

class NetworkScorer : public Scorer {
 public:
  explicit NetworkScorer(LoadedNetwork loaded) : loaded_(std::move(loaded)) {}

  Result<PictureQuality> Score(const PlanarImage& picture) override {
    NSIC_ASSIGN_OR_RETURN(const at::Tensor output, Assess(loaded_, picture));
    PictureQuality quality;
    quality.score = std::clamp(output.item<double>(), 0.0, 100.0);
    quality.tile = std::max(picture.width, picture.height);
    quality.columns = quality.rows = 1;
    quality.map = {quality.score};
    return quality;
  }

 private:
  const LoadedNetwork loaded_;
};

class NetworkClassifier : public Classifier {
 public:
  NetworkClassifier(LoadedNetwork loaded, std::vector<std::string> labels) : loaded_(std::move(loaded)), labels_(std::move(labels)) {}

  Result<std::vector<std::pair<std::string, double>>> Classify(const PlanarImage& picture, const std::optional<JpegTables>&) override {
    NSIC_ASSIGN_OR_RETURN(const at::Tensor output, Assess(loaded_, picture));
    const at::Tensor probabilities = output.to(at::kDouble).softmax(0);
    std::vector<std::pair<std::string, double>> classes;
    for (size_t i = 0; i < labels_.size(); ++i) classes.emplace_back(labels_[i], probabilities[static_cast<int64_t>(i)].item<double>());
    std::stable_sort(classes.begin(), classes.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
    return classes;
  }

 private:
  const LoadedNetwork loaded_;
  const std::vector<std::string> labels_;
};

}  // namespace

Result<std::unique_ptr<Scorer>> LoadScorer(const ModelPack& pack, const EngineOptions& options) {
  NSIC_ASSIGN_OR_RETURN(LoadedNetwork loaded, LoadFor(ModelTask::kScore, "scorer", pack, options));
  return std::unique_ptr<Scorer>(std::make_unique<NetworkScorer>(std::move(loaded)));
}

Result<std::unique_ptr<Classifier>> LoadClassifier(const ModelPack& pack, const EngineOptions& options) {
  NSIC_ASSIGN_OR_RETURN(LoadedNetwork loaded, LoadFor(ModelTask::kClassify, "classifier", pack, options));
  return std::unique_ptr<Classifier>(std::make_unique<NetworkClassifier>(std::move(loaded), pack.card.labels));
}

}  // namespace nsic
