// Runs tiles through a network: pads them to the network's multiple, checks what comes out, survives running out of memory.
#ifndef NSIC_CORE_INFER_TILE_RUNNER_H_
#define NSIC_CORE_INFER_TILE_RUNNER_H_

#include <cstdint>
#include <memory>

#include "core/base/geometry.h"
#include "core/base/status.h"
#include "core/infer/engine.h"

namespace nsic {

struct LoadedNetwork;

class TileRunner {
 public:
  // `multiple` and `scale` as in the pack's card.
  TileRunner(std::unique_ptr<LoadedNetwork> loaded, int multiple, int scale);
  ~TileRunner();

  // An upper estimate of the bytes that one tile in flight takes, its pixels on both sides included.
  int64_t TileBytes(Size tile) const;

  // `count` tiles of one size: count x 3 x height x width floats in, count x 3 x (scale height) x (scale width) out, in [0, 1].
  // Tiles that come out as NaN, Inf or flat (where the input was not) are run again alone and added to `*redone`.
  // DATA_LOSS when such a tile stays so, with `*failed` its number. RESOURCE_EXHAUSTED when one tile does not fit the memory;
  // more are tried in halves first, and later calls begin with what fitted.
  Status Run(Size tile, int count, const float* in, float* out, int64_t* redone, int* failed);

 private:
  const std::unique_ptr<LoadedNetwork> loaded_;
  const int multiple_;
  const int scale_;
  int most_at_once_;
};

Result<std::unique_ptr<TileRunner>> LoadTileRunner(const ModelPack& pack, const EngineOptions& options);

}  // namespace nsic

#endif  // NSIC_CORE_INFER_TILE_RUNNER_H_
