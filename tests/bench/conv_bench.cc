// The light enhancer's convolutions on the CPU: ConvStack (Winograd) against LibTorch's best, and both against what the processor can do.
//
//   conv_bench [FEATURES [LAYERS [ROUNDS]]]      (48 8 9)
//
// One run measures everything, turn by turn, so that whatever else the machine does falls on all alike; medians are printed. The peak is
// measured too: independent fused multiply-adds in registers, in the widest vectors there are, on as many threads.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/conv_bench.cc"
#include <hwy/foreach_target.h>
// After foreach_target.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace nsic {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// `rounds` times 16 fused multiply-adds that do not wait for each other; returns how many single ones that was.
HWY_ATTR double MultiplyAdd(int64_t rounds, float* result) {
  const hn::ScalableTag<float> d;
  const auto factor = hn::Set(d, 0.999f);
  auto a0 = hn::Set(d, 1.0f), a1 = hn::Set(d, 1.1f), a2 = hn::Set(d, 1.2f), a3 = hn::Set(d, 1.3f);
  auto a4 = hn::Set(d, 1.4f), a5 = hn::Set(d, 1.5f), a6 = hn::Set(d, 1.6f), a7 = hn::Set(d, 1.7f);
  auto a8 = hn::Set(d, 1.8f), a9 = hn::Set(d, 1.9f), a10 = hn::Set(d, 2.0f), a11 = hn::Set(d, 2.1f);
  for (int64_t i = 0; i < rounds; ++i) {
    a0 = hn::MulAdd(a0, factor, factor), a1 = hn::MulAdd(a1, factor, factor), a2 = hn::MulAdd(a2, factor, factor);
    a3 = hn::MulAdd(a3, factor, factor), a4 = hn::MulAdd(a4, factor, factor), a5 = hn::MulAdd(a5, factor, factor);
    a6 = hn::MulAdd(a6, factor, factor), a7 = hn::MulAdd(a7, factor, factor), a8 = hn::MulAdd(a8, factor, factor);
    a9 = hn::MulAdd(a9, factor, factor), a10 = hn::MulAdd(a10, factor, factor), a11 = hn::MulAdd(a11, factor, factor);
  }
  const auto sum = hn::Add(hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)),
                           hn::Add(hn::Add(hn::Add(a4, a5), hn::Add(a6, a7)), hn::Add(hn::Add(a8, a9), hn::Add(a10, a11))));
  *result = hn::GetLane(hn::SumOfLanes(d, sum));
  return 12.0 * static_cast<double>(rounds) * static_cast<double>(hn::Lanes(d));
}

}  // namespace HWY_NAMESPACE
}  // namespace nsic
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <ATen/Parallel.h>
#include <omp.h>
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
#include "models/arch/light_net.h"

namespace nsic {
namespace {

HWY_EXPORT(MultiplyAdd);

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
  const Status valid = CheckLightNetParameters(parameters);
  if (!valid.ok()) {
    std::fprintf(stderr, "conv_bench: %s\n", valid.message().c_str());
    return 2;
  }
  LightNet net(parameters);
  std::vector<ConvLayer> layers;
  double multiply_adds = 0;  // of all layers on the whole picture, computed directly
  const auto tensors = net->named_parameters();
  for (int i = 0; i <= hidden + 1; ++i) {
    const std::string name = "convs." + std::to_string(i);
    at::Tensor weight = tensors[name + ".weight"];
    if (i == hidden + 1) weight.normal_(0, 0.02);  // zero in a new network
    const bool last = i == hidden + 1;
    const auto out = static_cast<int>(weight.size(0)), in = static_cast<int>(weight.size(1));
    layers.push_back(
        {in, out, Floats(weight), Floats(tensors[name + ".bias"]), std::vector<float>(static_cast<size_t>(out), last ? 1.0f : 0.0f)});
    multiply_adds += 9.0 * in * out * (kHeight / 2) * (kWidth / 2);
  }

  const at::Tensor picture = at::rand({1, 3, kHeight, kWidth});
  const at::Tensor cells = at::pixel_unshuffle(picture, 2).contiguous();
  const ConvStack stack(layers);
  ConvStack::Workspace workspace;
  at::Tensor residual = at::empty({1, 12, kHeight / 2, kWidth / 2});
  const auto winograd = [&] {
    stack.Run(ConvStack::Layout::kPlanar, cells.data_ptr<float>(), kHeight / 2, kWidth / 2, residual.data_ptr<float>(), threads,
              &workspace);
    return picture + at::pixel_shuffle(residual, 2);
  };
  LightNet last_net(parameters);  // with its weights laid out by channels
  for (const auto& item : tensors) last_net->named_parameters()[item.key()].copy_(item.value());
  last_net->to(at::kFloat);
  for (auto& item : last_net->named_parameters()) {
    if (item.value().dim() == 4) item.value().set_data(item.value().contiguous(at::MemoryFormat::ChannelsLast));
  }
  const at::Tensor last_picture = picture.contiguous(at::MemoryFormat::ChannelsLast);

  at::Tensor ours, theirs;
  std::vector<Side> sides(3);
  sides[0] = {"ConvStack (Winograd)", [&] { ours = winograd(); }, {}};
  sides[1] = {"LibTorch, planes", [&] { theirs = net->forward(picture); }, {}};
  sides[2] = {"LibTorch, channels last", [&] { theirs = last_net->forward(last_picture); }, {}};
  const SystemClock clock;
  std::vector<double> peaks;
  for (int round = -1; round < rounds; ++round) {  // the first is to warm up
    for (Side& side : sides) {
      const double seconds = SecondsOf(clock, side.run);
      if (round >= 0) side.seconds.push_back(seconds);
    }
    constexpr int64_t kTurns = 4'000'000;
    std::vector<double> done(static_cast<size_t>(threads));
    std::vector<float> sums(static_cast<size_t>(threads));
    const double seconds = SecondsOf(clock, [&] {
#pragma omp parallel num_threads(threads)
      {
        const auto i = static_cast<size_t>(omp_get_thread_num());
        done[i] = HWY_DYNAMIC_DISPATCH(MultiplyAdd)(kTurns, &sums[i]);
      }
    });
    double all = 0;
    for (const double one : done) all += one;
    if (round >= 0) peaks.push_back(all / seconds);
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
#endif  // HWY_ONCE
