// Networks that learn, against those that work with what was learnt, and against the unet's definition.
#include "models/arch/trainable_net.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "models/arch/network.h"
#include "models/arch/ns_assess.h"
#include "models/io/usual_tiling.h"
#include "models/train/fit/checkpoint.h"

namespace nsic {
namespace {

using at::Tensor;
using ::testing::HasSubstr;

struct Row {
  std::string architecture;
  std::map<std::string, int64_t> parameters;
  int64_t height, width;
};

const Row kRows[] = {
    {"light", {{"features", 12}, {"layers", 2}}, 10, 14},
    {"unet", {{"features", 8}, {"blocks", 1}}, 24, 40},
    {"unet", {{"features", 20}, {"blocks", 2}}, 8, 8},
    {"ns-iqe", {{"features", 8}, {"blocks", 2}}, 16, 24},
    {"ensemble", {{"light_features", 12}, {"light_layers", 2}, {"unet_features", 8}, {"unet_blocks", 1}}, 24, 40},
};

// With every tensor different from what a new network has.
std::unique_ptr<TrainableNet> Shaken(const Row& row) {
  const at::NoGradGuard no_grad;
  torch::manual_seed(7);
  std::unique_ptr<TrainableNet> net = *MakeTrainableNet(row.architecture, row.parameters);
  for (const auto& [name, tensor] : net->weights()) Tensor(tensor).add_(at::randn_like(tensor) * 0.05);
  for (const auto& [name, tensor] : net->statistics()) Tensor(tensor).add_(at::rand_like(tensor) * 0.1);
  return net;
}

ModelPack Packed(const Row& row, const TrainableNet& net) {
  ModelPack pack;
  pack.card.architecture = row.architecture;
  pack.card.parameters = row.parameters;
  pack.card.tiling = UsualTiling(row.architecture, row.parameters);
  pack.weights = ToHost(net.weights(), at::kFloat);
  for (auto& [name, tensor] : ToHost(net.statistics(), at::kFloat)) pack.weights.emplace(name, std::move(tensor));
  return pack;
}

TEST(TrainableNetTest, WhatWasLearntIsWhatWorks) {
  const at::NoGradGuard no_grad;
  for (const Row& row : kRows) {
    const std::unique_ptr<TrainableNet> net = Shaken(row);
    net->SetLearning(false);
    const Result<std::unique_ptr<Network>> network = BuildNetwork(Packed(row, *net), NetworkOptions());
    ASSERT_TRUE(network.ok()) << row.architecture << ": " << network.status();
    const Tensor x = at::rand({2, 3, row.height, row.width});
    const Tensor learnt = net->Forward(x, at::kFloat), works = (*network)->Forward(x);
    ASSERT_EQ(learnt.sizes(), works.sizes()) << row.architecture;
    EXPECT_LT((learnt - works).abs().max().item<double>(), 1e-4 * std::max(1.0, learnt.abs().max().item<double>())) << row.architecture;
  }
}

TEST(TrainableNetTest, TheOriginalScorerWorksAsItLearnt) {
  const at::NoGradGuard no_grad;
  torch::manual_seed(7);
  const std::unique_ptr<TrainableNet> net = MakeTrainableNsIqa();
  for (const auto& [name, tensor] : net->statistics()) Tensor(tensor).add_(at::rand_like(tensor) * 0.1);
  net->SetLearning(false);
  ModelPack pack = Packed({"ns-iqa", {}, 0, 0}, *net);
  pack.card.task = ModelTask::kScore;
  const Result<std::unique_ptr<Network>> network = BuildNetwork(pack, NetworkOptions());
  ASSERT_TRUE(network.ok()) << network.status();
  const Tensor x = ForNsAssess(at::rand({1, 3, 100, 180}));
  ASSERT_EQ(x.sizes(), at::IntArrayRef({1, 3, 256, 256}));
  const double learnt = net->Forward(x, at::kFloat).item<double>(), works = (*network)->Forward(x).item<double>();
  EXPECT_NE(learnt, 50);
  EXPECT_NEAR(learnt, works, 1e-3);
}

TEST(TrainableNetTest, UNetIsWhatItsHeaderSays) {
  const at::NoGradGuard no_grad;
  const Row& row = kRows[1];
  const std::unique_ptr<TrainableNet> net = Shaken(row);
  const auto get = [&](const std::string& name) { return net->weights().at(name); };
  const auto conv = [&](const std::string& name, const Tensor& x) {
    return at::conv2d(x, get(name + ".weight"), get(name + ".bias"), 1, 1);
  };
  const auto block = [&](const std::string& name, const Tensor& x) { return x + conv(name + ".1", conv(name + ".0", x).relu()); };
  const auto down = [&](const std::string& name, const Tensor& x) {
    const Tensor weight = get(name + ".weight").reshape({-1, 2, 2, x.size(1)}).permute({0, 3, 1, 2});
    return at::conv2d(x, weight, get(name + ".bias"), /*stride=*/2);
  };
  const auto up = [&](const std::string& name, const Tensor& x) {
    const Tensor cells = get(name + ".weight").reshape({2, 2, -1, x.size(1)});
    const Tensor bias = get(name + ".bias").reshape({2, 2, -1}).permute({2, 0, 1}).repeat({1, x.size(2), x.size(3)});
    return at::conv_transpose2d(x, cells.permute({3, 2, 0, 1}), {}, /*stride=*/2) + bias;
  };
  const Tensor x = at::rand({1, 3, row.height, row.width});
  const Tensor first = block("encode0.0", conv("head", at::pixel_unshuffle(x, 2)));
  const Tensor second = block("encode1.0", down("down0", first));
  const Tensor lowest = block("middle.1", block("middle.0", down("down1", second)));
  const Tensor risen = block("decode1.0", up("up1", lowest) + second);
  const Tensor expected = x + at::pixel_shuffle(conv("tail", block("decode0.0", up("up0", risen) + first)), 2);
  EXPECT_LT((net->Forward(x, at::kFloat) - expected).abs().max().item<double>(), 1e-5);
}

TEST(TrainableNetTest, AnEnsembleIsTheMeanOfItsMembers) {
  const at::NoGradGuard no_grad;
  const std::unique_ptr<TrainableNet> net = Shaken(kRows[4]);
  const Tensor x = at::rand({1, 3, 24, 40});
  Tensor sum = at::zeros_like(x);
  for (const size_t i : {0, 1}) {
    const std::unique_ptr<TrainableNet> member = *MakeTrainableNet(kRows[i].architecture, kRows[i].parameters);
    for (const auto& [name, tensor] : member->weights()) Tensor(tensor).copy_(net->weights().at(kRows[i].architecture + "." + name));
    sum += member->Forward(x, at::kFloat);
  }
  EXPECT_LT((net->Forward(x, at::kFloat) - sum / 2).abs().max().item<double>(), 1e-6);
}

TEST(TrainableNetTest, ANewOneThatAddsToItsInputChangesNothing) {
  for (const std::string architecture : {"light", "unet", "ensemble"}) {
    const std::unique_ptr<TrainableNet> net = *MakeTrainableNet(architecture, *UsualParameters(architecture));
    const Tensor x = at::rand({1, 3, 16, 24});
    EXPECT_TRUE(at::equal(net->Forward(x, at::kBFloat16), x)) << architecture;
  }
}

TEST(TrainableNetTest, GradientsReachEveryWeightAndStayApart) {
  for (const Row& row : kRows) {
    const std::unique_ptr<TrainableNet> one = Shaken(row), other = *MakeTrainableNet(row.architecture, row.parameters);
    other->ShareWeightsOf(*one);
    (other->Forward(at::rand({2, 3, row.height, row.width}), at::kFloat) * at::rand({row.height, row.width})).sum().backward();
    for (const auto& [name, tensor] : other->weights()) {
      ASSERT_TRUE(tensor.grad().defined()) << row.architecture << " " << name;
      // A bias before a batch norm has no effect.
      if (tensor.dim() > 1) {
        EXPECT_GT(tensor.grad().abs().max().item<float>(), 0) << row.architecture << " " << name;
      }
      EXPECT_FALSE(one->weights().at(name).grad().defined()) << row.architecture << " " << name;
      EXPECT_TRUE(at::equal(tensor, one->weights().at(name))) << row.architecture << " " << name;
    }
  }
}

TEST(TrainableNetTest, BatchNormsFollowTheirInputsOnlyWhileTheyLearn) {
  const std::unique_ptr<TrainableNet> net = Shaken(kRows[3]);
  const auto copy = [&] {
    std::map<std::string, Tensor> copies;
    for (const auto& [name, tensor] : net->statistics()) copies.emplace(name, tensor.clone());
    return copies;
  };
  const std::map<std::string, Tensor> before = copy();
  net->SetLearning(false);
  net->Forward(at::rand({2, 3, 16, 16}), at::kFloat);
  for (const auto& [name, tensor] : net->statistics()) EXPECT_TRUE(at::equal(tensor, before.at(name))) << name;
  net->SetLearning(true);
  net->Forward(at::rand({2, 3, 16, 16}), at::kFloat);
  for (const auto& [name, tensor] : net->statistics()) EXPECT_FALSE(at::equal(tensor, before.at(name))) << name;
}

TEST(TrainableNetTest, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(MakeTrainableNet("esrgan", {}).status().message(), HasSubstr("does not train the architecture 'esrgan'"));
  EXPECT_THAT(MakeTrainableNet("unet", {{"features", 8}}).status().message(), HasSubstr("needs the parameter \"blocks\""));
  EXPECT_THAT(MakeTrainableNet("light", {{"features", 8}, {"layers", 1}, {"depth", 2}}).status().message(), HasSubstr("does not know"));
}

}  // namespace
}  // namespace nsic
