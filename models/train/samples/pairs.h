// What training reads: pictures of packed corpora, and pairs of degraded and good crops of them.
#ifndef NSIC_MODELS_TRAIN_SAMPLES_PAIRS_H_
#define NSIC_MODELS_TRAIN_SAMPLES_PAIRS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "models/train/corpora/corpus.h"
#include "models/train/samples/degrade.h"
#include "models/train/samples/random.h"

namespace nsic {

struct TrainingData {
  std::vector<std::unique_ptr<Corpus>> corpora;
  std::vector<CorpusPicture> pictures;  // point into the corpora
  std::string summary;                  // JSON array: name, pictures, megapixels, digest and sources of each corpus; for the card
};

// Opens packed corpora and folders (packed into `cache_folder`). Pictures smaller than `smallest` a side, and files that are no pictures,
// are named in `progress` and left out. INVALID_ARGUMENT when no picture is left.
Result<TrainingData> OpenTrainingData(const std::vector<std::string>& paths, const std::string& cache_folder, int64_t smallest,
                                      std::ostream& progress);

// A crop of side x side pixels, flipped and turned: 3 x side x side bytes. The picture must be at least that large.
at::Tensor RandomCrop(const CorpusPicture& picture, int64_t side, Random* random);

struct Pair {
  at::Tensor input;  // N x 3 x side x side in [0, 1]
  at::Tensor target;
};

// Crops `first` to `last` (not included) of the endless sequence of crops that `seed` stands for, flipped and turned at random, and what
// the degradation makes of them. The pictures must be at least `side` a side.
Pair MakePairs(const std::vector<CorpusPicture>& pictures, const Degradation& degradation, int64_t side, uint64_t seed, int64_t first,
               int64_t last, const at::Device& device);

// The whole picture: 1 x 3 x h x w, fp32, 0 to 255.
at::Tensor WholePicture(const CorpusPicture& picture, const at::Device& device);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_SAMPLES_PAIRS_H_
