// What the two models that judge pictures learn from: tiles of native resolution, spoilt on the device, and what is to be said of them.
#ifndef NSIC_MODELS_TRAIN_SAMPLES_JUDGE_SAMPLES_H_
#define NSIC_MODELS_TRAIN_SAMPLES_JUDGE_SAMPLES_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "models/train/corpora/corpus.h"

namespace nsic {

constexpr int64_t kJudgeTile = 128;      // side of a tile in pixels
constexpr int64_t kJudgeSmallest = 144;  // side of the smallest picture that can be learnt from: tiles are cut from what was spoilt
constexpr int64_t kClassTiles = 4;       // of one picture, which the classifier sees as one sample

// Of the classifier, in the order of its outputs. "light" is a compression like JPEG's above quality 60, "heavy" one like those below 40.
std::vector<std::string> JudgeLabels();
// The packs that are shipped for those labels.
std::map<std::string, std::string> JudgeRecommendations();

// A picture, and two versions or more that one codec made of it.
struct SpoiltVersions {
  CorpusPicture original;
  std::vector<CorpusPicture> versions;
};

struct JudgePictures {
  std::vector<CorpusPicture> photographs;
  std::vector<CorpusPicture> drawings;
  std::vector<SpoiltVersions> spoilt_photographs;  // of some of them, or none: the scorer learns from these too
  std::vector<SpoiltVersions> spoilt_drawings;
};

struct JudgeBatch {
  at::Tensor tiles;   // N x 3 x tile x tile in [0, 1]; for a classifier N x 6, with what it is told of the file
  at::Tensor target;  // N: ReferenceQuality, fp32; or of each sample the label's number, int64
};

// Samples `first` to `last` (not included) of the endless sequence that `seed` stands for: of the scorer two tiles each, 2 n and 2 n + 1,
// which are one crop spoilt in one way to two degrees; of the classifier kClassTiles each, of a picture spoilt in one way.
JudgeBatch MakeScoreBatch(const JudgePictures& pictures, uint64_t seed, int64_t first, int64_t last, const at::Device& device);
// The same of whole pictures, but no more than 512 pixels a side, made as NS-IQA takes them (ns_assess.h), for the original's design.
JudgeBatch MakeWholeScoreBatch(const JudgePictures& pictures, uint64_t seed, int64_t first, int64_t last, const at::Device& device);
JudgeBatch MakeClassBatch(const JudgePictures& pictures, uint64_t seed, int64_t first, int64_t last, const at::Device& device);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_SAMPLES_JUDGE_SAMPLES_H_
