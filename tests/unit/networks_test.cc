// The networks against plain definitions of the same: every layer by name, batch norms unfolded, attention as one matrix.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <memory>
#include <string>
#include <vector>

#include "models/arch/network.h"
#include "tests/unit/plain_networks.h"
#include "tests/unit/random_packs.h"

namespace nsic {
namespace {

at::Tensor ReferenceNsIqa(const Layers& l, at::Tensor x) {
  x = at::relu(l.Norm("features.1", l.Conv("features.0", x)));
  for (int index : {3, 7, 10, 14, 17, 21}) {
    const std::string name = "features." + std::to_string(index);
    x = l.Conv(name + ".depthwise", x, 1, x.size(1));
    x = at::relu(l.Norm("features." + std::to_string(index + 1), l.Conv(name + ".pointwise", x)));
    if (index == 3 || index == 10 || index == 17) x = at::max_pool2d(x, {2, 2});
  }
  x = at::adaptive_avg_pool2d(x, {1, 1}).flatten(1);
  return at::linear(x, l.Get("classifier.1.weight"), l.Get("classifier.1.bias"));
}

at::Tensor ReferenceNsC(const Layers& l, at::Tensor x) {
  x = at::silu(l.Norm("features.0.1", l.Conv("features.0.0", x, 2)));
  constexpr int kStrides[] = {1, 2, 2, 2, 1, 2, 1};
  for (int stage = 1; stage <= 7; ++stage) {
    for (int layer = 0; l.Has("features." + std::to_string(stage) + "." + std::to_string(layer) + ".block.0.0.weight"); ++layer) {
      const std::string block = "features." + std::to_string(stage) + "." + std::to_string(layer) + ".block.";
      const bool expands = l.Has(block + "3.0.weight");
      const auto part = [&](int index) { return block + std::to_string(expands ? index : index - 1); };
      at::Tensor y = x;
      if (expands) y = at::silu(l.Norm(part(0) + ".1", l.Conv(part(0) + ".0", y)));
      y = at::silu(l.Norm(part(1) + ".1", l.Conv(part(1) + ".0", y, layer == 0 ? kStrides[stage - 1] : 1, y.size(1))));
      const at::Tensor squeezed = at::silu(l.Conv(part(2) + ".fc1", at::adaptive_avg_pool2d(y, {1, 1})));
      y = y * at::sigmoid(l.Conv(part(2) + ".fc2", squeezed));
      y = l.Norm(part(3) + ".1", l.Conv(part(3) + ".0", y));
      x = y.sizes() == x.sizes() ? x + y : y;
    }
  }
  x = at::silu(l.Norm("features.8.1", l.Conv("features.8.0", x)));
  x = at::adaptive_avg_pool2d(x, {1, 1}).flatten(1);
  return at::linear(x, l.Get("classifier.1.weight"), l.Get("classifier.1.bias"));
}

at::Tensor ReferenceSrvgg(const Layers& l, const at::Tensor& input, int scale) {
  at::Tensor x = l.Conv("body.0", input);
  for (int i = 1; l.Has("body." + std::to_string(i) + ".weight"); i += 2) {
    x = at::prelu(x, l.Get("body." + std::to_string(i) + ".weight"));
    x = l.Conv("body." + std::to_string(i + 1), x);
  }
  return at::pixel_shuffle(x, scale) + at::upsample_nearest2d(input, {input.size(2) * scale, input.size(3) * scale});
}

at::Tensor ReferenceLight(const Layers& l, const at::Tensor& input) {
  at::Tensor x = at::pixel_unshuffle(input, 2);
  for (int i = 0; l.Has("convs." + std::to_string(i) + ".weight"); ++i) {
    x = l.Conv("convs." + std::to_string(i), i == 0 ? x : at::relu(x));
  }
  return input + at::pixel_shuffle(x, 2);
}

struct Row {
  std::string name;
  ModelPack pack;
  int64_t height, width;
  at::Tensor (*reference)(const Layers&, const at::Tensor&);
};

TEST(NetworksTest, EqualTheirDefinitions) {
  const auto assess = [](const std::string& architecture, TensorMap weights, ModelTask task) {
    ModelPack pack = MakePack(architecture, std::move(weights), {}, TileSpec());
    pack.card.task = task;
    if (task == ModelTask::kClassify) pack.card.labels = {"a", "b", "c", "d"};
    return pack;
  };
  const TileSpec blended = BlendedTiles(256, 64, 4, BlendWindow::kLinear);
  const auto ns_iqe = [](const Layers& l, const at::Tensor& x) { return ReferenceNsIqe(l, x); };
  const Row kRows[] = {
      {"ns-iqe, 2 blocks", RandomNsIqePack(16, 2, blended), 24, 40, ns_iqe},
      // More positions than one block of rows of the attention matrix, and no multiple of it.
      {"ns-iqe, 1100 positions", RandomNsIqePack(8, 1, blended), 100, 176, ns_iqe},
      {"ns-iqe as published", RandomNsIqePack(64, 16, blended), 32, 32, ns_iqe},
      {"ns-iqa", assess("ns-iqa", RandomNsIqa(5), ModelTask::kScore), 256, 256,
       [](const Layers& l, const at::Tensor& x) { return ReferenceNsIqa(l, x); }},
      {"ns-c", assess("ns-c", RandomNsC(4, 6), ModelTask::kClassify), 256, 256,
       [](const Layers& l, const at::Tensor& x) { return ReferenceNsC(l, x); }},
      {"srvgg-compact x1", RandomSrvggPack(8, 3, 1, HaloTiles(64, 3, 1)), 20, 33,
       [](const Layers& l, const at::Tensor& x) { return ReferenceSrvgg(l, x, 1); }},
      {"srvgg-compact x4", RandomSrvggPack(24, 6, 4, HaloTiles(64, 6, 1)), 20, 33,
       [](const Layers& l, const at::Tensor& x) { return ReferenceSrvgg(l, x, 4); }},
      {"srvgg-compact, one pixel", RandomSrvggPack(16, 3, 2, HaloTiles(64, 3, 1)), 1, 1,
       [](const Layers& l, const at::Tensor& x) { return ReferenceSrvgg(l, x, 2); }},
      {"srvgg-compact, 3 x 5 pixels", RandomSrvggPack(64, 4, 2, HaloTiles(64, 4, 1)), 3, 5,
       [](const Layers& l, const at::Tensor& x) { return ReferenceSrvgg(l, x, 2); }},
      {"srvgg-compact, wide", RandomSrvggPack(64, 18, 4, HaloTiles(64, 18, 1)), 17, 91,
       [](const Layers& l, const at::Tensor& x) { return ReferenceSrvgg(l, x, 4); }},
      {"srvgg-compact, 7 features", RandomSrvggPack(7, 4, 3, HaloTiles(64, 4, 1)), 9, 11,
       [](const Layers& l, const at::Tensor& x) { return ReferenceSrvgg(l, x, 3); }},
      {"srvgg-compact, two convolutions", RandomSrvggPack(80, 2, 1, HaloTiles(64, 2, 1)), 13, 25,
       [](const Layers& l, const at::Tensor& x) { return ReferenceSrvgg(l, x, 1); }},
      {"light", RandomLightPack(12, 3, HaloTiles(64, 12, 2)), 20, 34,
       [](const Layers& l, const at::Tensor& x) { return ReferenceLight(l, x); }},
      // The fast path: one cell, cells that no tile of four divides, more than one block of tiles a row, channels that no vector divides.
      {"light, one cell", RandomLightPack(48, 8, HaloTiles(64, 22, 2)), 2, 2,
       [](const Layers& l, const at::Tensor& x) { return ReferenceLight(l, x); }},
      {"light, 3 x 5 cells", RandomLightPack(48, 2, HaloTiles(64, 10, 2)), 6, 10,
       [](const Layers& l, const at::Tensor& x) { return ReferenceLight(l, x); }},
      {"light, wide", RandomLightPack(48, 8, HaloTiles(64, 22, 2)), 34, 182,
       [](const Layers& l, const at::Tensor& x) { return ReferenceLight(l, x); }},
      {"light, 7 features", RandomLightPack(7, 2, HaloTiles(64, 10, 2)), 18, 22,
       [](const Layers& l, const at::Tensor& x) { return ReferenceLight(l, x); }},
      {"light, 80 features", RandomLightPack(80, 1, HaloTiles(64, 8, 2)), 26, 50,
       [](const Layers& l, const at::Tensor& x) { return ReferenceLight(l, x); }},
  };
  for (const Row& row : kRows) {
    const c10::InferenceMode no_gradients;
    Result<std::unique_ptr<Network>> network = BuildNetwork(row.pack, NetworkOptions());
    ASSERT_TRUE(network.ok()) << row.name << ": " << network.status();
    const at::Tensor x = at::rand({2, 3, row.height, row.width});
    const at::Tensor copy = x.clone();
    const at::Tensor actual = (*network)->Forward(x);
    const at::Tensor expected = row.reference(Layers(row.pack.weights), x);
    ASSERT_EQ(actual.sizes(), expected.sizes()) << row.name;
    const double scale = std::max(1.0, expected.abs().max().item<double>());
    EXPECT_LT((actual - expected).abs().max().item<double>(), 1e-4 * scale) << row.name;
    EXPECT_TRUE(at::equal(x, copy)) << row.name << " writes to its input";
  }
}

TEST(NetworksTest, NsIqeHasThePublishedNumberOfParameters) {
  int64_t parameters = 0;
  for (const auto& [name, tensor] : RandomNsIqe(64, 16, 1)) {
    const bool statistics = name.find("running_") != std::string::npos || name.find("num_batches") != std::string::npos;
    if (!statistics) parameters += static_cast<int64_t>(tensor.data.size() / sizeof(float));
  }
  EXPECT_EQ(parameters, 19'255'748);
}

TEST(NetworksTest, HalfPrecisionAndDoubleWeightsAreRead) {
  ModelPack pack = RandomLightPack(4, 1, HaloTiles(64, 8, 2));
  const at::Tensor x = at::rand({1, 3, 8, 8});
  const at::Tensor expected = (*BuildNetwork(pack, NetworkOptions()))->Forward(x);
  const struct {
    DType dtype;
    at::ScalarType type;
    double tolerance;
  } kRows[] = {{DType::kFloat16, at::kHalf, 1e-2}, {DType::kBFloat16, at::kBFloat16, 1e-1}, {DType::kFloat64, at::kDouble, 1e-6}};
  for (const auto& row : kRows) {
    ModelPack converted = pack;
    for (auto& [name, tensor] : converted.weights) {
      const at::Tensor values = at::from_blob(tensor.data.data(), tensor.shape, at::kFloat).to(row.type);
      const auto* bytes = static_cast<const std::byte*>(values.data_ptr());
      tensor.data = std::vector<std::byte>(bytes, bytes + values.nbytes());
      tensor.dtype = row.dtype;
    }
    const Result<std::unique_ptr<Network>> network = BuildNetwork(converted, NetworkOptions());
    ASSERT_TRUE(network.ok()) << network.status();
    EXPECT_LT(((*network)->Forward(x) - expected).abs().max().item<double>(), row.tolerance) << DTypeName(row.dtype);
  }
}

}  // namespace
}  // namespace nsic
