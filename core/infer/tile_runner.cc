#include "core/infer/tile_runner.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <omp.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <future>
#include <limits>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/bounded_queue.h"
#include "core/infer/enhance_frames.h"
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

// Samples in host memory, for `count` tiles of so many.
struct HostSamples {
  at::Tensor floats;

  void Reserve(int64_t count, bool pinned) {
    if (floats.defined() && floats.numel() >= count) return;
    floats.reset();  // before the new ones are there
    floats = at::empty({count}, at::TensorOptions(at::kFloat).pinned_memory(pinned));
  }
  at::Tensor Tiles(int64_t first, int64_t count, Size tile) const {
    return floats.narrow(0, first * 3 * tile.area(), count * 3 * tile.area()).view({count, 3, tile.height, tile.width});
  }
};

Size Times(Size size, int scale) { return {size.width * scale, size.height * scale}; }

// The network on these tiles, as the calling thread was prepared for. Padded by their last rows and columns; what the padding gives is cut
// off.
at::Tensor Forward(const LoadedNetwork& loaded, const at::Tensor& tiles, int multiple, int scale) {
  const c10::InferenceMode no_gradients;
  const auto height = static_cast<int>(tiles.size(2)), width = static_cast<int>(tiles.size(3));
  const int64_t right = RoundUp(width, multiple) - width;
  const int64_t bottom = RoundUp(height, multiple) - height;
  at::Tensor x = tiles.to(at::Device(loaded.device), /*non_blocking=*/true);
  if (right > 0 || bottom > 0) x = at::replication_pad2d(x, {0, right, 0, bottom});
  return loaded.network->Forward(x).narrow(2, 0, int64_t{height} * scale).narrow(3, 0, int64_t{width} * scale);
}

at::Tensor OnHost(const at::Tensor& x) { return x.to(at::kCPU, at::kFloat).contiguous(); }  // no copy where it is that already

}  // namespace

TileRunner::TileRunner(std::unique_ptr<LoadedNetwork> loaded, Precision precision, LoadExact load_exact, int multiple, int scale,
                       Batching batching)
    : loaded_(std::move(loaded)),
      precision_(precision),
      load_exact_(std::move(load_exact)),
      multiple_(multiple),
      scale_(scale),
      batching_(batching),
      threads_(batching.threads > 0 ? std::make_unique<Threads>(batching.threads) : nullptr) {}

// They wait for tiles as long as the runner lives: a thread's first tile costs more than the others.
class TileRunner::Threads {
 public:
  explicit Threads(int count) : queue_(2 * static_cast<size_t>(count)) {
    for (int i = 0; i < count; ++i) threads_.emplace_back([this] { Run(); });
  }
  ~Threads() {
    queue_.Close();
    for (std::thread& thread : threads_) thread.join();
  }

  std::future<Status> Start(std::packaged_task<Status()> work) {
    std::future<Status> done = work.get_future();
    queue_.Push(std::move(work));
    return done;
  }

 private:
  void Run() {
    at::get_num_threads();  // LibTorch sets a thread's share of OpenMP's threads when it first asks: before we do
    while (std::optional<std::packaged_task<Status()>> work = queue_.Pop()) (*work)();
  }

  BoundedQueue<std::packaged_task<Status()>> queue_;
  std::vector<std::thread> threads_;
};

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

// Tiles of one size that go through the network together.
struct TileStream::Batch {
  Size size;
  std::vector<Rect> tiles;
  std::vector<Take> takes;
  HostSamples in;
  HostSamples out;                    // of a device besides the CPU
  at::Tensor made;                    // on the CPU: as the network gave it
  std::optional<c10::Stream> stream;  // its own, so that copies and computing of two batches overlap; none on the CPU
  std::future<Status> done;           // of the thread that computes it, if one does; last, because it ends before the rest goes

  void Clear() {
    tiles.clear();
    takes.clear();
  }
};

TileStream::TileStream(TileRunner* runner, std::string model, Size largest, int64_t count, int64_t memory, EnhanceStats* stats)
    : runner_(runner), model_(std::move(model)), count_(count), stats_(stats) {
  const int64_t fitting = std::max<int64_t>(memory / std::max<int64_t>(runner->TileBytes(largest), 1), 1);
  const Batching& batching = runner->batching();
  in_flight_ = static_cast<size_t>(std::clamp<int64_t>(std::min(fitting, count), 1, batching.in_flight));
  most_tiles_ = static_cast<int>(std::clamp<int64_t>(fitting / static_cast<int64_t>(in_flight_), 1, batching.tiles));
  filling_ = NewBatch();
}

TileStream::~TileStream() = default;

std::unique_ptr<TileStream::Batch> TileStream::NewBatch() const {
  auto batch = std::make_unique<Batch>();
  const at::Device device(runner_->loaded_->device);
  if (!device.is_cpu()) batch->stream = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
  return batch;
}

Status TileStream::Add(const Rect& tile, const Fill& fill, Take take) {
  const Size size{tile.width, tile.height};
  if (!filling_->tiles.empty() && filling_->size != size) NSIC_RETURN_IF_ERROR(Launch());
  Batch& batch = *filling_;
  batch.size = size;
  NSIC_RETURN_IF_ERROR(CatchTorchErrors("memory for tiles", [&] {
    batch.in.Reserve(most_tiles_ * 3 * size.area(), batch.stream.has_value());
    return OkStatus();
  }));
  const auto index = static_cast<int64_t>(batch.tiles.size());
  NSIC_RETURN_IF_ERROR(fill(batch.in.floats.data_ptr<float>() + index * 3 * size.area()));
  batch.tiles.push_back(tile);
  batch.takes.push_back(std::move(take));
  ++stats_->tiles;
  return static_cast<int>(batch.tiles.size()) < most_tiles_ ? OkStatus() : Launch();
}

Status TileStream::Finish() {
  NSIC_RETURN_IF_ERROR(Launch());
  while (!computing_.empty()) NSIC_RETURN_IF_ERROR(HandOutOldest());
  return OkStatus();
}

Status TileStream::Launch() {
  const size_t count = filling_->tiles.size();
  if (count == 0) return OkStatus();
  const Status started = Start(filling_.get(), 0, count);
  if (started.code() == StatusCode::kResourceExhausted) {
    // The batches before first: their tiles come before these, and their memory may be what is missing.
    const std::unique_ptr<Batch> batch = std::move(filling_);
    while (!computing_.empty()) NSIC_RETURN_IF_ERROR(HandOutOldest());
    if (filling_ == nullptr) filling_ = NewBatch();
    return LaunchInHalves(batch.get());
  }
  NSIC_RETURN_IF_ERROR(started);
  computing_.push_back(std::move(filling_));
  while (computing_.size() >= in_flight_) NSIC_RETURN_IF_ERROR(HandOutOldest());
  if (filling_ == nullptr) filling_ = NewBatch();
  return OkStatus();
}

Status TileStream::LaunchInHalves(Batch* batch) {
  const size_t all = batch->tiles.size();
  ++stats_->batches_halved;
  size_t at_once = (all + 1) / 2;  // a single tile is tried again: what was in flight beside it is not any more
  for (size_t first = 0; first < all;) {
    const size_t count = std::min(at_once, all - first);
    const Status started = Start(batch, first, count);
    if (started.code() == StatusCode::kResourceExhausted && at_once > 1) {
      ++stats_->batches_halved;
      at_once /= 2;
      continue;
    }
    NSIC_RETURN_IF_ERROR(started);
    NSIC_RETURN_IF_ERROR(HandOut(batch, first, count));
    first += count;
  }
  most_tiles_ = runner_->batching_.tiles = static_cast<int>(at_once);
  batch->Clear();
  return OkStatus();
}

Status TileStream::Start(Batch* batch, size_t first, size_t count) {
  if (runner_->threads_ != nullptr) {
    batch->done = runner_->threads_->Start(std::packaged_task<Status()>([this, batch, first, count, threads = ThreadsOfNext()] {
      omp_set_num_threads(threads);  // of this thread
      return Compute(batch, first, count);
    }));
    return OkStatus();
  }
  runner_->loaded_->Prepare();
  return Compute(batch, first, count);
}

// The threads for the tile that was added last. Those in flight share all; when the last ones are fewer, each has more. Not where other
// code than ours convolves: its bits may depend on the number.
int TileStream::ThreadsOfNext() const {
  if (runner_->precision() != Precision::kFloat32) return 1;
  const int64_t threads = runner_->batching().threads;
  const int64_t abreast = std::min<int64_t>(threads, static_cast<int64_t>(in_flight_));
  const int64_t last = count_ % abreast;
  return static_cast<int>(threads / (stats_->tiles > count_ - last ? last : abreast));
}

Status TileStream::Compute(Batch* batch, size_t first, size_t count) const {
  const LoadedNetwork& loaded = *runner_->loaded_;
  const Status status = CatchTorchErrors("inference on " + loaded.device, [&] {
    const c10::InferenceMode no_gradients;
    const at::Tensor tiles = batch->in.Tiles(static_cast<int64_t>(first), static_cast<int64_t>(count), batch->size);
    const Size made = Times(batch->size, runner_->scale_);
    if (!batch->stream.has_value()) {
      batch->made = OnHost(Forward(loaded, tiles, runner_->multiple_, runner_->scale_));
      return OkStatus();
    }
    batch->out.Reserve(static_cast<int64_t>(count) * 3 * made.area(), /*pinned=*/true);
    const c10::StreamGuard on(*batch->stream);
    const at::Tensor y = Forward(loaded, tiles, runner_->multiple_, runner_->scale_).to(at::kFloat);
    batch->out.Tiles(0, static_cast<int64_t>(count), made).copy_(y, /*non_blocking=*/true);
    return OkStatus();
  });
  return status.WithContext(model_ + ", tile " + RectText(batch->tiles[first]));
}

// After memory has ended for this tile while others were in flight.
Status TileStream::ComputeAlone(Batch* batch) {
  for (const std::unique_ptr<Batch>& other : computing_) {
    if (other->done.valid()) other->done.wait();
  }
  ++stats_->batches_halved;
  in_flight_ = std::max<size_t>(in_flight_ / 2, 1);
  runner_->batching_.in_flight = static_cast<int>(in_flight_);
  runner_->loaded_->Prepare();
  return Compute(batch, 0, batch->tiles.size());
}

Status TileStream::HandOutOldest() {
  std::unique_ptr<Batch> batch = std::move(computing_.front());
  computing_.pop_front();
  if (batch->done.valid()) {
    Status done = batch->done.get();
    if (done.code() == StatusCode::kResourceExhausted) done = ComputeAlone(batch.get());
    NSIC_RETURN_IF_ERROR(done);
  }
  NSIC_RETURN_IF_ERROR(HandOut(batch.get(), 0, batch->tiles.size()));
  batch->Clear();
  filling_ = std::move(batch);  // its memory is used again
  return OkStatus();
}

// The outputs that Start(batch, first, count) began to make.
Status TileStream::HandOut(Batch* batch, size_t first, size_t count) {
  if (count == 0) return OkStatus();
  float* out = nullptr;
  NSIC_RETURN_IF_ERROR(CatchTorchErrors("inference on " + runner_->loaded_->device, [&] {
    if (batch->stream.has_value()) batch->stream->synchronize();
    out = (batch->stream.has_value() ? batch->out.floats : batch->made).data_ptr<float>();
    return OkStatus();
  }));
  const int64_t in_floats = 3 * batch->size.area();
  const int64_t out_floats = 3 * Times(batch->size, runner_->scale_).area();
  for (size_t i = first; i < first + count; ++i, out += out_floats) {
    const Status status = Check(*batch, i, in_floats, out, out_floats);
    if (!status.ok()) return status.WithContext(model_ + ", tile " + RectText(batch->tiles[i]));
    NSIC_RETURN_IF_ERROR(batch->takes[i](out));
  }
  batch->made.reset();
  return OkStatus();
}

Status TileStream::Check(const Batch& batch, size_t index, int64_t in_floats, float* out, int64_t out_floats) {
  const float* const in = batch.in.floats.data_ptr<float>() + static_cast<int64_t>(index) * in_floats;
  Extent extent = ExtentOf(out, out_floats);
  if (!Sound(in, in_floats, extent)) {
    ++stats_->tiles_redone;
    NSIC_ASSIGN_OR_RETURN(const LoadedNetwork* exact, runner_->Exact());
    NSIC_RETURN_IF_ERROR(CatchTorchErrors("inference on " + exact->device, [&] {
      exact->Prepare();
      const at::Tensor tile = batch.in.Tiles(static_cast<int64_t>(index), 1, batch.size);
      const at::Tensor y = OnHost(Forward(*exact, tile, runner_->multiple_, runner_->scale_));
      std::copy_n(y.data_ptr<float>(), out_floats, out);
      return OkStatus();
    }));
    extent = ExtentOf(out, out_floats);
    if (!Sound(in, in_floats, extent)) return DataLossError("the network gives NaN, Inf or a flat picture, in fp32 too");
  }
  if (extent.low < 0 || extent.high > 1) {
    std::transform(out, out + out_floats, out, [](float v) { return std::clamp(v, 0.0f, 1.0f); });
  }
  return OkStatus();
}

Result<std::unique_ptr<TileRunner>> LoadTileRunner(const ModelPack& pack, const EngineOptions& options) {
  constexpr Batching kOfDevices{8, 2};
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
  Batching batching = kOfDevices;
  if (loaded->device == "cpu") {
    // One tile more than threads: while it is read, all have work.
    constexpr int64_t kSmallTile = 16;  // of the memory budget, the part that a tile takes
    const TileSpec& tiling = pack.card.tiling;
    const bool small = loaded->network->PeakBytes(tiling.tile, tiling.tile) <= options.memory_budget / kSmallTile;
    batching = small && loaded->threads > 1 ? Batching{1, loaded->threads + 1, loaded->threads} : Batching{};
  }
  return std::make_unique<TileRunner>(std::move(loaded), options.precision, std::move(load_exact), pack.card.tiling.multiple,
                                      pack.card.scale, batching);
}

}  // namespace nsic
