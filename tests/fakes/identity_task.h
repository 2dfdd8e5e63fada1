// Tasks for worker tests: pictures, an identity pack, and the leases that a coordinator would make of them.
#ifndef NSIC_TESTS_FAKES_IDENTITY_TASK_H_
#define NSIC_TESTS_FAKES_IDENTITY_TASK_H_

#include <string>

#include "models/io/model_pack.h"
#include "nsic/v1/work.pb.h"
#include "tests/fakes/fake_coordinator.h"

namespace nsic {

inline ModelPack IdentityPack() {
  ModelPack pack;
  pack.card.name = "identity";
  pack.card.architecture = "identity";
  pack.card.licence = "Apache-2.0";
  pack.card.description = "gives back what it gets";
  pack.card.card_json = "{}";
  pack.card.tiling.tile = 64;
  pack.card.tiling.halo = 8;
  return pack;
}

// Stores the pack's bundle and names it in `task`.
inline void SetModel(FakeCoordinator* coordinator, const ModelPack& pack, v1::LeasedTask* task) {
  const std::string bundle = BundleModelPack(pack);
  task->set_model_blob(coordinator->blobs.Store(bundle));
  task->set_model_blob_size(static_cast<int64_t>(bundle.size()));
  const Result<ModelPack> stored = UnbundleModelPack(bundle, "bundle");
  ASSERT_TRUE(stored.ok()) << stored.status();
  task->mutable_options()->set_model_id(PackIdentity(stored->card));
  task->mutable_options()->set_model_name(pack.card.name);
}

// A lease on a whole picture of these bytes, uploaded, with a pack that changes nothing and the output in the input's format.
inline v1::LeasedTask IdentityTask(FakeCoordinator* coordinator, const std::string& token, const std::string& bytes, int width, int height,
                                   const std::string& format = "png") {
  v1::LeasedTask task;
  task.set_token(token);
  task.set_job_id(std::string(32, 'a'));
  task.mutable_source()->set_path("album/" + token);
  task.mutable_source()->mutable_content()->set_sha256(coordinator->blobs.Store(bytes));
  task.mutable_source()->mutable_content()->set_size(static_cast<int64_t>(bytes.size()));
  v1::PictureInfo* picture = task.mutable_source()->mutable_picture();
  picture->set_width(width);
  picture->set_height(height);
  picture->set_format(format);
  picture->set_depth(8);
  task.mutable_options()->set_strength(1);
  task.mutable_options()->set_format("keep");
  task.mutable_options()->set_jpeg_quality(95);
  SetModel(coordinator, IdentityPack(), &task);
  return task;
}

}  // namespace nsic

#endif  // NSIC_TESTS_FAKES_IDENTITY_TASK_H_
