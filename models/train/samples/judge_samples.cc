#include "models/train/samples/judge_samples.h"

#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "models/arch/ns_assess.h"
#include "models/arch/tile_net.h"
#include "models/train/samples/degrade.h"
#include "models/train/samples/jpeg_simulation.h"
#include "models/train/samples/pairs.h"
#include "models/train/samples/random.h"
#include "models/train/samples/reference_quality.h"

namespace nsic {
namespace {

using at::Tensor;

constexpr double kPhotographs = 0.6;  // share of the scorer's samples
constexpr double kShrunk = 0.25;      // share of the crops made from one of twice the size, where the picture is large enough
constexpr double kOnTheGrid = 0.5;    // share of the tiles that lie on JPEG's 8x8 grid as most of a file's tiles do
constexpr int64_t kBlock = 8;
constexpr double kRecoloured = 0.6;  // share of the classifier's samples
constexpr int64_t kWholeSide = 512;  // of what the original's design takes for a whole picture, at most
constexpr double kByCodecs = 0.35;   // share of the scorer's samples that come from versions by real codecs, where there are some

struct Kind {
  double weight;
  Degradation degradation;
  Degradation before;  // what happened to the original, which is no fault
};

// Of each kind from what nobody sees to what everybody does.
std::vector<Kind> ScoredKinds() {
  const auto one = [](auto step) { return Degradation{0.04, false, {{step, 1}}}; };
  JpegStep jpeg, fine, twice;
  jpeg.quality = {3, 100};
  fine.quality = {70, 100};  // once more: that 100 is better than 90 is the hardest to see, above all in a grainy photograph
  const Degradation grain{0.6, false, {{GaussianNoiseStep{{1, 6}, 0.3}, 1}}};
  twice.quality = {20, 98};
  twice.first_quality = {5, 95};
  twice.shifted = 0.5;
  twice.resized = 0.3;
  JpegStep some;
  some.quality = {10, 98};
  Degradation chain{0.05, true, {}};
  chain.steps = {{some, 0.5},
                 {VideoStep{{18, 42}}, 0.2},
                 {GaussianNoiseStep{{0.5, 15}, 0.3}, 0.3},
                 {BlurStep{{0.3, 1.5}, 0.2}, 0.3},
                 {RescaleStep{{0.5, 0.95}}, 0.3}};
  return {{0.12, one(jpeg)},
          {0.16, one(fine), grain},
          {0.05, one(twice)},
          {0.14, one(VideoStep{{10, 51}})},
          {0.04, one(GaussianNoiseStep{{0.5, 10}, 0.3})},
          {0.04, one(GaussianNoiseStep{{5, 45}, 0.3})},
          {0.02, one(PoissonNoiseStep{{30, 3000}})},
          {0.06, one(BlurStep{{0.25, 1.2}, 0.2})},
          {0.05, one(BlurStep{{0.8, 4}, 0.2})},
          {0.06, one(RescaleStep{{0.5, 0.95}})},
          {0.05, one(RescaleStep{{0.15, 0.6}})},
          {0.12, one(MosaicStep{{2, 8}, 0.1})},
          {0.09, chain}};
}

const CorpusPicture& Draw(const std::vector<CorpusPicture>& pictures, Random* random) {
  return pictures[static_cast<size_t>(random->Below(static_cast<int64_t>(pictures.size())))];
}

size_t DrawKind(const std::vector<Kind>& kinds, Random* random) {
  double way = random->Unit();
  size_t kind = 0;
  while (kind + 1 < kinds.size() && way >= kinds[kind].weight) way -= kinds[kind++].weight;
  return kind;
}

// `count` of one picture: count x 3 x kJudgeSmallest x kJudgeSmallest.
Tensor Crops(const std::vector<CorpusPicture>& pictures, int64_t count, Random* random) {
  const CorpusPicture& picture = Draw(pictures, random);
  const bool shrink = random->Chance(kShrunk) && std::min(picture.width, picture.height) >= 2 * kJudgeSmallest;
  std::vector<Tensor> crops;
  while (static_cast<int64_t>(crops.size()) < count) crops.push_back(RandomCrop(picture, (shrink ? 2 : 1) * kJudgeSmallest, random));
  const Tensor all = at::stack(crops).to(at::kFloat);
  return shrink ? at::avg_pool2d(all, {2, 2}).add_(0.5).floor_() : all;
}

// A picture and two different versions of it by one codec.
struct VersionPair {
  const CorpusPicture *original, *one, *other;
};

VersionPair DrawVersions(const std::vector<SpoiltVersions>& all, Random* random) {
  const SpoiltVersions& drawn = all[static_cast<size_t>(random->Below(static_cast<int64_t>(all.size())))];
  const auto versions = static_cast<int64_t>(drawn.versions.size());
  const int64_t one = random->Below(versions), other = (one + 1 + random->Below(versions - 1)) % versions;
  return {&drawn.original, &drawn.versions[static_cast<size_t>(one)], &drawn.versions[static_cast<size_t>(other)]};
}

int64_t DrawOffset(Random* random) {
  constexpr int64_t kRoom = kJudgeSmallest - kJudgeTile;
  return random->Chance(kOnTheGrid) ? kBlock * random->Below(kRoom / kBlock + 1) : random->Below(kRoom + 1);
}

// The tile at (x, y) of each.
Tensor CutTiles(const Tensor& crops, int64_t x, int64_t y) { return crops.narrow(2, y, kJudgeTile).narrow(3, x, kJudgeTile); }

// Crops of a picture in other light and other colours. A palette makes no photograph of a drawing, but it is what a network learns first of
// a few hundred pictures.
Tensor Recoloured(const Tensor& crops, Random* random) {
  if (!random->Chance(kRecoloured)) return crops;
  const auto within = [random](double low, double high) { return low + (high - low) * random->Unit(); };
  const double saturation = within(0.3, 1.5), gamma = std::exp(within(-0.35, 0.35));
  Tensor gain = torch::empty({1, 3, 1, 1});
  for (int64_t channel = 0; channel < 3; ++channel) gain.select(1, channel).fill_(within(0.85, 1.15));
  const Tensor grey = crops.mean(1, /*keepdim=*/true), coloured = grey + (crops - grey) * saturation;
  const Tensor bright = (coloured * gain.to(crops.device()) / 255.0).clamp(0.0, 1.0).pow(gamma);
  return bright.mul(255.0).add_(0.5).floor_();
}

int64_t Between(int64_t low, int64_t high, Random* random) { return low + random->Below(high - low + 1); }

// Crops of one picture, made what `label` says, all in the same way. What the last compression's tables were goes to `hints`, of a file
// that is a JPEG.
Tensor MakeClass(const Tensor& crops, int64_t label, Random* random, std::array<float, kJpegHints>* hints) {
  Tensor x = Recoloured(crops, random);
  const auto take = [&](auto step) {
    x = Degrade(x, std::vector<uint64_t>(static_cast<size_t>(x.size(0)), random->Next()), {0, false, {{step, 1}}});
  };
  const auto through_jpeg = [&](int64_t quality) {
    JpegStep jpeg;
    jpeg.quality = {static_cast<double>(quality), static_cast<double>(quality)};
    take(jpeg);
    std::array<uint16_t, 64> luma, chroma;
    const std::array<int, 64> luma_table = LuminanceTable(static_cast<int>(quality)),
                              chroma_table = ChrominanceTable(static_cast<int>(quality));
    for (size_t i = 0; i < 64; ++i) {
      luma[i] = static_cast<uint16_t>(luma_table[i]);
      chroma[i] = static_cast<uint16_t>(chroma_table[i]);
    }
    *hints = HintsOf(luma, chroma);
  };
  // Cameras' and scanners' own faults come before any compression and are none.
  if (random->Chance(0.12)) take(BlurStep{{0.3, 0.9}});
  if (random->Chance(0.12)) take(GaussianNoiseStep{{0.5, 5}, 0.3});
  const bool mosaic = label == 6, heavy = !mosaic && label % 3 == 2, light = !mosaic && label % 3 == 1;
  if (mosaic) {
    take(MosaicStep{{2, 8}, 0.15});
    if (random->Chance(0.6)) through_jpeg(Between(60, 98, random));
  } else if (!light && !heavy) {
    if (random->Chance(0.35)) through_jpeg(Between(95, 100, random));
  } else if (random->Chance(0.2)) {
    take(light ? VideoStep{{24, 29}} : VideoStep{{35, 44}});
  } else {
    const double way = random->Unit();
    if (way < 0.15) {  // compressed before, no more finely than the class says
      through_jpeg(light ? Between(70, 92, random) : Between(8, 38, random));
      if (random->Chance(0.5)) take(RescaleStep{{0.7, 1.0}});
      through_jpeg(light ? Between(62, 90, random) : Between(30, 92, random));
    } else {
      through_jpeg(light ? Between(62, 90, random) : Between(5, 38, random));
    }
  }
  if (random->Chance(0.5)) *hints = {};  // saved as something else, or a frame of a video
  return x;
}

}  // namespace

std::vector<std::string> JudgeLabels() {
  return {"photograph-clean", "photograph-light", "photograph-heavy", "drawing-clean", "drawing-light", "drawing-heavy", "mosaic"};
}

std::map<std::string, std::string> JudgeRecommendations() {
  return {{"photograph-light", "kairitsu-lite"},
          {"photograph-heavy", "kairitsu-lite"},
          {"drawing-light", "kyouka-lite"},
          {"drawing-heavy", "kyouka-lite"},
          {"mosaic", "ritsuka-lite"}};
}

JudgeBatch MakeScoreBatch(const JudgePictures& pictures, uint64_t seed, int64_t first, int64_t last, const at::Device& device) {
  const std::vector<Kind> kinds = ScoredKinds();
  struct Simulated {
    int64_t index;  // in the batch
    Tensor crop;
    std::array<uint64_t, 2> seeds;
    std::array<int64_t, 2> offset;
    uint64_t seed_before;
  };
  std::vector<std::vector<Simulated>> of_kind(kinds.size());
  Tensor tiles = torch::empty({2 * (last - first), 3, kJudgeTile, kJudgeTile}), targets = torch::empty_like(tiles);
  for (int64_t index = first; index < last; ++index) {
    Random random(seed, index);
    const int64_t n = index - first;
    const bool photograph = random.Chance(kPhotographs);
    const std::vector<SpoiltVersions>& by_codecs = photograph ? pictures.spoilt_photographs : pictures.spoilt_drawings;
    if (!by_codecs.empty() && random.Chance(kByCodecs)) {
      const VersionPair drawn = DrawVersions(by_codecs, &random);
      const auto tile = [&random](const CorpusPicture& picture) {  // of each the same
        Random same = random;
        return RandomCrop(picture, kJudgeTile, &same);
      };
      tiles[2 * n].copy_(tile(*drawn.one));
      tiles[2 * n + 1].copy_(tile(*drawn.other));
      targets.narrow(0, 2 * n, 2).copy_(tile(*drawn.original).expand({2, 3, kJudgeTile, kJudgeTile}));
      continue;
    }
    Simulated sample{n, Crops(photograph ? pictures.photographs : pictures.drawings, 1, &random).squeeze(0), {}, {}, 0};
    const size_t kind = DrawKind(kinds, &random);
    sample.seeds = {random.Next(), random.Next()};
    sample.offset = {DrawOffset(&random), DrawOffset(&random)};
    sample.seed_before = random.Next();
    of_kind[kind].push_back(std::move(sample));
  }
  tiles = tiles.to(device);
  targets = targets.to(device);
  for (size_t kind = 0; kind < kinds.size(); ++kind) {
    if (of_kind[kind].empty()) continue;
    std::vector<Tensor> originals;
    std::vector<uint64_t> seeds, seeds_before;
    for (const Simulated& sample : of_kind[kind]) {
      originals.insert(originals.end(), 2, sample.crop);
      seeds.insert(seeds.end(), sample.seeds.begin(), sample.seeds.end());
      seeds_before.insert(seeds_before.end(), 2, sample.seed_before);
    }
    const Tensor good = Degrade(at::stack(originals).to(device), seeds_before, kinds[kind].before),
                 spoilt = Degrade(good, seeds, kinds[kind].degradation);
    for (size_t i = 0; i < of_kind[kind].size(); ++i) {
      const Simulated& sample = of_kind[kind][i];
      const auto both = static_cast<int64_t>(2 * i);
      const auto cut = [&](const Tensor& crops) { return CutTiles(crops.narrow(0, both, 2), sample.offset[0], sample.offset[1]); };
      tiles.narrow(0, 2 * sample.index, 2).copy_(cut(spoilt));
      targets.narrow(0, 2 * sample.index, 2).copy_(cut(good));
    }
  }
  return {tiles / 255.0, ReferenceQuality(targets, tiles)};
}

JudgeBatch MakeWholeScoreBatch(const JudgePictures& pictures, uint64_t seed, int64_t first, int64_t last, const at::Device& device) {
  const std::vector<Kind> kinds = ScoredKinds();
  std::vector<Tensor> inputs, targets;
  for (int64_t index = first; index < last; ++index) {
    Random random(seed, index);
    const bool photograph = random.Chance(kPhotographs);
    const std::vector<SpoiltVersions>& by_codecs = photograph ? pictures.spoilt_photographs : pictures.spoilt_drawings;
    const auto add = [&](const Tensor& original, const Tensor& spoilt) {
      inputs.push_back(ForNsAssess(spoilt / 255.0));
      targets.push_back(ReferenceQuality(original, spoilt));
    };
    if (!by_codecs.empty() && random.Chance(kByCodecs)) {
      const VersionPair drawn = DrawVersions(by_codecs, &random);
      const Tensor original = WholePicture(*drawn.original, device);
      for (const CorpusPicture* version : {drawn.one, drawn.other}) add(original, WholePicture(*version, device));
      continue;
    }
    const CorpusPicture& picture = Draw(photograph ? pictures.photographs : pictures.drawings, &random);
    const int64_t width = std::min<int64_t>(picture.width, kWholeSide), height = std::min<int64_t>(picture.height, kWholeSide);
    const int64_t x = random.Below(picture.width - width + 1), y = random.Below(picture.height - height + 1);
    const Kind& kind = kinds[DrawKind(kinds, &random)];
    const Tensor piece = WholePicture(picture, device).narrow(2, y, height).narrow(3, x, width).contiguous();
    const Tensor original = Degrade(piece, {random.Next()}, kind.before);
    for (int version = 0; version < 2; ++version) add(original, Degrade(original, {random.Next()}, kind.degradation));
  }
  return {at::cat(inputs), at::cat(targets)};
}

JudgeBatch MakeClassBatch(const JudgePictures& pictures, uint64_t seed, int64_t first, int64_t last, const at::Device& device) {
  const int64_t classes = static_cast<int64_t>(JudgeLabels().size());
  std::vector<Tensor> tiles;
  std::vector<int64_t> labels;
  for (int64_t index = first; index < last; ++index) {
    Random random(seed, index);
    const int64_t label = random.Below(classes);
    const bool drawing = label == 6 ? random.Chance(0.5) : label >= 3;
    const Tensor crops = Crops(drawing ? pictures.drawings : pictures.photographs, kClassTiles, &random).to(device);
    std::array<float, kJpegHints> hints{};
    const Tensor made = MakeClass(crops, label, &random, &hints);
    const int64_t x = DrawOffset(&random), y = DrawOffset(&random);
    const Tensor told = torch::tensor({hints[0], hints[1], hints[2]}).to(device).view({1, kJpegHints, 1, 1});
    tiles.push_back(at::cat({CutTiles(made, x, y) / 255.0, told.expand({kClassTiles, kJpegHints, kJudgeTile, kJudgeTile})}, 1));
    labels.push_back(label);
  }
  return {at::cat(tiles), torch::tensor(labels, at::kLong).to(device)};
}

}  // namespace nsic
