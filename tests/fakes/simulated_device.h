// Devices that are not there: real convolutions whose weights and activations are rounded after each step as the device would round them,
// and times that are said, not measured. No LibTorch type appears here.
#ifndef NSIC_TESTS_FAKES_SIMULATED_DEVICE_H_
#define NSIC_TESTS_FAKES_SIMULATED_DEVICE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/infer/choose_precision.h"
#include "core/infer/engine.h"
#include "models/io/model_pack.h"

namespace nsic {

enum class Rounding {
  kFp32,
  kTf32,
  kBf16,
  kFp16,     // Inf beyond 65504
  kNarrow,   // fp16 that ends at three quarters already
  kNothing,  // everything becomes zero: the black frames of some cards
  kFails,    // the device has no kernel for it
};

struct SimulatedPrecision {
  Rounding rounding = Rounding::kFp32;
  double seconds = 0;  // of a run of the probe
};

struct SimulatedDevice {
  std::string name;
  double fp32_seconds = 0;
  std::map<Precision, SimulatedPrecision> others;  // what it offers besides
};

// Every kind that the choice must tell apart.
const std::vector<SimulatedDevice>& SimulatedDevices();
const SimulatedDevice& FindSimulatedDevice(const std::string& name);

// A small light enhancer whose corrections have about this size.
ModelPack CorrectingPack(float size);
// The same function, but the first layer gives numbers beyond fp16's.
ModelPack OverflowingPack(float size);
// Multiplies all numbers of an fp32 tensor.
void ScaleTensor(HostTensor* tensor, float factor);

// Both for light enhancers; `device` and `pack` must outlive the probe.
class SimulatedProbe : public PrecisionProbe {
 public:
  SimulatedProbe(const SimulatedDevice& device, const ModelPack& pack) : device_(device), pack_(pack) {}
  std::vector<Precision> Candidates() const override;
  Result<ProbeRun> Run(Precision precision) override;

  int runs = 0;

 private:
  const SimulatedDevice& device_;
  const ModelPack& pack_;
};

// An enhancer as LoadEnhancer makes it, on a device that rounds so. What fails is redone in true fp32, unless `precision` is that.
std::unique_ptr<Enhancer> SimulatedEnhancer(const ModelPack& pack, Precision precision, Rounding rounding);
// On this device in a precision that it offers, or fp32.
std::unique_ptr<Enhancer> SimulatedEnhancer(const SimulatedDevice& device, const ModelPack& pack, Precision precision);

}  // namespace nsic

#endif  // NSIC_TESTS_FAKES_SIMULATED_DEVICE_H_
