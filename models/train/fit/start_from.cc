#include "models/train/fit/start_from.h"

#include <torch/torch.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "models/arch/weights.h"
#include "models/train/fit/checkpoint.h"

namespace nsic {
namespace {

using at::Tensor;
using Parameters = std::map<std::string, int64_t>;

constexpr const char* kLayers = "layers";  // of a light network

bool Deepens(const ModelPack& pack, const std::string& architecture, const Parameters& parameters) {
  const auto layers = parameters.find(kLayers), learnt = pack.card.parameters.find(kLayers);
  if (architecture != "light" || layers == parameters.end() || learnt == pack.card.parameters.end()) return false;
  Parameters otherwise = parameters;
  otherwise[kLayers] = learnt->second;
  return otherwise == pack.card.parameters && learnt->second < layers->second;
}

// The name in the pack of what a network with more hidden layers calls `name`; empty for the layers that are new. Hidden layers are
// "convs.1" to "convs.<layers>".
std::string NameInShallower(const std::string& name, int64_t learnt, int64_t layers) {
  const size_t number = name.find('.') + 1, end = name.find('.', number);
  const int64_t i = std::stoll(name.substr(number, end - number));
  if (i <= learnt) return name;
  return i > layers ? name.substr(0, number) + std::to_string(learnt + 1) + name.substr(end) : "";
}

void MakeIdentity(Tensor convolution) {  // weight or bias, after a ReLU
  convolution.zero_();
  if (convolution.dim() == 4) convolution.select(3, 1).select(2, 1).copy_(at::eye(convolution.size(0)));
}

// What a member's pack and the ensemble's share: "light." and "light_" before the names of the one's tensors and parameters.
bool IsMember(const ModelPack& pack, const std::string& architecture) {
  return architecture == "ensemble" && (pack.card.architecture == "light" || pack.card.architecture == "unet");
}

}  // namespace

Parameters ParametersFrom(const ModelPack& pack, const std::string& architecture) {
  if (pack.card.architecture == architecture) return pack.card.parameters;
  Parameters parameters;
  if (IsMember(pack, architecture)) {
    for (const auto& [name, value] : pack.card.parameters) parameters[pack.card.architecture + "_" + name] = value;
  }
  return parameters;
}

Status StartFrom(const ModelPack& pack, const std::string& architecture, const Parameters& parameters, const at::Device& device,
                 TrainableNet* net) {
  const bool deepens = Deepens(pack, architecture, parameters), member = IsMember(pack, architecture);
  const Parameters learnt = ParametersFrom(pack, architecture);
  const bool fits = pack.card.architecture == architecture
                        ? learnt == parameters
                        : member && std::includes(parameters.begin(), parameters.end(), learnt.begin(), learnt.end());
  if (!fits && !deepens) {
    return InvalidArgumentError("the pack is of another network: architecture " + pack.card.architecture + " with the parameters " +
                                nlohmann::json(pack.card.parameters).dump() + "; give those with --architecture and the like");
  }
  const std::string prefix = member ? pack.card.architecture + "." : "";
  WeightReader reader(pack.weights, device);
  const at::NoGradGuard no_grad;
  for (const auto* tensors : {&net->weights(), &net->statistics()}) {
    for (const auto& [name, tensor] : *tensors) {
      if (name.compare(0, prefix.size(), prefix) != 0) continue;
      const std::string from =
          deepens ? NameInShallower(name, pack.card.parameters.at(kLayers), parameters.at(kLayers)) : name.substr(prefix.size());
      if (from.empty()) {
        MakeIdentity(tensor);
      } else {
        Tensor(tensor).copy_(reader.Take(from, tensor.sizes()));
      }
    }
  }
  return reader.Finish();
}

Result<ModelPack> MeanOf(const std::vector<ModelPack>& packs) {
  ModelPack mean = packs.front();
  NamedTensors sums;
  for (const ModelPack& pack : packs) {
    if (pack.card.architecture != mean.card.architecture || pack.card.parameters != mean.card.parameters) {
      return InvalidArgumentError("the packs " + mean.card.name + " and " + pack.card.name +
                                  " are of different networks: they have no mean");
    }
    WeightReader reader(pack.weights, at::kCPU);
    for (const auto& [name, tensor] : mean.weights) {
      const Tensor weight = reader.Take(name, tensor.shape) / static_cast<double>(packs.size());
      const auto [sum, first] = sums.emplace(name, weight);
      if (!first) sum->second += weight;
    }
    NSIC_RETURN_IF_ERROR(reader.Finish());
  }
  mean.weights = ToHost(sums, at::kFloat);
  return mean;
}

}  // namespace nsic
