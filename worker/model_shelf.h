// The models that this worker has at hand: fetched once by hash, checked, loaded, kept while they are used.
#ifndef NSIC_WORKER_MODEL_SHELF_H_
#define NSIC_WORKER_MODEL_SHELF_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "core/base/cancel.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/infer/engine.h"
#include "nsic/v1/jobs.pb.h"
#include "worker/blob_cache.h"

namespace nsic {

// Make engines of packs: LoadEnhancer and its like, or fakes.
using EnhancerLoader = std::function<Result<std::unique_ptr<Enhancer>>(const ModelPack& pack)>;
struct ModelLoaders {
  EnhancerLoader enhancer;
  std::function<Result<std::unique_ptr<Scorer>>(const ModelPack& pack)> scorer;
  std::function<Result<std::unique_ptr<Classifier>>(const ModelPack& pack)> classifier;
};

// Why a model cannot be had, and whether trying again later may help.
struct ModelError {
  Status status;
  bool fetching = false;  // the bundle did not arrive; otherwise the bundle, or this machine, is at fault
};

// Thread-safe; one thread at a time loads.
class ModelShelf {
 public:
  struct Options {
    int64_t weights_budget = int64_t{1} << 30;  // bytes of weights; the least recently used model goes when another does not fit beside it
    int64_t keep_idle_us = int64_t{300} * 1'000'000;  // how long an unused model is kept
  };

  // `cache` and `clock` must outlive the shelf.
  ModelShelf(Options options, ModelLoaders loaders, BlobCache* cache, const Clock* clock);

  // The model with this identity, from the bundle with this hash and size. What comes takes one call at a time. On failure nullptr and
  // `*error`.
  std::shared_ptr<Enhancer> Get(const std::string& model_id, const std::string& bundle_sha256, int64_t bundle_size,
                                const CancelToken& cancel, ModelError* error);
  std::shared_ptr<Scorer> GetScorer(const v1::PackRef& pack, const CancelToken& cancel, ModelError* error);
  std::shared_ptr<Classifier> GetClassifier(const v1::PackRef& pack, const CancelToken& cancel, ModelError* error);

  // Drops what has not been asked for lately.
  void DropIdle();

  size_t loaded() const;

 private:
  enum class Kind { kEnhancer, kScorer, kClassifier };
  struct Loaded {
    std::shared_ptr<void> model;
    int64_t weights_bytes = 0;
    int64_t last_use_us = 0;
  };
  template <typename Model, typename Load>
  std::shared_ptr<Model> Find(Kind kind, const std::string& model_id, const std::string& bundle_sha256, int64_t bundle_size,
                              const Load& load, const CancelToken& cancel, ModelError* error);
  void MakeRoom(int64_t bytes);  // with mutex_ held

  const Options options_;
  const ModelLoaders loaders_;
  BlobCache* const cache_;
  const Clock* const clock_;
  mutable std::mutex mutex_;
  std::map<std::pair<Kind, std::string>, Loaded> models_;  // by identity, and what it was loaded as; guarded by mutex_
};

}  // namespace nsic

#endif  // NSIC_WORKER_MODEL_SHELF_H_
