#include "tests/fakes/simulated_device.h"

#include <torch/torch.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "core/infer/load_network.h"
#include "core/infer/tile_runner.h"
#include "models/arch/network.h"
#include "tests/unit/plain_networks.h"
#include "tests/unit/random_packs.h"

namespace nsic {
namespace {

constexpr int kProbeSide = 48;

at::Tensor KeepTenBits(const at::Tensor& x) {
  at::Tensor y = x.contiguous().clone();
  float* const samples = y.data_ptr<float>();
  for (int64_t i = 0; i < y.numel(); ++i) {
    uint32_t bits = 0;
    std::memcpy(&bits, samples + i, sizeof bits);
    bits = (bits + 0x1000) & ~uint32_t{0x1fff};  // of 23 bits of fraction
    std::memcpy(samples + i, &bits, sizeof bits);
  }
  return y;
}

at::Tensor Round(const at::Tensor& x, Rounding rounding) {
  switch (rounding) {
    case Rounding::kTf32: return KeepTenBits(x);
    case Rounding::kBf16: return x.to(at::kBFloat16).to(at::kFloat);
    case Rounding::kFp16: return x.to(at::kHalf).to(at::kFloat);
    case Rounding::kNarrow: return x.to(at::kHalf).to(at::kFloat).masked_fill(x.abs() > 0.75, std::numeric_limits<float>::infinity());
    case Rounding::kNothing: return at::zeros_like(x);
    case Rounding::kFp32:
    case Rounding::kFails: break;
  }
  return x;
}

class RoundedLight : public Network {
 public:
  RoundedLight(const ModelPack& pack, Rounding rounding) : layers_(pack.weights), rounding_(rounding) {}

  at::Tensor Forward(const at::Tensor& input) const override {
    const auto round = [this](const at::Tensor& x) { return Round(x, rounding_); };
    at::Tensor x = at::pixel_unshuffle(round(input), 2);
    for (int i = 0; layers_.Has(Name(i) + ".weight"); ++i) {
      if (i > 0) x = at::relu(x);
      x = round(at::conv2d(x, round(layers_.Get(Name(i) + ".weight")), round(layers_.Get(Name(i) + ".bias")), 1, 1));
    }
    return round(input) + at::pixel_shuffle(x, 2);
  }
  int64_t PeakBytes(int64_t height, int64_t width) const override { return 1000 * height * width; }

 private:
  static std::string Name(int i) { return "convs." + std::to_string(i); }
  const Layers layers_;
  const Rounding rounding_;
};

}  // namespace

const std::vector<SimulatedDevice>& SimulatedDevices() {
  static const std::vector<SimulatedDevice> devices = {
      {"rounds like fp16", 1.0, {{Precision::kFloat16, {Rounding::kFp16, 0.4}}, {Precision::kBFloat16, {Rounding::kBf16, 3.0}}}},
      {"rounds like bf16", 1.0, {{Precision::kFloat16, {Rounding::kFails, 0.3}}, {Precision::kBFloat16, {Rounding::kBf16, 0.5}}}},
      {"rounds like tf32", 1.0, {{Precision::kTensorFloat32, {Rounding::kTf32, 0.6}}, {Precision::kFloat16, {Rounding::kFp16, 0.8}}}},
      {"both", 1.0, {{Precision::kFloat16, {Rounding::kFp16, 0.35}}, {Precision::kBFloat16, {Rounding::kBf16, 0.3}}}},
      {"overflows", 1.0, {{Precision::kFloat16, {Rounding::kNarrow, 0.2}}}},
      {"slow", 1.0, {{Precision::kFloat16, {Rounding::kFp16, 1.4}}, {Precision::kBFloat16, {Rounding::kBf16, 0.95}}}},
      {"black frames", 1.0, {{Precision::kFloat16, {Rounding::kNothing, 0.1}}}},
      {"old", 1.0, {}},
  };
  return devices;
}

const SimulatedDevice& FindSimulatedDevice(const std::string& name) {
  const std::vector<SimulatedDevice>& all = SimulatedDevices();
  return *std::find_if(all.begin(), all.end(), [&](const SimulatedDevice& device) { return device.name == name; });
}

void ScaleTensor(HostTensor* tensor, float factor) {
  for (size_t at = 0; at < tensor->data.size(); at += sizeof(float)) {
    float value = 0;
    std::memcpy(&value, tensor->data.data() + at, sizeof value);
    value *= factor;
    std::memcpy(tensor->data.data() + at, &value, sizeof value);
  }
}

ModelPack CorrectingPack(float size) {
  ModelPack pack = RandomLightPack(8, 2, HaloTiles(48, 10, 2));
  ScaleTensor(&pack.weights["convs.3.weight"], size);
  ScaleTensor(&pack.weights["convs.3.bias"], size);
  return pack;
}

ModelPack OverflowingPack(float size) {
  ModelPack pack = CorrectingPack(size);
  ScaleTensor(&pack.weights["convs.0.weight"], 1e6f);
  ScaleTensor(&pack.weights["convs.0.bias"], 1e6f);
  ScaleTensor(&pack.weights["convs.1.weight"], 1e-6f);
  return pack;
}

std::vector<Precision> SimulatedProbe::Candidates() const {
  std::vector<Precision> candidates;
  for (const auto& [precision, simulated] : device_.others) candidates.push_back(precision);
  return candidates;
}

Result<ProbeRun> SimulatedProbe::Run(Precision precision) {
  ++runs;
  const auto found = device_.others.find(precision);
  const SimulatedPrecision simulated =
      found == device_.others.end() ? SimulatedPrecision{Rounding::kFp32, device_.fp32_seconds} : found->second;
  if (simulated.rounding == Rounding::kFails) return InternalError("no kernel for this type");
  const PlanarImage picture = RandomPicture({kProbeSide, kProbeSide}, 7);
  const c10::InferenceMode no_gradients;
  const at::Tensor x = at::from_blob(const_cast<float*>(picture.samples.data()), {1, 3, kProbeSide, kProbeSide}, at::kFloat);
  const at::Tensor y = RoundedLight(pack_, simulated.rounding).Forward(x).contiguous();
  ProbeRun run;
  run.output.assign(y.data_ptr<float>(), y.data_ptr<float>() + y.numel());
  run.seconds = simulated.seconds;
  return run;
}

std::unique_ptr<Enhancer> SimulatedEnhancer(const ModelPack& pack, Precision precision, Rounding rounding) {
  const auto load = [pack](Rounding with) {
    LoadedNetwork loaded;
    loaded.network = std::make_unique<RoundedLight>(pack, with);
    loaded.device = "cpu";
    return std::make_unique<LoadedNetwork>(std::move(loaded));
  };
  TileRunner::LoadExact load_exact;
  if (precision != Precision::kFloat32) {
    load_exact = [load]() -> Result<std::unique_ptr<LoadedNetwork>> { return load(Rounding::kFp32); };
  }
  return MakeEnhancer(pack.card, std::make_unique<TileRunner>(load(rounding), precision, load_exact, 2, 1), int64_t{1} << 30);
}

std::unique_ptr<Enhancer> SimulatedEnhancer(const SimulatedDevice& device, const ModelPack& pack, Precision precision) {
  const Rounding rounding = precision == Precision::kFloat32 ? Rounding::kFp32 : device.others.at(precision).rounding;
  return SimulatedEnhancer(pack, precision, rounding);
}

}  // namespace nsic
