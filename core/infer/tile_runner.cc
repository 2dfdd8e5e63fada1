#include "core/infer/tile_runner.h"

#include <torch/torch.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "core/infer/load_network.h"
#include "core/infer/torch_errors.h"
#include "models/arch/network.h"

namespace nsic {
namespace {

// An output of one single value where the input spans this much is a failure (the black frames of half precision), not a picture.
constexpr float kPictureSpan = 16.0f / 255;
constexpr float kFlatSpan = 1e-6f;

int RoundUp(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

struct Extent {
  float low = std::numeric_limits<float>::infinity();
  float high = -std::numeric_limits<float>::infinity();
  bool finite = true;
  float span() const { return high - low; }
};

// In lanes, so that it becomes vector code: with light networks these passes over the samples count.
Extent ExtentOf(const float* samples, int64_t count) {
  constexpr int64_t kLanes = 16;
  const Extent none;
  float low[kLanes], high[kLanes];
  uint32_t unbounded[kLanes] = {};
  std::fill_n(low, kLanes, none.low);
  std::fill_n(high, kLanes, none.high);
  const auto take = [&](int64_t lane, float v) {
    constexpr uint32_t kExponent = 0x7f800000;  // all ones: NaN or Inf
    uint32_t bits = 0;
    std::memcpy(&bits, &v, sizeof bits);
    unbounded[lane] |= (bits & kExponent) == kExponent ? 1 : 0;
    low[lane] = v < low[lane] ? v : low[lane];
    high[lane] = v > high[lane] ? v : high[lane];
  };
  int64_t at = 0;
  for (; at + kLanes <= count; at += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) take(lane, samples[at + lane]);
  }
  for (; at < count; ++at) take(0, samples[at]);
  Extent extent;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    extent.finite &= unbounded[lane] == 0;
    extent.low = std::min(extent.low, low[lane]);
    extent.high = std::max(extent.high, high[lane]);
  }
  return extent;
}

bool Sound(const float* in, int64_t in_count, const Extent& result) {
  if (!result.finite) return false;
  return result.span() > kFlatSpan || ExtentOf(in, in_count).span() < kPictureSpan;
}

}  // namespace

TileRunner::TileRunner(std::unique_ptr<LoadedNetwork> loaded, Precision precision, LoadExact load_exact, int multiple, int scale)
    : loaded_(std::move(loaded)), precision_(precision), load_exact_(std::move(load_exact)), multiple_(multiple), scale_(scale) {}

TileRunner::~TileRunner() = default;

int64_t TileRunner::TileBytes(Size tile) const {
  const int64_t height = RoundUp(tile.height, multiple_);
  const int64_t width = RoundUp(tile.width, multiple_);
  // Three channels of floats, in and out, here and padded or cropped on the device.
  const int64_t pixels = 2 * 3 * 4 * (height * width) * (1 + int64_t{scale_} * scale_);
  return pixels + loaded_->network->PeakBytes(height, width);
}

Result<const LoadedNetwork*> TileRunner::Exact() {
  if (load_exact_ == nullptr) return loaded_.get();
  if (exact_ == nullptr) {
    NSIC_ASSIGN_OR_RETURN(exact_, load_exact_());
  }
  return exact_.get();
}

Status TileRunner::Run(Size tile, const float* in, const Take& take, int64_t* redone) {
  const int64_t in_floats = 3 * tile.area();
  const int64_t out_floats = in_floats * scale_ * scale_;
  const int64_t right = RoundUp(tile.width, multiple_) - tile.width;
  const int64_t bottom = RoundUp(tile.height, multiple_) - tile.height;
  at::Tensor y;
  const auto infer = [&](const LoadedNetwork& loaded) {
    return CatchTorchErrors("inference on " + loaded.device, [&]() -> Status {
      const c10::InferenceMode no_gradients;
      loaded.SetThreads();
      // from_blob wants a mutable pointer; networks do not write to their input.
      at::Tensor x = at::from_blob(const_cast<float*>(in), {1, 3, tile.height, tile.width}, at::kFloat);
      x = x.to(at::Device(loaded.device));
      if (right > 0 || bottom > 0) x = at::replication_pad2d(x, {0, right, 0, bottom});
      y = loaded.network->Forward(x);
      y = y.narrow(2, 0, int64_t{tile.height} * scale_).narrow(3, 0, int64_t{tile.width} * scale_);
      y = y.to(at::kCPU, at::kFloat).contiguous();  // no copy where it is that already
      return OkStatus();
    });
  };

  NSIC_RETURN_IF_ERROR(infer(*loaded_));
  Extent extent = ExtentOf(y.data_ptr<float>(), out_floats);
  if (!Sound(in, in_floats, extent)) {
    ++*redone;
    NSIC_ASSIGN_OR_RETURN(const LoadedNetwork* exact, Exact());
    NSIC_RETURN_IF_ERROR(infer(*exact));
    extent = ExtentOf(y.data_ptr<float>(), out_floats);
    if (!Sound(in, in_floats, extent)) return DataLossError("the network gives NaN, Inf or a flat picture, in fp32 too");
  }
  if (extent.low < 0 || extent.high > 1) {
    if (y.data_ptr<float>() == in) y = y.clone();
    float* const out = y.data_ptr<float>();
    std::transform(out, out + out_floats, out, [](float v) { return std::clamp(v, 0.0f, 1.0f); });
  }
  return take(y.data_ptr<float>());
}

Result<std::unique_ptr<TileRunner>> LoadTileRunner(const ModelPack& pack, const EngineOptions& options) {
  const auto load = [](const ModelPack& from, const EngineOptions& with) -> Result<std::unique_ptr<LoadedNetwork>> {
    NSIC_ASSIGN_OR_RETURN(LoadedNetwork loaded, LoadNetwork(from, with));
    return std::make_unique<LoadedNetwork>(std::move(loaded));
  };
  NSIC_ASSIGN_OR_RETURN(std::unique_ptr<LoadedNetwork> loaded, load(pack, options));
  TileRunner::LoadExact load_exact;
  if (options.precision != Precision::kFloat32) {
    EngineOptions exact = options;
    exact.precision = Precision::kFloat32;
    load_exact = [load, pack, exact] { return load(pack, exact); };
  }
  return std::make_unique<TileRunner>(std::move(loaded), options.precision, std::move(load_exact), pack.card.tiling.multiple,
                                      pack.card.scale);
}

}  // namespace nsic
