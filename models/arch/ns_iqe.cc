#include "models/arch/ns_iqe.h"

#include <torch/torch.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#ifdef NSIC_CPU_FAST_PATH
#include "models/arch/fast_convs.h"
#endif

namespace nsic {
namespace {

constexpr int64_t kGrowth = 32;  // channels that each dense layer adds
constexpr double kSlope = 0.2;   // of every LeakyReLU
constexpr double kResidualScale = 0.2;
// Rows of the attention matrix at a time: its memory grows with the tile's area and not with its square. The sums are the same.
constexpr int64_t kAttentionRows = 512;

at::Tensor LeakyReluInPlace(at::Tensor x) { return at::leaky_relu_(x, kSlope); }

#ifndef NSIC_CPU_FAST_PATH
class WorkspacePool {};  // there is nothing to share
#endif

// A convolution in `type` and then, with `active`, LeakyReLU. On the CPU those of 3x3 go the fast way in fp32.
class ActiveConv {
 public:
  ActiveConv() = default;
  ActiveConv(const Conv2d& conv, bool active, at::ScalarType type, const std::shared_ptr<WorkspacePool>& workspaces)
      : conv_(conv.To(type)), active_(active) {
    (void)workspaces;
#ifdef NSIC_CPU_FAST_PATH
    if (!RunsOnFastConvs({conv_.weight.device(), type}) || conv_.weight.size(2) != 3) return;
    fast_ = std::make_shared<FastConvs>(
        std::vector<ConvLayer>{ToConvLayer(conv_.weight, conv_.bias, at::full({conv_.weight.size(0)}, active ? kSlope : 1.0))}, workspaces);
    conv_ = {};
#endif
  }

  at::Tensor operator()(const at::Tensor& x) const {
#ifdef NSIC_CPU_FAST_PATH
    if (fast_ != nullptr) return (*fast_)(x);
#endif
    return active_ ? LeakyReluInPlace(conv_(x)) : conv_(x);
  }

  // Reads the first `used` channels of `all`, which lies as channels last, and writes its own behind them.
  void Append(const at::Tensor& all, int64_t used) const {
#ifdef NSIC_CPU_FAST_PATH
    if (fast_ != nullptr) return fast_->Append(all);
#endif
    const at::Tensor y = (*this)(all.narrow(1, 0, used));
    all.narrow(1, used, y.size(1)).copy_(y);
  }

 private:
  Conv2d conv_;
  bool active_ = false;
#ifdef NSIC_CPU_FAST_PATH
  std::shared_ptr<FastConvs> fast_;
#endif
};

// The output of `conv` times the factor.
Conv2d Scaled(Conv2d conv, double factor) {
  conv.weight = conv.weight * factor;
  conv.bias = conv.bias * factor;
  return conv;
}

struct DenseBlock {
  ActiveConv dense1, dense2, dense3;
  ActiveConv final_conv;  // scaled for the residual

  at::Tensor operator()(const at::Tensor& x) const {
    const int64_t channels = x.size(1);
    // One place for all that the layers add, so that none has to be copied for the next.
    const at::Tensor all =
        at::empty({x.size(0), channels + 3 * kGrowth, x.size(2), x.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
    all.narrow(1, 0, channels).copy_(x);
    dense1.Append(all, channels);
    dense2.Append(all, channels + kGrowth);
    dense3.Append(all, channels + 2 * kGrowth);
    return LeakyReluInPlace(final_conv(all).add_(x));
  }
};

// A 1x1 convolution, as matrices: oneDNN's own rounds differently with the number of threads, the matrix product does not.
struct Pointwise {
  at::Tensor weight;  // out x in
  at::Tensor bias;    // out

  Pointwise() = default;
  Pointwise(const std::string& name, int64_t in, int64_t out, at::ScalarType type, WeightReader& reader)
      : weight(reader.Take(name + ".weight", {out, in, 1, 1}).view({out, in}).to(type)),
        bias(reader.Take(name + ".bias", {out}).to(type)) {}
};

struct Attention {
  Pointwise query, key, value;
  at::Tensor gamma;

  at::Tensor operator()(const at::Tensor& x) const {
    const int64_t positions = x.size(2) * x.size(3);
    std::vector<at::Tensor> pictures;
    for (int64_t n = 0; n < x.size(0); ++n) {
      const at::Tensor flat = x[n].flatten(1);                                  // channels x positions, whatever their order in memory
      const at::Tensor q = at::addmm(query.bias, flat.t(), query.weight.t());   // positions x channels / 8
      const at::Tensor k = at::addmm(key.bias.unsqueeze(1), key.weight, flat);  // channels / 8 x positions
      const at::Tensor v = at::addmm(value.bias, flat.t(), value.weight.t());   // positions x channels
      at::Tensor out = at::empty_like(v);
      for (int64_t row = 0; row < positions; row += kAttentionRows) {
        const int64_t rows = std::min(kAttentionRows, positions - row);
        at::Tensor part = out.narrow(0, row, rows);
        at::mm_out(part, at::softmax(at::mm(q.narrow(0, row, rows), k), 1), v);
      }
      pictures.push_back(out.view({x.size(2), x.size(3), x.size(1)}).permute({2, 0, 1}));
    }
    return at::stack(pictures).mul_(gamma).add_(x);
  }
};

class NsIqe : public Network {
 public:
  NsIqe(const NsIqeShape& shape, at::ScalarType type, WeightReader& reader) : features_(shape.features), type_(type) {
    const int64_t f = shape.features;
    const int64_t c = 4 * f;
    const auto workspaces = std::make_shared<WorkspacePool>();
    const auto active = [&](const Conv2d& conv) { return ActiveConv(conv, true, type, workspaces); };
    const auto plain = [&](const Conv2d& conv) { return ActiveConv(conv, false, type, workspaces); };
    first_ = plain(reader.TakeConv("conv_first", {3, f}));
    encoder1_ = active(reader.TakeConvNorm("encoder.0", "encoder.1", {f, 2 * f, /*kernel=*/4, /*stride=*/2}));
    encoder2_ = active(reader.TakeConvNorm("encoder.3", "encoder.4", {2 * f, c, /*kernel=*/4, /*stride=*/2}));
    for (int64_t i = 0; i < shape.blocks; ++i) {
      const std::string name = "rrdb_blocks." + std::to_string(i) + ".";
      DenseBlock block;
      block.dense1 = active(reader.TakeConv(name + "dense1.0", {c, kGrowth}));
      block.dense2 = active(reader.TakeConv(name + "dense2.0", {c + kGrowth, kGrowth}));
      block.dense3 = active(reader.TakeConv(name + "dense3.0", {c + 2 * kGrowth, kGrowth}));
      block.final_conv = plain(Scaled(reader.TakeConv(name + "final_conv", {c + 3 * kGrowth, c}), kResidualScale));
      blocks_.push_back(std::move(block));
    }
    attention_.query = Pointwise("attention.query", c, c / 8, type, reader);
    attention_.key = Pointwise("attention.key", c, c / 8, type, reader);
    attention_.value = Pointwise("attention.value", c, c, type, reader);
    attention_.gamma = reader.Take("attention.gamma", {1}).to(type);
    upsample1_ = active(reader.TakeConvNorm("upsample.1", "upsample.2", {c, c}));
    upsample2_ = active(reader.TakeConvNorm("upsample.5", "upsample.6", {c, c}));
    final1_ = active(reader.TakeConvNorm("final_conv.0", "final_conv.1", {c, 2 * f}));
    final2_ = active(reader.TakeConvNorm("final_conv.3", "final_conv.4", {2 * f, f}));
    final3_ = plain(reader.TakeConv("final_conv.6", {f, 3}));
  }

  at::Tensor Forward(const at::Tensor& input) const override {
    at::Tensor x = encoder2_(encoder1_(first_(input.to(type_).contiguous(at::MemoryFormat::ChannelsLast))));
    for (const DenseBlock& block : blocks_) x = block(x);
    x = attention_(x);
    x = upsample2_(Double(upsample1_(Double(x))));
    // In fp32 again: in a half type the steps near white are as wide as those of 8-bit pictures.
    return final3_(final2_(final1_(x))).to(at::kFloat).sigmoid_();
  }

  int64_t PeakBytes(int64_t height, int64_t width) const override {
    // The peak is the convolution after the second upsampling: input and output with 4 F channels at full size, and what oneDNN
    // keeps of both in its own layout.
    const int64_t rows = std::min(kAttentionRows, height * width / 16);
    return 4 * 4 * features_ * 5 * height * width + 2 * 4 * rows * height * width / 16;
  }

 private:
  static at::Tensor Double(const at::Tensor& x) {
    return at::upsample_bilinear2d(x, {2 * x.size(2), 2 * x.size(3)}, /*align_corners=*/false);
  }

  int64_t features_;
  at::ScalarType type_;
  ActiveConv first_, encoder1_, encoder2_;
  std::vector<DenseBlock> blocks_;
  Attention attention_;
  ActiveConv upsample1_, upsample2_, final1_, final2_, final3_;
};

// With gradients, and batch norms that learn.
class TrainableNsIqe : public TrainableNet {
 public:
  explicit TrainableNsIqe(const NsIqeShape& shape) {
    const int64_t f = shape.features;
    const int64_t c = 4 * f;
    first_ = AddConv("conv_first", 3, f);
    encoder1_ = AddNormed("encoder.0", "encoder.1", f, 2 * f, 4);
    encoder2_ = AddNormed("encoder.3", "encoder.4", 2 * f, c, 4);
    for (int64_t i = 0; i < shape.blocks; ++i) {
      const std::string name = "rrdb_blocks." + std::to_string(i) + ".";
      std::vector<TrainableConv> block;
      for (int64_t j = 0; j < 3; ++j) block.push_back(AddConv(name + "dense" + std::to_string(j + 1) + ".0", c + j * kGrowth, kGrowth));
      block.push_back(AddConv(name + "final_conv", c + 3 * kGrowth, c));
      blocks_.push_back(std::move(block));
    }
    query_ = AddConv("attention.query", c, c / 8, 1);
    key_ = AddConv("attention.key", c, c / 8, 1);
    value_ = AddConv("attention.value", c, c, 1);
    gamma_ = AddWeight("attention.gamma", at::zeros({1}));
    upsample1_ = AddNormed("upsample.1", "upsample.2", c, c);
    upsample2_ = AddNormed("upsample.5", "upsample.6", c, c);
    final1_ = AddNormed("final_conv.0", "final_conv.1", c, 2 * f);
    final2_ = AddNormed("final_conv.3", "final_conv.4", 2 * f, f);
    final3_ = AddConv("final_conv.6", f, 3);
  }

  at::Tensor Forward(const at::Tensor& pictures, at::ScalarType compute) override {
    const auto normed = [&](const Normed& layer, const at::Tensor& x, int64_t stride = 1) {
      // In fp32: the means and variances of a batch are sums of many numbers.
      const at::Tensor y = at::batch_norm(layer.conv(x, compute, stride).to(at::kFloat), layer.weight, layer.bias, layer.mean,
                                          layer.variance, learning(), kNormMomentum, kNormEps, /*cudnn_enabled=*/true);
      return at::leaky_relu(y, kSlope).to(compute);
    };
    at::Tensor x = first_(pictures.to(compute).contiguous(at::MemoryFormat::ChannelsLast), compute);
    x = normed(encoder2_, normed(encoder1_, x, 2), 2);
    for (const std::vector<TrainableConv>& block : blocks_) {
      at::Tensor all = x;
      for (size_t j = 0; j < 3; ++j) all = at::cat({all, at::leaky_relu(block[j](all, compute), kSlope)}, 1);
      x = at::leaky_relu(x + kResidualScale * block[3](all, compute), kSlope);
    }
    const at::Tensor attention = at::softmax(at::bmm(query_(x, compute).flatten(2).transpose(1, 2), key_(x, compute).flatten(2)), 2);
    const at::Tensor attended = at::bmm(value_(x, compute).flatten(2), attention.transpose(1, 2)).view_as(x.contiguous());
    x = gamma_.to(compute) * attended + x;
    for (const Normed* layer : {&upsample1_, &upsample2_}) {
      x = normed(*layer, at::upsample_bilinear2d(x, {2 * x.size(2), 2 * x.size(3)}, /*align_corners=*/false));
    }
    return final3_(normed(final2_, normed(final1_, x)), compute).to(pictures.scalar_type()).sigmoid();
  }

 private:
  static constexpr double kNormMomentum = 0.1;  // PyTorch's defaults, which the original kept
  static constexpr double kNormEps = 1e-5;

  struct Normed {
    TrainableConv conv;
    at::Tensor weight, bias, mean, variance;
  };
  Normed AddNormed(const std::string& conv, const std::string& norm, int64_t in, int64_t out, int64_t kernel = 3) {
    return {AddConv(conv, in, out, kernel), AddWeight(norm + ".weight", at::ones({out})), AddWeight(norm + ".bias", at::zeros({out})),
            AddStatistic(norm + ".running_mean", at::zeros({out})), AddStatistic(norm + ".running_var", at::ones({out}))};
  }

  TrainableConv first_, query_, key_, value_, final3_;
  Normed encoder1_, encoder2_, upsample1_, upsample2_, final1_, final2_;
  std::vector<std::vector<TrainableConv>> blocks_;  // three dense convolutions and the final one
  at::Tensor gamma_;
};

}  // namespace

NsIqeShape TakeNsIqeShape(ParameterReader& reader) { return {reader.Take("features", 2, 512), reader.Take("blocks", 1, 256)}; }

std::unique_ptr<TrainableNet> MakeTrainableNsIqe(const NsIqeShape& shape) { return std::make_unique<TrainableNsIqe>(shape); }

std::unique_ptr<Network> BuildNsIqe(const NsIqeShape& shape, const NetworkOptions& options, WeightReader& reader) {
  return std::make_unique<NsIqe>(shape, options.type, reader);
}

}  // namespace nsic
