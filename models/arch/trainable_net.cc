#include "models/arch/trainable_net.h"

#include <torch/torch.h>

#include <cmath>
#include <utility>

#include "models/arch/ensemble.h"
#include "models/arch/light_net.h"
#include "models/arch/ns_iqe.h"
#include "models/arch/parameters.h"
#include "models/arch/unet.h"

namespace nsic {

at::Tensor TrainableConv::operator()(const at::Tensor& x, at::ScalarType compute, int64_t stride) const {
  const int64_t padding = (weight.size(2) - 1) / 2;
  return at::conv2d(x, weight.to(compute), bias.to(compute), {stride, stride}, {padding, padding});
}

void TrainableNet::MoveTo(const at::Device& device) {
  for (auto* tensors : {&weights_, &statistics_}) {
    for (auto& [name, tensor] : *tensors) tensor.set_data(tensor.data().to(device));
  }
}

void TrainableNet::ShareWeightsOf(const TrainableNet& other) {
  for (auto& [name, tensor] : weights_) tensor.set_data(other.weights_.at(name).data());
}

TrainableConv TrainableNet::AddConv(const std::string& name, int64_t in, int64_t out, int64_t kernel, double gain) {
  const double deviation = gain * std::sqrt(2.0 / static_cast<double>(in * kernel * kernel));
  return {AddWeight(name + ".weight", at::randn({out, in, kernel, kernel}) * deviation), AddWeight(name + ".bias", at::zeros({out}))};
}

at::Tensor TrainableNet::AddWeight(const std::string& name, at::Tensor value) {
  return weights_.emplace(name, std::move(value).set_requires_grad(true)).first->second;
}

at::Tensor TrainableNet::AddStatistic(const std::string& name, at::Tensor value) {
  return statistics_.emplace(name, std::move(value)).first->second;
}

std::vector<std::string> TrainableArchitectures() { return {"light", "unet", "ensemble", "ns-iqe"}; }

Result<std::map<std::string, int64_t>> UsualParameters(const std::string& architecture) {
  if (architecture == "light") return std::map<std::string, int64_t>{{"features", 64}, {"layers", 8}};
  if (architecture == "unet") return std::map<std::string, int64_t>{{"features", 48}, {"blocks", 2}};
  if (architecture == "ensemble") {
    return std::map<std::string, int64_t>{{"light_features", 64}, {"light_layers", 12}, {"unet_features", 48}, {"unet_blocks", 2}};
  }
  if (architecture == "ns-iqe") return std::map<std::string, int64_t>{{"features", 64}, {"blocks", 16}};
  return InvalidArgumentError("nsic-train does not train the architecture '" + architecture +
                              "'; it trains light, unet, ensemble and ns-iqe");
}

Result<std::unique_ptr<TrainableNet>> MakeTrainableNet(const std::string& architecture, const std::map<std::string, int64_t>& parameters) {
  NSIC_RETURN_IF_ERROR(UsualParameters(architecture).status());
  ParameterReader reader(architecture, parameters);
  if (architecture == "light") {
    const LightShape shape = TakeLightShape(reader);
    NSIC_RETURN_IF_ERROR(reader.Finish());
    return MakeTrainableLight(shape);
  }
  if (architecture == "unet") {
    const UNetShape shape = TakeUNetShape(reader);
    NSIC_RETURN_IF_ERROR(reader.Finish());
    return MakeTrainableUNet(shape);
  }
  if (architecture == "ensemble") {
    const EnsembleShape shape = TakeEnsembleShape(reader);
    NSIC_RETURN_IF_ERROR(reader.Finish());
    return MakeTrainableEnsemble(shape);
  }
  const NsIqeShape shape = TakeNsIqeShape(reader);
  NSIC_RETURN_IF_ERROR(reader.Finish());
  return MakeTrainableNsIqe(shape);
}

}  // namespace nsic
