#include <torch/torch.h>

#include <algorithm>
#include <cstring>
#include <future>
#include <utility>

#include "core/base/geometry.h"
#include "core/infer/engine.h"
#include "core/infer/load_network.h"
#include "core/infer/torch_errors.h"
#include "models/arch/ns_assess.h"
#include "models/arch/tile_net.h"

namespace nsic {
namespace {

constexpr int kCrop = 256;       // side of what a classifier looks at,
constexpr int kCropsAcross = 4;  // and how many of them each way
constexpr int kJpegBlock = 8;

Status CheckPicture(const PlanarImage& picture) {
  if (picture.channels == 3 && picture.width >= 1 && picture.height >= 1) return OkStatus();
  return InvalidArgumentError("the picture to assess must have three channels and at least one pixel");
}

// Runs an original's network over the picture as it was trained.
Result<at::Tensor> AssessResized(const LoadedNetwork& loaded, const PlanarImage& picture) {
  at::Tensor output;
  NSIC_RETURN_IF_ERROR(CatchTorchErrors("assessing a picture on " + loaded.device, [&]() -> Status {
    const c10::InferenceMode no_gradients;
    loaded.Prepare();
    // from_blob wants a mutable pointer; nothing writes through it.
    const at::Tensor x = at::from_blob(const_cast<float*>(picture.samples.data()), {1, 3, picture.height, picture.width}, at::kFloat);
    output = loaded.network->Forward(ForNsAssess(x.to(at::Device(loaded.device)))).to(at::kCPU);
    if (!at::isfinite(output).all().item<bool>()) return DataLossError("the network gives NaN or Inf for this picture");
    return OkStatus();
  }));
  return output;
}

// The tile at `rect` with `hints` after it, its edges repeated outwards to what the network takes: 1 x (3 + hints) x h x w.
at::Tensor CutTile(const PlanarImage& picture, const Rect& rect, const std::vector<float>& hints) {
  const auto padded = [](int side) { return (side + kTileMultiple - 1) / kTileMultiple * kTileMultiple; };
  const int64_t height = padded(rect.height), width = padded(rect.width);
  at::Tensor tile = at::empty({1, 3 + static_cast<int64_t>(hints.size()), height, width}, at::kFloat);
  float* out = tile.data_ptr<float>();
  for (int channel = 0; channel < 3; ++channel) {
    for (int64_t y = 0; y < height; ++y, out += width) {
      const int row = std::min(rect.y + static_cast<int>(y), rect.bottom() - 1);
      const float* in = picture.plane(channel) + static_cast<size_t>(row) * static_cast<size_t>(picture.width) + rect.x;
      std::copy(in, in + rect.width, out);
      std::fill(out + rect.width, out + width, in[rect.width - 1]);
    }
  }
  for (float hint : hints) out = std::fill_n(out, height * width, hint);
  return tile;
}

// Before a network of tiles runs in this thread. On the CPU each thread works alone, so that the bits do not depend on how many there are.
void PrepareThread(const LoadedNetwork& loaded) {
  if (loaded.device != "cpu") {
    loaded.Prepare();
  } else if (at::get_num_threads() != 1) {
    at::set_num_threads(1);
  }
}

// What the network sees of each tile: tiles x channels. On the CPU the threads share the tiles.
Result<at::Tensor> SeeTiles(const LoadedNetwork& loaded, const PlanarImage& picture, const std::vector<Rect>& tiles,
                            const std::vector<float>& hints, int workers) {
  std::vector<at::Tensor> seen(tiles.size());
  const auto work = [&](size_t first) {
    return CatchTorchErrors("assessing a picture on " + loaded.device, [&]() -> Status {
      const c10::InferenceMode no_gradients;
      PrepareThread(loaded);
      for (size_t i = first; i < tiles.size(); i += static_cast<size_t>(workers)) {
        const at::Tensor tile = CutTile(picture, tiles[i], hints);
        if (!at::isfinite(tile).all().item<bool>()) return DataLossError("the picture has samples that are NaN or Inf");
        seen[i] = loaded.network->Forward(tile.to(at::Device(loaded.device))).to(at::kCPU);
        if (!at::isfinite(seen[i]).all().item<bool>()) return DataLossError("the network gives NaN or Inf for this picture");
      }
      return OkStatus();
    });
  };
  if (workers == 1) {
    NSIC_RETURN_IF_ERROR(work(0));
    return at::cat(seen);
  }
  std::vector<std::future<Status>> running;
  for (int worker = 0; worker < workers; ++worker) running.push_back(std::async(std::launch::async, work, static_cast<size_t>(worker)));
  Status status;
  for (std::future<Status>& one : running) {
    Status its = one.get();
    if (status.ok()) status = std::move(its);
  }
  NSIC_RETURN_IF_ERROR(status);
  return at::cat(seen);
}

// What the network says of that, a row at a time: no row depends on the others.
Result<at::Tensor> Conclude(const LoadedNetwork& loaded, const at::Tensor& seen) {
  std::vector<at::Tensor> outputs;
  NSIC_RETURN_IF_ERROR(CatchTorchErrors("assessing a picture on " + loaded.device, [&]() -> Status {
    const c10::InferenceMode no_gradients;
    PrepareThread(loaded);
    for (const at::Tensor& row : seen.to(at::Device(loaded.device)).split(1)) {
      outputs.push_back(loaded.network->Conclude(row).to(at::kCPU));
      if (!at::isfinite(outputs.back()).all().item<bool>()) return DataLossError("the network gives NaN or Inf for this picture");
    }
    return OkStatus();
  }));
  return at::cat(outputs);
}

struct Judge {
  LoadedNetwork loaded;
  bool tiled = false;  // else an original
  int workers = 1;     // that the memory budget allows
};

Result<Judge> LoadFor(ModelTask task, const std::string& what, const ModelPack& pack, const EngineOptions& options) {
  const ModelCard& card = pack.card;
  if (card.task != task) return InvalidArgumentError("model " + card.name + " is no " + what);
  Judge judge;
  NSIC_ASSIGN_OR_RETURN(judge.loaded, LoadNetwork(pack, options));
  judge.tiled = card.architecture == "tile-iqa" || card.architecture == "tile-c";
  const int64_t side = judge.tiled && task == ModelTask::kScore ? card.tiling.tile : kNsAssessSide;
  const int64_t needed = judge.loaded.network->PeakBytes(side, side);
  if (needed > options.memory_budget) {
    return ResourceExhaustedError("model " + card.name + " needs " + std::to_string(needed >> 20) +
                                  " MiB, more than the memory budget of " + std::to_string(options.memory_budget >> 20) + " MiB");
  }
  if (judge.loaded.device == "cpu") {
    judge.workers = static_cast<int>(std::min<int64_t>(judge.loaded.threads, options.memory_budget / needed));
  }
  return judge;
}

class NetworkScorer : public Scorer {
 public:
  NetworkScorer(Judge judge, int tile) : judge_(std::move(judge)), tile_(tile) {}

  Result<PictureQuality> Score(const PlanarImage& picture) override {
    NSIC_RETURN_IF_ERROR(CheckPicture(picture));
    PictureQuality quality;
    if (!judge_.tiled) {
      NSIC_ASSIGN_OR_RETURN(const at::Tensor output, AssessResized(judge_.loaded, picture));
      quality.score = std::clamp(output.item<double>(), 0.0, 100.0);
      quality.tile = std::max(picture.width, picture.height);
      quality.columns = quality.rows = 1;
      quality.map = {quality.score};
      return quality;
    }
    quality.tile = tile_;
    quality.columns = (picture.width + tile_ - 1) / tile_;
    quality.rows = (picture.height + tile_ - 1) / tile_;
    std::vector<Rect> tiles;
    for (int row = 0; row < quality.rows; ++row) {
      for (int column = 0; column < quality.columns; ++column) {
        const int width = std::min(tile_, picture.width), height = std::min(tile_, picture.height);
        tiles.push_back({std::min(column * tile_, picture.width - width), std::min(row * tile_, picture.height - height), width, height});
      }
    }
    NSIC_ASSIGN_OR_RETURN(const at::Tensor seen, SeeTiles(judge_.loaded, picture, tiles, {}, judge_.workers));
    NSIC_ASSIGN_OR_RETURN(const at::Tensor output, Conclude(judge_.loaded, seen));
    const at::Tensor scores = output.to(at::kDouble).sigmoid() * 100.0;
    quality.map.assign(scores.data_ptr<double>(), scores.data_ptr<double>() + scores.numel());
    for (double score : quality.map) quality.score += score / static_cast<double>(quality.map.size());
    return quality;
  }

 private:
  const Judge judge_;
  const int tile_;
};

// Where crops of kCrop lie along a side: evenly from end to end, on JPEG's grid.
std::vector<int> CropStarts(int side) {
  const int room = std::max(0, side - kCrop), count = std::min(kCropsAcross, (side + kCrop - 1) / kCrop);
  std::vector<int> starts;
  for (int i = 0; i < count; ++i) {
    const int64_t even = count > 1 ? int64_t{room} * i / (count - 1) : 0;
    starts.push_back(static_cast<int>(even) / kJpegBlock * kJpegBlock);
  }
  return starts;
}

class NetworkClassifier : public Classifier {
 public:
  NetworkClassifier(Judge judge, std::vector<std::string> labels) : judge_(std::move(judge)), labels_(std::move(labels)) {}

  Result<std::vector<std::pair<std::string, double>>> Classify(const PlanarImage& picture, const std::optional<JpegTables>& jpeg) override {
    NSIC_RETURN_IF_ERROR(CheckPicture(picture));
    at::Tensor output;
    if (judge_.tiled) {
      std::vector<Rect> crops;
      for (int y : CropStarts(picture.height)) {
        for (int x : CropStarts(picture.width)) crops.push_back({x, y, std::min(kCrop, picture.width), std::min(kCrop, picture.height)});
      }
      std::array<float, kJpegHints> hints{};
      if (jpeg) hints = HintsOf(jpeg->luma, jpeg->chroma);
      NSIC_ASSIGN_OR_RETURN(const at::Tensor seen, SeeTiles(judge_.loaded, picture, crops, {hints.begin(), hints.end()}, judge_.workers));
      NSIC_ASSIGN_OR_RETURN(output, Conclude(judge_.loaded, seen.mean(0, /*keepdim=*/true)));
    } else {
      NSIC_ASSIGN_OR_RETURN(output, AssessResized(judge_.loaded, picture));
    }
    const at::Tensor probabilities = output.to(at::kDouble).softmax(1).squeeze(0);
    std::vector<std::pair<std::string, double>> classes;
    for (size_t i = 0; i < labels_.size(); ++i) classes.emplace_back(labels_[i], probabilities[static_cast<int64_t>(i)].item<double>());
    std::stable_sort(classes.begin(), classes.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
    return classes;
  }

 private:
  const Judge judge_;
  const std::vector<std::string> labels_;
};

}  // namespace

Result<std::unique_ptr<Scorer>> LoadScorer(const ModelPack& pack, const EngineOptions& options) {
  NSIC_ASSIGN_OR_RETURN(Judge judge, LoadFor(ModelTask::kScore, "scorer", pack, options));
  return std::unique_ptr<Scorer>(std::make_unique<NetworkScorer>(std::move(judge), pack.card.tiling.tile));
}

Result<std::unique_ptr<Classifier>> LoadClassifier(const ModelPack& pack, const EngineOptions& options) {
  NSIC_ASSIGN_OR_RETURN(Judge judge, LoadFor(ModelTask::kClassify, "classifier", pack, options));
  return std::unique_ptr<Classifier>(std::make_unique<NetworkClassifier>(std::move(judge), pack.card.labels));
}

}  // namespace nsic
