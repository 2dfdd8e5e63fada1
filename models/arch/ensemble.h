// The standard enhancer, architecture "ensemble": the mean of a "light" network and a "unet" of the same picture, trained together.
//
// The two err in different places: before they had learnt together, the mean of two of equal gain restored photographs at JPEG quality 10
// by 0.06 dB better than either. Why a mean of networks errs less: Hansen and Salamon, "Neural Network Ensembles", IEEE TPAMI 12(10), 1990.
//
// Parameters of its pack: those of its members, "light_features", "light_layers", "unet_features", "unet_blocks". Its tensors: those of its
// members, "light." and "unet." before their names.
#ifndef NSIC_MODELS_ARCH_ENSEMBLE_H_
#define NSIC_MODELS_ARCH_ENSEMBLE_H_

#include <memory>

#include "models/arch/light_net.h"
#include "models/arch/network.h"
#include "models/arch/parameters.h"
#include "models/arch/trainable_net.h"
#include "models/arch/unet.h"
#include "models/arch/weights.h"

namespace nsic {

struct EnsembleShape {
  LightShape light;
  UNetShape unet;
};
EnsembleShape TakeEnsembleShape(ParameterReader& reader);  // the caller asks `reader` afterwards whether all was well

std::unique_ptr<TrainableNet> MakeTrainableEnsemble(const EnsembleShape& shape);

// Takes the weights from `reader`; the caller asks `reader` afterwards whether all was well.
std::unique_ptr<Network> BuildEnsemble(const EnsembleShape& shape, const NetworkOptions& options, WeightReader& reader);

}  // namespace nsic

#endif  // NSIC_MODELS_ARCH_ENSEMBLE_H_
