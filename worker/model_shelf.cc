#include "worker/model_shelf.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "core/base/files.h"
#include "models/io/model_pack.h"

namespace nsic {
namespace {

int64_t WeightsBytes(const ModelPack& pack) {
  int64_t bytes = 0;
  for (const auto& [name, tensor] : pack.weights) bytes += static_cast<int64_t>(tensor.data.size());
  return bytes;
}

// For the log.
std::string PrecisionOf(const Enhancer* enhancer) { return " (" + std::string(PrecisionName(enhancer->precision())) + ")"; }
std::string PrecisionOf(const void* /*judges compute in fp32*/) { return ""; }

}  // namespace

ModelShelf::ModelShelf(Options options, ModelLoaders loaders, BlobCache* cache, const Clock* clock)
    : options_(options), loaders_(std::move(loaders)), cache_(cache), clock_(clock) {}

std::shared_ptr<Enhancer> ModelShelf::Get(const std::string& model_id, const std::string& bundle_sha256, int64_t bundle_size,
                                          const CancelToken& cancel, ModelError* error) {
  return Find<Enhancer>(Kind::kEnhancer, model_id, bundle_sha256, bundle_size, loaders_.enhancer, cancel, error);
}

std::shared_ptr<Scorer> ModelShelf::GetScorer(const v1::PackRef& pack, const CancelToken& cancel, ModelError* error) {
  return Find<Scorer>(Kind::kScorer, pack.model_id(), pack.blob(), pack.blob_size(), loaders_.scorer, cancel, error);
}

std::shared_ptr<Classifier> ModelShelf::GetClassifier(const v1::PackRef& pack, const CancelToken& cancel, ModelError* error) {
  return Find<Classifier>(Kind::kClassifier, pack.model_id(), pack.blob(), pack.blob_size(), loaders_.classifier, cancel, error);
}

template <typename Model, typename Load>
std::shared_ptr<Model> ModelShelf::Find(Kind kind, const std::string& model_id, const std::string& bundle_sha256, int64_t bundle_size,
                                        const Load& load_model, const CancelToken& cancel, ModelError* error) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = models_.find({kind, model_id});
  if (found != models_.end()) {
    found->second.last_use_us = clock_->MonotonicUs();
    return std::static_pointer_cast<Model>(found->second.model);
  }

  Result<std::unique_ptr<BlobCache::Pin>> bundle = cache_->Get(bundle_sha256, bundle_size, cancel);
  if (!bundle.ok()) {
    *error = {bundle.status().WithContext("fetching model " + model_id), true};
    return nullptr;
  }
  const auto load = [&]() -> Result<std::shared_ptr<Model>> {
    NSIC_ASSIGN_OR_RETURN(const std::string bytes, ReadFile((*bundle)->path()));
    NSIC_ASSIGN_OR_RETURN(const ModelPack pack, UnbundleModelPack(bytes, "model " + model_id));
    const std::string identity = PackIdentity(pack.card);
    if (identity != model_id) {
      return DataLossError("the bundle " + bundle_sha256 + " holds model " + pack.card.name + " with the identity " + identity +
                           " instead of " + model_id);
    }
    const int64_t weights_bytes = WeightsBytes(pack);
    MakeRoom(weights_bytes);
    NSIC_ASSIGN_OR_RETURN(std::shared_ptr<Model> model, load_model(pack));
    spdlog::info("loaded model {}{}, {} KiB of weights", pack.card.name, PrecisionOf(model.get()), weights_bytes >> 10);
    models_[{kind, model_id}] = {model, weights_bytes, clock_->MonotonicUs()};
    return model;
  };
  Result<std::shared_ptr<Model>> loaded = load();
  if (loaded.ok()) return *std::move(loaded);
  *error = {loaded.status(), false};
  return nullptr;
}

void ModelShelf::DropIdle() {
  std::lock_guard<std::mutex> lock(mutex_);
  const int64_t oldest = clock_->MonotonicUs() - options_.keep_idle_us;
  for (auto model = models_.begin(); model != models_.end();) {
    // A task in the pipeline holds its model: then it is not idle.
    const bool idle = model->second.last_use_us < oldest && model->second.model.use_count() == 1;
    model = idle ? models_.erase(model) : std::next(model);
  }
}

void ModelShelf::MakeRoom(int64_t bytes) {
  int64_t total = bytes;
  for (const auto& [id, model] : models_) total += model.weights_bytes;
  while (total > options_.weights_budget && !models_.empty()) {
    auto oldest = models_.begin();
    for (auto model = models_.begin(); model != models_.end(); ++model) {
      if (model->second.last_use_us < oldest->second.last_use_us) oldest = model;
    }
    total -= oldest->second.weights_bytes;
    models_.erase(oldest);
  }
}

size_t ModelShelf::loaded() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return models_.size();
}

}  // namespace nsic
