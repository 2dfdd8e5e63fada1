#include "models/arch/ns_assess.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

namespace nsic {
namespace {

ConvShape Plain(int64_t in, int64_t out, int64_t kernel, int64_t stride) {
  return {in, out, kernel, stride, /*padding=*/kernel / 2, /*groups=*/1, /*bias=*/false};
}

ConvShape Depthwise(int64_t channels, int64_t kernel, int64_t stride) {
  return {channels, channels, kernel, stride, /*padding=*/kernel / 2, /*groups=*/channels, /*bias=*/false};
}

// The last layer of both: the mean over the picture, then a linear layer.
struct Head {
  at::Tensor weight, bias;

  Head() = default;
  Head(int64_t in, int64_t out, WeightReader& reader)
      : weight(reader.Take("classifier.1.weight", {out, in})), bias(reader.Take("classifier.1.bias", {out})) {}
  at::Tensor operator()(const at::Tensor& x) const { return at::linear(x.mean({2, 3}), weight, bias); }
};

// A depthwise and a pointwise convolution of NS-IQA with a batch norm and a ReLU, as the original's `features` count them.
struct NsIqaStage {
  int index;
  int64_t in, out;
  bool pool;  // after it

  std::string name() const { return "features." + std::to_string(index); }
  std::string norm() const { return "features." + std::to_string(index + 1); }
};
constexpr int64_t kNsIqaStem = 32;
constexpr NsIqaStage kNsIqaStages[] = {{3, 32, 64, true},     {7, 64, 128, false},  {10, 128, 128, true},
                                       {14, 128, 256, false}, {17, 256, 256, true}, {21, 256, 512, false}};
constexpr int64_t kNsIqaLast = 512;

class NsIqa : public Network {
 public:
  explicit NsIqa(WeightReader& reader) {
    stem_ = reader.TakeConvNorm("features.0", "features.1", Plain(3, kNsIqaStem, 3, 1));
    for (const NsIqaStage& stage : kNsIqaStages) {
      stages_.push_back({reader.TakeConv(stage.name() + ".depthwise", Depthwise(stage.in, 3, 1)),
                         reader.TakeConvNorm(stage.name() + ".pointwise", stage.norm(), Plain(stage.in, stage.out, 1, 1)), stage.pool});
    }
    head_ = Head(kNsIqaLast, 1, reader);
  }

  at::Tensor Forward(const at::Tensor& input) const override {
    at::Tensor x = stem_(input).relu_();
    for (const Stage& stage : stages_) {
      x = stage.pointwise(stage.depthwise(x)).relu_();
      if (stage.pool) x = at::max_pool2d(x, {2, 2});
    }
    return head_(x);
  }

  int64_t PeakBytes(int64_t height, int64_t width) const override { return 4 * (32 + 64) * 2 * height * width; }

 private:
  struct Stage {
    Conv2d depthwise, pointwise;
    bool pool = false;
  };
  Conv2d stem_;
  std::vector<Stage> stages_;
  Head head_;
};

// With gradients, and batch norms that learn.
class TrainableNsIqa : public TrainableNet {
 public:
  TrainableNsIqa() {
    stem_ = AddNormed("features.0", "features.1", 3, kNsIqaStem, 3);
    for (const NsIqaStage& stage : kNsIqaStages) {
      const double deviation = std::sqrt(1.0 / 9);  // no ReLU follows
      stages_.push_back({AddWeight(stage.name() + ".depthwise.weight", at::randn({stage.in, 1, 3, 3}) * deviation),
                         AddNormed(stage.name() + ".pointwise", stage.norm(), stage.in, stage.out, 1), stage.pool});
    }
    weight_ = AddWeight("classifier.1.weight", at::randn({1, kNsIqaLast}) * std::sqrt(1.0 / kNsIqaLast));
    bias_ = AddWeight("classifier.1.bias", at::full({1}, kMiddleScore));
  }

  at::Tensor Forward(const at::Tensor& pictures, at::ScalarType compute) override {
    at::Tensor x = stem_(pictures.to(compute).contiguous(at::MemoryFormat::ChannelsLast), compute, learning());
    for (const Stage& stage : stages_) {
      x = at::conv2d(x, stage.depthwise.to(compute), {}, {1, 1}, {1, 1}, {1, 1}, stage.depthwise.size(0));
      x = stage.pointwise(x, compute, learning());
      if (stage.pool) x = at::max_pool2d(x, {2, 2});
    }
    return at::linear(x.to(at::kFloat).mean({2, 3}), weight_, bias_);
  }

 private:
  static constexpr double kMiddleScore = 50;  // said of every picture at first

  struct Normed {
    at::Tensor conv, weight, bias, mean, variance;

    at::Tensor operator()(const at::Tensor& x, at::ScalarType compute, bool learning) const {
      constexpr double kMomentum = 0.1, kEps = 1e-5;  // PyTorch's defaults, which the original kept
      // The norm's own numbers are fp32, and so are its sums, whatever it is given.
      const at::Tensor y = at::conv2d(x, conv.to(compute), {}, {1, 1}, {conv.size(2) / 2, conv.size(3) / 2});
      return at::batch_norm(y, weight, bias, mean, variance, learning, kMomentum, kEps, /*cudnn_enabled=*/true).relu_();
    }
  };
  Normed AddNormed(const std::string& conv, const std::string& norm, int64_t in, int64_t out, int64_t kernel) {
    const double deviation = std::sqrt(2.0 / static_cast<double>(in * kernel * kernel));
    return {AddWeight(conv + ".weight", at::randn({out, in, kernel, kernel}) * deviation), AddWeight(norm + ".weight", at::ones({out})),
            AddWeight(norm + ".bias", at::zeros({out})), AddStatistic(norm + ".running_mean", at::zeros({out})),
            AddStatistic(norm + ".running_var", at::ones({out}))};
  }

  struct Stage {
    at::Tensor depthwise;
    Normed pointwise;
    bool pool;
  };
  Normed stem_;
  std::vector<Stage> stages_;
  at::Tensor weight_, bias_;
};

// EfficientNet-B0 as torchvision lays it out. Source: Tan and Le, "EfficientNet", ICML 2019, table 1.
class NsC : public Network {
 public:
  NsC(int64_t classes, WeightReader& reader) {
    struct StageShape {
      int64_t expand, kernel, stride, in, out, layers;
    };
    constexpr StageShape kStages[] = {{1, 3, 1, 32, 16, 1},  {6, 3, 2, 16, 24, 2},   {6, 5, 2, 24, 40, 2},  {6, 3, 2, 40, 80, 3},
                                      {6, 5, 1, 80, 112, 3}, {6, 5, 2, 112, 192, 4}, {6, 3, 1, 192, 320, 1}};
    stem_ = reader.TakeConvNorm("features.0.0", "features.0.1", Plain(3, 32, 3, 2));
    for (size_t s = 0; s < std::size(kStages); ++s) {
      const StageShape& stage = kStages[s];
      for (int64_t layer = 0; layer < stage.layers; ++layer) {
        const std::string name = "features." + std::to_string(s + 1) + "." + std::to_string(layer) + ".block.";
        blocks_.push_back(TakeBlock(name, stage.expand, stage.kernel, layer == 0 ? stage.stride : 1, layer == 0 ? stage.in : stage.out,
                                    stage.out, reader));
      }
    }
    last_ = reader.TakeConvNorm("features.8.0", "features.8.1", Plain(320, 1280, 1, 1));
    head_ = Head(1280, classes, reader);
  }

  at::Tensor Forward(const at::Tensor& input) const override {
    at::Tensor x = Silu(stem_(input));
    for (const Block& block : blocks_) {
      at::Tensor y = block.expand ? Silu((*block.expand)(x)) : x;
      y = Silu(block.depthwise(y));
      const at::Tensor squeezed = Silu(block.squeeze(y.mean({2, 3}, /*keepdim=*/true)));
      y = block.project(y.mul_(block.excite(squeezed).sigmoid_()));
      x = block.residual ? y.add_(x) : y;
    }
    return head_(Silu(last_(x)));
  }

  int64_t PeakBytes(int64_t height, int64_t width) const override { return 4 * 96 * height * width; }

 private:
  struct Block {
    std::optional<Conv2d> expand;
    Conv2d depthwise, squeeze, excite, project;
    bool residual = false;
  };

  static at::Tensor Silu(at::Tensor x) { return at::silu_(x); }

  static Block TakeBlock(const std::string& name, int64_t expand, int64_t kernel, int64_t stride, int64_t in, int64_t out,
                         WeightReader& reader) {
    Block block;
    const int64_t inner = in * expand;
    const int64_t squeezed = std::max<int64_t>(1, in / 4);
    int part = 0;
    const auto next = [&] { return name + std::to_string(part++); };
    if (expand != 1) {
      const std::string n = next();
      block.expand = reader.TakeConvNorm(n + ".0", n + ".1", Plain(in, inner, 1, 1));
    }
    const std::string depthwise = next();
    block.depthwise = reader.TakeConvNorm(depthwise + ".0", depthwise + ".1", Depthwise(inner, kernel, stride));
    const std::string gate = next();
    block.squeeze = reader.TakeConv(gate + ".fc1", {inner, squeezed, /*kernel=*/1, /*stride=*/1, /*padding=*/0});
    block.excite = reader.TakeConv(gate + ".fc2", {squeezed, inner, /*kernel=*/1, /*stride=*/1, /*padding=*/0});
    const std::string project = next();
    block.project = reader.TakeConvNorm(project + ".0", project + ".1", Plain(inner, out, 1, 1));
    block.residual = stride == 1 && in == out;
    return block;
  }

  Conv2d stem_;
  std::vector<Block> blocks_;
  Conv2d last_;
  Head head_;
};

}  // namespace

at::Tensor ForNsAssess(const at::Tensor& picture) {
  const at::Tensor resized = at::_upsample_bilinear2d_aa(picture, {kNsAssessSide, kNsAssessSide}, /*align_corners=*/false);
  const at::Tensor mean = at::tensor({0.485f, 0.456f, 0.406f}, picture.options()).view({1, 3, 1, 1});
  const at::Tensor deviation = at::tensor({0.229f, 0.224f, 0.225f}, picture.options()).view({1, 3, 1, 1});
  return (resized - mean) / deviation;
}

std::unique_ptr<TrainableNet> MakeTrainableNsIqa() { return std::make_unique<TrainableNsIqa>(); }

std::unique_ptr<Network> BuildNsIqa(WeightReader& reader) { return std::make_unique<NsIqa>(reader); }

std::unique_ptr<Network> BuildNsC(int64_t classes, WeightReader& reader) { return std::make_unique<NsC>(classes, reader); }

}  // namespace nsic
