// Runs tiles through a network, in batches where the device gains by them: pads them to the network's multiple and checks what comes out.
#ifndef NSIC_CORE_INFER_TILE_RUNNER_H_
#define NSIC_CORE_INFER_TILE_RUNNER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "core/base/geometry.h"
#include "core/base/status.h"
#include "core/infer/engine.h"

namespace nsic {

struct LoadedNetwork;

// How many tiles are computed together, and how many such batches are on their way at once.
struct Batching {
  int tiles = 1;
  int in_flight = 1;  // 2: one is computed while the next one is read and the one before is taken
  // Of the CPU, which batches in flight share: with more threads than batches each computes on several. 0: a batch is computed in the call
  // that makes it full, by all threads of the network. Threads that meet after every layer wait for the one that another program or stage
  // holds up; threads with a tile each do not.
  int threads = 0;
};

// A network that runs tiles.
class TileRunner {
 public:
  // Loads the same network in fp32.
  using LoadExact = std::function<Result<std::unique_ptr<LoadedNetwork>>()>;

  // `multiple` and `scale` as in the pack's card. `load_exact` is called once at most, when a tile is to be run again; null where `loaded`
  // computes in fp32 itself.
  TileRunner(std::unique_ptr<LoadedNetwork> loaded, Precision precision, LoadExact load_exact, int multiple, int scale,
             Batching batching = {});
  ~TileRunner();

  Precision precision() const { return precision_; }
  const Batching& batching() const { return batching_; }

  // An upper estimate of the bytes that one tile in flight takes, its pixels on both sides included.
  int64_t TileBytes(Size tile) const;

 private:
  friend class TileStream;
  class Threads;

  Result<const LoadedNetwork*> Exact();

  const std::unique_ptr<LoadedNetwork> loaded_;
  const Precision precision_;
  const LoadExact load_exact_;
  std::unique_ptr<LoadedNetwork> exact_;  // once it was needed
  const int multiple_;
  const int scale_;
  Batching batching_;                 // less after memory has ended
  std::unique_ptr<Threads> threads_;  // null unless batching_.threads
};

// On the CPU one tile a batch: more gained nothing there, and oneDNN rounds differently with the size of the batch. Small tiles have a
// thread each.
Result<std::unique_ptr<TileRunner>> LoadTileRunner(const ModelPack& pack, const EngineOptions& options);

// The tiles of one picture on their way through a runner, which nobody else uses meanwhile. After an error it is of no more use.
class TileStream {
 public:
  // `model` is for messages. At most `count` tiles of up to `largest` pixels, as many at once as fit `memory` bytes, one at least.
  TileStream(TileRunner* runner, std::string model, Size largest, int64_t count, int64_t memory, EnhanceStats* stats);
  ~TileStream();
  TileStream(const TileStream&) = delete;
  TileStream& operator=(const TileStream&) = delete;

  using Fill = std::function<Status(float* in)>;
  using Take = std::function<Status(const float* out)>;

  // Whether tiles of one size, one after the other, are computed sooner than mixed ones.
  bool batched() const { return most_tiles_ > 1; }

  // `fill` writes the tile's 3 x height x width floats, in this call. `take` gets 3 x (scale height) x (scale width) floats in [0, 1],
  // which are there for its call only: in this call or a later one, in the order of the tiles. Their errors are returned as they are. A
  // tile that comes out as NaN, Inf or flat (where the input was not) is run again in fp32; DATA_LOSS when it stays so. When memory ends,
  // the batch is halved, and stays so for all further ones; RESOURCE_EXHAUSTED when it ends for a single tile.
  Status Add(const Rect& tile, const Fill& fill, Take take);
  // Computes and hands out what is left.
  Status Finish();

 private:
  struct Batch;

  std::unique_ptr<Batch> NewBatch() const;
  Status Launch();
  Status LaunchInHalves(Batch* batch);
  Status Start(Batch* batch, size_t first, size_t count);
  Status Compute(Batch* batch, size_t first, size_t count) const;
  Status ComputeAlone(Batch* batch);
  int ThreadsOfNext() const;
  Status HandOutOldest();
  Status HandOut(Batch* batch, size_t first, size_t count);
  Status Check(const Batch& batch, size_t index, int64_t in_floats, float* out, int64_t out_floats);

  TileRunner* const runner_;
  const std::string model_;
  const int64_t count_;
  EnhanceStats* const stats_;
  size_t in_flight_;
  int most_tiles_;
  std::unique_ptr<Batch> filling_;
  std::deque<std::unique_ptr<Batch>> computing_;  // oldest first
};

// The enhancer of this card over `runner`, whose network fits the card.
std::unique_ptr<Enhancer> MakeEnhancer(const ModelCard& card, std::unique_ptr<TileRunner> runner, int64_t memory_budget);

}  // namespace nsic

#endif  // NSIC_CORE_INFER_TILE_RUNNER_H_
