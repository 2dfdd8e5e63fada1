// The light enhancer's convolutions on the CPU: ConvStack (Winograd) against LibTorch's best, and both against what the processor can do.
//
//   conv_bench [FEATURES [LAYERS [ROUNDS]]]      (48 8 9)
//
// One run measures everything, turn by turn, so that whatever else the machine does falls on all alike; medians are printed. The peak is
// measured too: independent fused multiply-adds in registers, in the widest vectors there are, on as many threads.
#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "core/base/clock.h"
#include "models/arch/conv_stack.h"
#include "models/arch/trainable_net.h"
#include "worker/measure_peak.h"

namespace nsic {
namespace {

constexpr int kHeight = 720;
constexpr int kWidth = 1280;

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double SecondsOf(const Clock& clock, const std::function<void()>& work) {
  const int64_t start = clock.MonotonicUs();
  work();
  return static_cast<double>(clock.MonotonicUs() - start) * 1e-6;
}

std::vector<float> Floats(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().contiguous();
  return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

struct Side {
  std::string name;
  std::function<void()> run;
  std::vector<double> seconds;
};

int Main(int argc, char** argv) {
  const auto argument = [&](int i, int otherwise) { return argc > i ? std::atoi(argv[i]) : otherwise; };
  const int features = argument(1, 48);
  const int hidden = argument(2, 8);
  const int rounds = argument(3, 9);
  if (features < 1 || hidden < 0 || rounds < 1) {
    std::fprintf(stderr, "usage: conv_bench [FEATURES [LAYERS [ROUNDS]]]\n");
    return 2;
  }
  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  at::set_num_threads(threads);
  const torch::InferenceMode inference;
  torch::manual_seed(1);

  const std::map<std::string, int64_t> parameters = {{"features", features}, {"layers", hidden}};
  const Result<std::unique_ptr<TrainableNet>> net = MakeTrainableNet("light", parameters);
  const Result<std::unique_ptr<TrainableNet>> last_net = MakeTrainableNet("light", parameters);  // with its weights laid out by channels
  if (!net.ok()) {
    std::fprintf(stderr, "conv_bench: %s\n", net.status().message().c_str());
    return 2;
  }
  std::vector<ConvLayer> layers;
  double multiply_adds = 0;  // of all layers on the whole picture, computed directly
  const std::map<std::string, at::Tensor>& tensors = (*net)->weights();
  for (int i = 0; i <= hidden + 1; ++i) {
    const std::string name = "convs." + std::to_string(i);
    at::Tensor weight = tensors.at(name + ".weight");
    if (i == hidden + 1) weight.normal_(0, 0.02);  // zero in a new network
    const bool last = i == hidden + 1;
    const auto out = static_cast<int>(weight.size(0)), in = static_cast<int>(weight.size(1));
    layers.push_back(
        {in, out, Floats(weight), Floats(tensors.at(name + ".bias")), std::vector<float>(static_cast<size_t>(out), last ? 1.0f : 0.0f)});
    multiply_adds += 9.0 * in * out * (kHeight / 2) * (kWidth / 2);
  }

  const at::Tensor picture = at::rand({1, 3, kHeight, kWidth});
  const ConvStack stack(layers);
  ConvStack::Workspace workspace;
  const auto winograd = [&] {
    at::Tensor sum = at::empty_like(picture);
    const float* const samples = picture.data_ptr<float>();
    stack.Run({samples, ConvStack::Layout::kPlanar, 2}, kHeight / 2, kWidth / 2,
              {sum.data_ptr<float>(), ConvStack::Layout::kPlanar, 2, samples}, threads, &workspace);
    return sum;
  };
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor copy = tensor.detach().clone(tensor.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
    at::Tensor((*last_net)->weights().at(name)).set_data(copy);
  }
  const at::Tensor last_picture = picture.contiguous(at::MemoryFormat::ChannelsLast);

  at::Tensor ours, theirs;
  std::vector<Side> sides(3);
  sides[0] = {"ConvStack (Winograd)", [&] { ours = winograd(); }, {}};
  sides[1] = {"LibTorch, planes", [&] { theirs = (*net)->Forward(picture, at::kFloat); }, {}};
  sides[2] = {"LibTorch, channels last", [&] { theirs = (*last_net)->Forward(last_picture, at::kFloat); }, {}};
  const SystemClock clock;
  std::vector<double> peaks;
  for (int round = -1; round < rounds; ++round) {  // the first is to warm up
    for (Side& side : sides) {
      const double seconds = SecondsOf(clock, side.run);
      if (round >= 0) side.seconds.push_back(seconds);
    }
    const double peak = MeasureMultiplyAdds(threads, clock);
    if (round >= 0) peaks.push_back(peak);
  }

  const double peak = Median(peaks);
  std::printf("light %d x %d, %dx%d, %d threads, medians of %d rounds\n", features, hidden, kWidth, kHeight, threads, rounds);
  std::printf("fused multiply-add peak: %.0f GFLOPS\n", 2e-9 * peak);
  for (const Side& side : sides) {
    const double seconds = Median(side.seconds);
    std::printf("%-24s %7.2f MP/s %7.0f GFLOPS (direct) %5.2f of the peak\n", side.name.c_str(), kHeight * kWidth * 1e-6 / seconds,
                2e-9 * multiply_adds / seconds, multiply_adds / seconds / peak);
  }
  const double best = std::min(Median(sides[1].seconds), Median(sides[2].seconds));
  std::printf("ratio to LibTorch's best: %.2f\n", best / Median(sides[0].seconds));
  std::printf("greatest difference: %.2g\n", (ours - theirs).abs().max().item<double>());
  return 0;
}

}  // namespace
}  // namespace nsic

int main(int argc, char** argv) { return nsic::Main(argc, argv); }
