// The engine on one device: that it computes what it should there, and how fast. For GPUs; on the CPU it shows that it works.
// tests/bench/gpu.sh runs all of it.
//
//   device_bench check DEVICE                                      every architecture in every precision against the CPU's fp32
//   device_bench speed DEVICE MODEL PRECISION [WIDTH HEIGHT]       light, unet, ensemble or ns-iqe, of the usual size (1920 1080)
//
// `speed` prints one row: the engine from host memory to host memory; the network alone on a batch of tiles that is on the device already,
// with what that is of the device's matrix products in the same precision and of its memory bandwidth, both measured here (a network that
// reads and writes each layer once can do no better than the larger of the two); and the peak of memory. The weights are random.
#include <dlfcn.h>
#include <sys/resource.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/base/planar_image.h"
#include "core/farm/tile_grid.h"
#include "core/infer/engine.h"
#include "core/infer/load_network.h"
#include "models/arch/network.h"
#include "models/arch/trainable_net.h"
#include "models/io/count_operations.h"
#include "models/io/model_pack.h"
#include "models/io/usual_tiling.h"
#include "tests/bench/bench_tools.h"

namespace nsic {
namespace {

constexpr int64_t kMemoryBudget = int64_t{4} << 30;
constexpr double kEnoughSeconds = 2;
constexpr int64_t kBatch = 8;  // tiles, as the engine takes on devices

using Parameters = std::map<std::string, int64_t>;

// With weights that change the picture: a new network does not.
ModelPack RandomPack(const std::string& architecture, const Parameters& parameters) {
  torch::manual_seed(1);
  const std::unique_ptr<TrainableNet> net = Need(MakeTrainableNet(architecture, parameters));
  ModelPack pack;
  pack.card.name = architecture;
  pack.card.architecture = architecture;
  pack.card.parameters = parameters;
  pack.card.tiling = UsualTiling(architecture, parameters);
  const auto take = [&](const std::map<std::string, at::Tensor>& tensors) {
    for (const auto& [name, tensor] : tensors) {
      at::Tensor values = tensor.detach().clone().contiguous();
      if (values.count_nonzero().item<int64_t>() == 0) values.normal_(0, 0.01);
      HostTensor host;
      host.shape = values.sizes().vec();
      host.data.resize(static_cast<size_t>(values.numel()) * sizeof(float));
      std::memcpy(host.data.data(), values.data_ptr<float>(), host.data.size());
      pack.weights[name] = std::move(host);
    }
  };
  take(net->weights());
  take(net->statistics());
  return pack;
}

PlanarImage Picture(Size size) {
  PlanarImage picture(3, size.width, size.height);
  size_t i = 0;
  for (int channel = 0; channel < 3; ++channel) {
    for (int y = 0; y < size.height; ++y) {
      for (int x = 0; x < size.width; ++x) {
        picture.samples[i++] = 0.5f + 0.3f * std::sin(0.05f * static_cast<float>(x + channel)) * std::cos(0.03f * static_cast<float>(y)) +
                               ((x / 9 + y / 7) % 2 == 0 ? 0.1f : 0.0f);
      }
    }
  }
  return picture;
}

PlanarImage Enhance(Enhancer& enhancer, const PlanarImage& picture, const Rect& region) {
  PlanarImage output(3, picture.width, picture.height);
  const auto rows = [](const Rect& rect, const auto& visit) {
    for (int channel = 0; channel < 3; ++channel) {
      for (int y = rect.y; y < rect.bottom(); ++y) visit(channel, y);
    }
    return OkStatus();
  };
  const ReadPixels read = [&](const Rect& rect, float* planar) {
    return rows(rect, [&](int channel, int y) {
      planar = std::copy_n(picture.plane(channel) + int64_t{y} * picture.width + rect.x, rect.width, planar);
    });
  };
  const WritePixels write = [&](const Rect& rect, const float* planar) {
    return rows(rect, [&](int channel, int y) {
      std::copy_n(planar, rect.width, output.plane(channel) + int64_t{y} * output.width + rect.x);
      planar += rect.width;
    });
  };
  Need(enhancer.Enhance(picture.size(), region, read, write, CancelToken()));
  return output;
}

EngineOptions Options(const std::string& device, Precision precision) {
  EngineOptions options;
  options.device = device;
  options.precision = precision;
  options.memory_budget = kMemoryBudget;
  return options;
}

std::vector<Precision> PrecisionsOf(const std::string& device) {
  std::vector<Precision> precisions = FasterPrecisions(device);
  precisions.insert(precisions.begin(), Precision::kFloat32);
  return precisions;
}

int Check(const std::string& device) {
  // Random weights make larger corrections than those of a model that was trained: the rounding shows more.
  const std::map<Precision, double> tolerances = {
      {Precision::kFloat32, 1e-3}, {Precision::kTensorFloat32, 0.02}, {Precision::kBFloat16, 0.1}, {Precision::kFloat16, 0.02}};
  const std::pair<std::string, Parameters> kSmall[] = {
      {"light", {{"features", 16}, {"layers", 3}}},
      {"unet", {{"features", 16}, {"blocks", 1}}},
      {"ensemble", {{"light_features", 16}, {"light_layers", 3}, {"unet_features", 16}, {"unet_blocks", 1}}},
      {"ns-iqe", {{"features", 16}, {"blocks", 1}}}};
  int failures = 0;
  for (const auto& [architecture, parameters] : kSmall) {
    ModelPack pack = RandomPack(architecture, parameters);
    TileSpec& tiling = pack.card.tiling;
    tiling.tile = tiling.multiple * (tiling.blend == BlendWindow::kNone ? 40 : 16);
    tiling.overlap = std::min(tiling.overlap, tiling.tile / 4);
    const PlanarImage picture = Picture({tiling.tile * 5 / 2 + 3, tiling.tile * 3 / 2 + 1});
    const Rect whole{0, 0, picture.width, picture.height};
    const Rect part{tiling.tile / 2, 5, tiling.tile, tiling.tile};
    const PlanarImage exact = Enhance(*Need(LoadEnhancer(pack, Options("cpu", Precision::kFloat32))), picture, whole);
    for (const Precision precision : PrecisionsOf(device)) {
      const std::unique_ptr<Enhancer> enhancer = Need(LoadEnhancer(pack, Options(device, precision)));
      const PlanarImage output = Enhance(*enhancer, picture, whole);
      double largest = 0, change = 0;
      for (size_t i = 0; i < output.samples.size(); ++i) {
        largest = std::max(largest, std::fabs(static_cast<double>(output.samples[i]) - exact.samples[i]));
        change = std::max(change, std::fabs(static_cast<double>(exact.samples[i]) - picture.samples[i]));
      }
      const bool again = Enhance(*enhancer, picture, whole).samples == output.samples;
      const PlanarImage of_part = Enhance(*enhancer, picture, part);
      bool same_part = true;
      for (int channel = 0; channel < 3; ++channel) {
        for (int y = part.y; y < part.bottom(); ++y) {
          const int64_t at = int64_t{y} * picture.width + part.x;
          same_part &= std::equal(of_part.plane(channel) + at, of_part.plane(channel) + at + part.width, output.plane(channel) + at);
        }
      }
      const bool close = largest <= tolerances.at(precision);
      const bool good = close && again && same_part && change > 0.01;
      failures += good ? 0 : 1;
      std::printf("%-4s %-7s %-5s largest error %.2g%s%s%s%s\n", good ? "ok" : "FAIL", architecture.c_str(),
                  std::string(PrecisionName(precision)).c_str(), largest, close ? "" : ", too large",
                  again ? "" : ", another result each time", same_part ? "" : ", a part differs from the whole",
                  change > 0.01 ? "" : ", the network does nothing");
    }
  }
  return failures == 0 ? 0 : 1;
}

// Work on the device is done when a value has come back.
void Wait(const at::Tensor& tensor) { (void)tensor.flatten()[0].item<float>(); }

// The median of runs that fill some time, after three to warm up.
double SecondsOf(const std::function<void()>& run) {
  const SystemClock clock;
  for (int i = 0; i < 3; ++i) run();
  std::vector<double> seconds;
  for (double all = 0; all < kEnoughSeconds || seconds.size() < 3;) {
    const int64_t start = clock.MonotonicUs();
    run();
    seconds.push_back(static_cast<double>(clock.MonotonicUs() - start) * 1e-6);
    all += seconds.back();
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

at::ScalarType TypeOf(Precision precision) {
  return precision == Precision::kBFloat16 ? at::kBFloat16 : precision == Precision::kFloat16 ? at::kHalf : at::kFloat;
}

// Multiply-adds a second of a large matrix product. The switch for TF32 is as the network's last run left it.
double MatrixPeak(const at::Device& device, Precision precision) {
  const int64_t side = device.is_cpu() ? 2048 : 8192;
  const at::Tensor a = at::rand({side, side}, at::TensorOptions(device)).to(TypeOf(precision));
  at::Tensor product = at::mm(a, a);
  const double seconds = SecondsOf([&] {
    at::mm_out(product, a, a);
    Wait(product);
  });
  return std::pow(static_cast<double>(side), 3) / seconds;
}

// Bytes a second, read and written.
double Bandwidth(const at::Device& device) {
  const at::Tensor from = at::zeros({int64_t{64} << 20}, at::TensorOptions(device));
  at::Tensor to = at::empty_like(from);
  const double seconds = SecondsOf([&] {
    to.copy_(from);
    Wait(to);
  });
  return 2.0 * static_cast<double>(from.nbytes()) / seconds;
}

double LightMoves(double f, double layers) { return (12 + f + layers * 2 * f + f + 12) / 4; }

double UNetMoves(double f, double blocks) {
  double moved = (12 + f + f + 12) / 4;
  for (int level = 0; level <= 2; ++level) moved += 2 * blocks * (2 * 2 + 1) * (f * (1 << level)) / (4 << (2 * level));
  return moved;
}

// Samples that the layers read and write for each pixel, each once: what must cross the memory where a layer is run after the other.
double SamplesMovedPerPixel(const ModelCard& card) {
  const auto parameter = [&](const char* name) { return static_cast<double>(card.parameters.at(name)); };
  if (card.architecture == "light") return LightMoves(parameter("features"), parameter("layers"));
  if (card.architecture == "unet") return UNetMoves(parameter("features"), parameter("blocks"));
  if (card.architecture == "ensemble") {
    return LightMoves(parameter("light_features"), parameter("light_layers")) +
           UNetMoves(parameter("unet_features"), parameter("unet_blocks"));
  }
  const double f = parameter("features"), blocks = parameter("blocks");
  // ns-iqe: the encoder, the dense blocks (four convolutions of ever more channels), two doublings, three convolutions.
  const double c = 4 * f, growth = 32;
  const double block = 4 * c + (0 + 1 + 2 + 3) * growth + 3 * growth + c + c;
  return (3 + f) + (f + 2 * f / 4) + (2 * f / 4 + c / 16) + blocks * block / 16 + (2 * c / 4 + 2 * c) + (c + 2 * f) + (2 * f + f) + (f + 3);
}

// Bytes of the device's memory that are in use by anybody; for the CPU the peak of this process. The CUDA driver is asked by its library,
// which is there wherever there is a device.
int64_t BytesInUse(const at::Device& device) {
  if (device.is_cpu()) {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return int64_t{usage.ru_maxrss} << 10;
  }
  using MemoryInfo = int (*)(size_t * free, size_t * total);
  void* const driver = ::dlopen("libcuda.so.1", RTLD_NOW);
  const auto ask = driver == nullptr ? nullptr : reinterpret_cast<MemoryInfo>(::dlsym(driver, "cuMemGetInfo_v2"));
  size_t free = 0, total = 0;
  if (ask == nullptr || ask(&free, &total) != 0) {
    std::fprintf(stderr, "device_bench: the CUDA driver does not say how much memory is in use\n");
    std::exit(1);
  }
  return static_cast<int64_t>(total - free);
}

int Speed(const std::string& device_name, const std::string& architecture, Precision precision, Size size) {
  const at::Device device(device_name);
  const ModelPack pack = RandomPack(architecture, Need(UsualParameters(architecture)));
  Wait(at::zeros({1}, at::TensorOptions(device)));  // the device's own share of memory is taken now
  const int64_t before = BytesInUse(device);
  const PlanarImage picture = Picture(size);
  double engine_seconds = 0;
  {
    const std::unique_ptr<Enhancer> enhancer = Need(LoadEnhancer(pack, Options(device_name, precision)));
    engine_seconds = SecondsOf([&] { Enhance(*enhancer, picture, {0, 0, size.width, size.height}); });
  }
  const int64_t memory = BytesInUse(device) - before;  // LibTorch keeps what it has had

  const LoadedNetwork loaded = Need(LoadNetwork(pack, Options(device_name, precision)));
  const int64_t tile = pack.card.tiling.tile, batch = device.is_cpu() ? 1 : kBatch;
  const c10::InferenceMode no_gradients;
  loaded.Prepare();
  const at::Tensor tiles = at::rand({batch, 3, tile, tile}, at::TensorOptions(device));
  const double network_seconds = SecondsOf([&] { Wait(loaded.network->Forward(tiles)); });
  const double pixels = static_cast<double>(batch * tile * tile);
  const double operations = MultiplyAddsPerPixel(pack.card) * pixels / network_seconds;
  const double bytes = SamplesMovedPerPixel(pack.card) * static_cast<double>(at::elementSize(TypeOf(precision))) * pixels / network_seconds;
  const double megapixels = static_cast<double>(size.area()) * 1e-6;
  const double peak = MatrixPeak(device, precision), bandwidth = Bandwidth(device);
  std::printf(
      "%-7s %-5s engine %9.2f ms, %8.2f fps, %9.2f MP/s; network %9.2f MP/s: %8.2f TFLOPS, %5.2f of the matrix products' %.2f; "
      "%7.1f GB/s, %5.2f of the memory's %.1f; %lld MiB\n",
      architecture.c_str(), std::string(PrecisionName(precision)).c_str(), 1e3 * engine_seconds, 1 / engine_seconds,
      megapixels / engine_seconds, 1e-6 * pixels / network_seconds, 2e-12 * operations, operations / peak, 2e-12 * peak, 1e-9 * bytes,
      bytes / bandwidth, 1e-9 * bandwidth, static_cast<long long>(memory >> 20));
  return 0;
}

int Main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (!(what == "check" && argc == 3) && !(what == "speed" && (argc == 5 || argc == 7))) {
    std::fprintf(stderr, "usage: device_bench check DEVICE | speed DEVICE MODEL PRECISION [WIDTH HEIGHT]\n");
    return 2;
  }
  const Size size = argc == 7 ? Size{std::atoi(argv[5]), std::atoi(argv[6])} : Size{1920, 1080};
  if (size.width < 1 || size.height < 1) {
    std::fprintf(stderr, "device_bench: no picture has this size\n");
    return 2;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  SetEngineThreads(0);
  const std::string device = Need(ResolveDevice(argv[2]));
  return what == "check" ? Check(device) : Speed(device, argv[3], Need(ParsePrecision(argv[4])), size);
}

}  // namespace
}  // namespace nsic

int main(int argc, char** argv) { return nsic::Main(argc, argv); }
