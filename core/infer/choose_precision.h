// Chooses the precision that a device computes a model in: measured on the device, never guessed from its name.
#ifndef NSIC_CORE_INFER_CHOOSE_PRECISION_H_
#define NSIC_CORE_INFER_CHOOSE_PRECISION_H_

#include <memory>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/infer/engine.h"
#include "models/io/model_pack.h"

namespace nsic {

struct ProbeRun {
  std::vector<float> output;  // of the model for the probe, in fp32
  double seconds = 0;         // a tile
};

// A model on a device, ready to be tried out. Tests simulate devices.
class PrecisionProbe {
 public:
  virtual ~PrecisionProbe() = default;
  // What the device may be faster in than fp32, if anything.
  virtual std::vector<Precision> Candidates() const = 0;
  // Runs the model over the probe, the same pixels in every call, and as many tiles of it at once as a job has.
  virtual Result<ProbeRun> Run(Precision precision) = 0;
};

struct PrecisionTrial {
  Precision precision = Precision::kFloat32;
  double seconds = 0;        // a tile, of the fastest run
  double rms_error = 0;      // against fp32; pictures span 0 to 1
  double largest_error = 0;  // of one sample
  std::string refusal;       // why it cannot be taken; empty when it can
};

struct PrecisionChoice {
  Precision precision = Precision::kFloat32;
  std::vector<PrecisionTrial> trials;  // of fp32, then of each candidate
};

// The fastest precision whose output is within tolerance of fp32's, without NaN or Inf, and not flat where that is not. fp32 stays unless
// another one is faster by a fifth at least: a choice that noise decides would differ from day to day. A candidate that fails to run is
// refused with its error; the error is returned only where fp32 itself fails.
Result<PrecisionChoice> ChoosePrecision(PrecisionProbe* probe);

// For logs: "bf16: fp32 0.812 s; bf16 0.301 s, error 0.11/255 (largest 0.9/255); fp16 refused: ...".
std::string ChoiceText(const PrecisionChoice& choice);

// The pack's network on options.device over one fixed tile: gradients, noise, hard edges and a flat part, of the pack's size unless that
// does not fit the memory budget. options.precision is not used. `pack` and `clock` must outlive the probe.
Result<std::unique_ptr<PrecisionProbe>> MakeNetworkProbe(const ModelPack& pack, const EngineOptions& options, const Clock* clock);

}  // namespace nsic

#endif  // NSIC_CORE_INFER_CHOOSE_PRECISION_H_
