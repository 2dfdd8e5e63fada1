#include "models/arch/ensemble.h"

#include <torch/torch.h>

#include <algorithm>
#include <string>
#include <utility>

namespace nsic {
namespace {

class TrainableEnsemble : public TrainableNet {
 public:
  explicit TrainableEnsemble(const EnsembleShape& shape) : light_(MakeTrainableLight(shape.light)), unet_(MakeTrainableUNet(shape.unet)) {
    for (const auto& [name, tensor] : light_->weights()) AddWeight("light." + name, tensor);
    for (const auto& [name, tensor] : unet_->weights()) AddWeight("unet." + name, tensor);
  }

  at::Tensor Forward(const at::Tensor& pictures, at::ScalarType compute) override {
    return (light_->Forward(pictures, compute) + unet_->Forward(pictures, compute)) / 2;
  }

 private:
  const std::unique_ptr<TrainableNet> light_, unet_;
};

class Ensemble : public Network {
 public:
  Ensemble(std::unique_ptr<Network> light, std::unique_ptr<Network> unet) : light_(std::move(light)), unet_(std::move(unet)) {}

  at::Tensor Forward(const at::Tensor& x) const override { return light_->Forward(x).add_(unet_->Forward(x)).div_(2); }

  int64_t PeakBytes(int64_t height, int64_t width) const override {
    return std::max(light_->PeakBytes(height, width), unet_->PeakBytes(height, width)) + 4 * 3 * height * width;  // the first one's output
  }

 private:
  const std::unique_ptr<Network> light_, unet_;
};

}  // namespace

EnsembleShape TakeEnsembleShape(ParameterReader& reader) {
  EnsembleShape shape;
  reader.SetPrefix("light_");
  shape.light = TakeLightShape(reader);
  reader.SetPrefix("unet_");
  shape.unet = TakeUNetShape(reader);
  reader.SetPrefix("");
  return shape;
}

std::unique_ptr<TrainableNet> MakeTrainableEnsemble(const EnsembleShape& shape) { return std::make_unique<TrainableEnsemble>(shape); }

std::unique_ptr<Network> BuildEnsemble(const EnsembleShape& shape, const NetworkOptions& options, WeightReader& reader) {
  reader.SetPrefix("light.");
  std::unique_ptr<Network> light = BuildLight(shape.light, options, reader);
  reader.SetPrefix("unet.");
  std::unique_ptr<Network> unet = BuildUNet(shape.unet, options, reader);
  reader.SetPrefix("");
  return std::make_unique<Ensemble>(std::move(light), std::move(unet));
}

}  // namespace nsic
