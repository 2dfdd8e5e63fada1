// Runs tiles through a network: pads them to the network's multiple and checks what comes out.
#ifndef NSIC_CORE_INFER_TILE_RUNNER_H_
#define NSIC_CORE_INFER_TILE_RUNNER_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "core/base/geometry.h"
#include "core/base/status.h"
#include "core/infer/engine.h"

namespace nsic {

struct LoadedNetwork;

class TileRunner {
 public:
  // Loads the same network in fp32.
  using LoadExact = std::function<Result<std::unique_ptr<LoadedNetwork>>()>;

  // `multiple` and `scale` as in the pack's card. `load_exact` is called once at most, when a tile is to be run again; null where `loaded`
  // computes in fp32 itself.
  TileRunner(std::unique_ptr<LoadedNetwork> loaded, Precision precision, LoadExact load_exact, int multiple, int scale);
  ~TileRunner();

  Precision precision() const { return precision_; }

  // An upper estimate of the bytes that one tile in flight takes, its pixels on both sides included.
  int64_t TileBytes(Size tile) const;

  // Gets 3 x (scale height) x (scale width) floats in [0, 1], which are there for the call only.
  using Take = std::function<Status(const float* out)>;

  // 3 x height x width floats in; `take` gets what comes out, unless it is an error. A tile that comes out as NaN, Inf or flat (where the
  // input was not) is run again in fp32 and added to `*redone`; DATA_LOSS when it stays so. RESOURCE_EXHAUSTED when memory ends.
  // One tile at a time: more in a batch gained nothing on CPUs, and oneDNN rounds differently with the size of the batch.
  Status Run(Size tile, const float* in, const Take& take, int64_t* redone);

 private:
  Result<const LoadedNetwork*> Exact();

  const std::unique_ptr<LoadedNetwork> loaded_;
  const Precision precision_;
  const LoadExact load_exact_;
  std::unique_ptr<LoadedNetwork> exact_;  // once it was needed
  const int multiple_;
  const int scale_;
};

Result<std::unique_ptr<TileRunner>> LoadTileRunner(const ModelPack& pack, const EngineOptions& options);

// The enhancer of this card over `runner`, whose network fits the card.
std::unique_ptr<Enhancer> MakeEnhancer(const ModelCard& card, std::unique_ptr<TileRunner> runner, int64_t memory_budget);

}  // namespace nsic

#endif  // NSIC_CORE_INFER_TILE_RUNNER_H_
