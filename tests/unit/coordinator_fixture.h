// A farm without a network: database, blob store and clock of a coordinator, and shorthand for what clients and workers do.
#ifndef NSIC_TESTS_UNIT_COORDINATOR_FIXTURE_H_
#define NSIC_TESTS_UNIT_COORDINATOR_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/accept_submit.h"
#include "coordinator/admit_worker.h"
#include "coordinator/bench_workers.h"
#include "coordinator/collect_blobs.h"
#include "coordinator/commit_result.h"
#include "coordinator/control_job.h"
#include "coordinator/db/audit.h"
#include "coordinator/db/blobs.h"
#include "coordinator/db/database.h"
#include "coordinator/db/models.h"
#include "coordinator/db/tasks.h"
#include "coordinator/db/workers.h"
#include "coordinator/farm.h"
#include "coordinator/lease_task.h"
#include "coordinator/metrics.h"
#include "coordinator/report_job.h"
#include "coordinator/sweep_leases.h"
#include "core/base/clock.h"
#include "core/base/digest.h"
#include "core/farm/blob_store.h"
#include "core/rpc/channel.h"
#include "core/rpc/video_messages.h"
#include "models/io/model_pack.h"

namespace nsic {

class FarmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "farm_XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    farm_.options.version = "0.1.0";
    farm_.metrics = &metrics_;
    farm_.bench = &bench_;
    farm_.clock = &clock_;
    OpenStore(0);
    AddModel("lite", &model_id_);
  }

  void TearDown() override {
    ExpectSound();
    blobs_.reset();
    database_.reset();
    std::filesystem::remove_all(folder_);
  }

  // Opens the state as a coordinator does at its start.
  void OpenStore(int64_t quota) {
    blobs_.reset();
    index_.reset();
    database_.reset();
    Result<std::unique_ptr<Database>> database = Database::Open(folder_ + "/coordinator.db");
    ASSERT_TRUE(database.ok()) << database.status();
    database_ = *std::move(database);
    index_ = std::make_unique<DatabaseBlobIndex>(database_.get(), &clock_);
    BlobStore::Options options;
    options.folder = folder_;
    options.quota = quota;
    options.make_room = [this](int64_t bytes) { EXPECT_TRUE(MakeRoom(farm_, bytes).ok()); };
    Result<std::unique_ptr<BlobStore>> blobs = BlobStore::Open(options, index_.get());
    ASSERT_TRUE(blobs.ok()) << blobs.status();
    blobs_ = *std::move(blobs);
    farm_.database = database_.get();
    farm_.blobs = blobs_.get();
  }

  void ExpectSound() {
    const Status status = database_->Read([](Transaction& t) { return Audit(t); });
    EXPECT_TRUE(status.ok()) << status;
  }

  void AddModel(const std::string& name, std::string* id) {
    ModelPack pack;
    pack.card.name = name;
    pack.card.architecture = "identity";
    pack.card.tiling.tile = 256;
    pack.card.licence = "CC0-1.0";
    Result<std::string> bundle = blobs_->Put("bundle of " + name);
    ASSERT_TRUE(bundle.ok()) << bundle.status();
    pack.card.weights_sha256 = *bundle;
    *id = PackIdentity(pack.card);
    ASSERT_TRUE(Write([&](Transaction& t) {
      InsertModel(t, {*id, name, "enhance", SerializeModelCard(pack.card), *bundle, 0, false});
      return OkStatus();
    }));
  }

  bool Write(const std::function<Status(Transaction&)>& work) {
    const Status status = database_->Write(work);
    EXPECT_TRUE(status.ok()) << status;
    return status.ok();
  }

  // Source number `i`: its bytes are only a name here.
  static std::string SourceBytes(int i) { return "picture " + std::to_string(i); }
  v1::SourceFile Source(int i, int width = 1000, int height = 1000) const {
    v1::SourceFile file;
    file.set_path("folder/picture " + std::to_string(i) + ".png");
    file.mutable_content()->set_sha256(Sha256Hex(SourceBytes(i)));
    file.mutable_content()->set_size(static_cast<int64_t>(SourceBytes(i).size()));
    file.mutable_picture()->set_width(width);
    file.mutable_picture()->set_height(height);
    file.mutable_picture()->set_format("png");
    file.mutable_picture()->set_depth(8);
    return file;
  }
  // A video of the same name, at 25 frames a second with a key frame every `gop`; its index is stored.
  v1::SourceFile Video(int i, int frames, int gop = 50, int width = 100, int height = 100) {
    v1::SourceFile file = Source(i);
    file.set_path("folder/video " + std::to_string(i) + ".mkv");
    VideoIndex index;
    for (int frame = 0; frame < frames; ++frame) index.pts.push_back(frame * 40);
    for (int frame = 0; frame < frames; frame += gop) index.key_frames.push_back({frame, 1000 * frame});
    v1::VideoInfo& video = *file.mutable_video();
    VideoInfo info;
    info.size = {width, height};
    info.codec = "h264";
    info.pixel_format = "yuv420p";
    info.time_base = {1, 1000};
    info.frame_rate = {25, 1};
    EncodePlan plan;
    plan.encoder = "libx264";
    plan.crf = 18;
    plan.preset = "medium";
    plan.pixel_format = "yuv420p";
    plan.size = info.size;
    plan.container = "mkv";
    ToMessage(info, plan, &video);
    video.mutable_range()->set_count(frames);
    *video.mutable_index() = StoreIndex(index);
    return file;
  }
  v1::BlobRef StoreIndex(const VideoIndex& index) {
    v1::VideoIndex message;
    ToMessage(index, &message);
    const std::string bytes = message.SerializeAsString();
    v1::BlobRef blob;
    Result<std::string> sha256 = blobs_->Put(bytes);
    EXPECT_TRUE(sha256.ok()) << sha256.status();
    blob.set_sha256(sha256.ok() ? *sha256 : "");
    blob.set_size(static_cast<int64_t>(bytes.size()));
    return blob;
  }
  void Upload(int i) { ASSERT_TRUE(blobs_->Put(SourceBytes(i)).ok()); }

  static std::string Id(int n) {
    std::string id = std::to_string(n);
    return std::string(32 - id.size(), '0') + id;
  }

  v1::SubmitRequest Request(int job, const v1::JobManifest& manifest) {
    const std::string bytes = manifest.SerializeAsString();
    Result<std::string> sha256 = blobs_->Put(bytes);
    EXPECT_TRUE(sha256.ok()) << sha256.status();
    v1::SubmitRequest request;
    request.set_job_id(Id(job));
    request.mutable_spec()->mutable_manifest()->set_sha256(*sha256);
    request.mutable_spec()->mutable_manifest()->set_size(static_cast<int64_t>(bytes.size()));
    v1::RestoreOptions* const options = request.mutable_spec()->mutable_options();
    options->set_model_id(model_id_);
    options->set_strength(1);
    options->set_format("png");
    options->set_jpeg_quality(95);
    return request;
  }
  v1::SubmitRequest Request(int job, const std::vector<v1::SourceFile>& files) {
    v1::JobManifest manifest;
    for (const v1::SourceFile& file : files) *manifest.add_files() = file;
    return Request(job, manifest);
  }
  // Pictures first..first+count-1, uploaded.
  v1::Job Submit(int job, int first, int count, int priority = 0) {
    std::vector<v1::SourceFile> files;
    for (int i = first; i < first + count; ++i) {
      files.push_back(Source(i));
      Upload(i);
    }
    v1::SubmitRequest request = Request(job, files);
    request.mutable_spec()->set_priority(priority);
    Result<v1::Job> submitted = AcceptSubmit(farm_, request);
    EXPECT_TRUE(submitted.ok()) << submitted.status();
    return submitted.ok() ? *submitted : v1::Job();
  }
  v1::Job Get(int job) {
    v1::Job result;
    EXPECT_TRUE(database_
                    ->Read([&](Transaction& t) -> Status {
                      NSIC_ASSIGN_OR_RETURN(result, DescribeJob(farm_, t, Id(job)));
                      return OkStatus();
                    })
                    .ok());
    return result;
  }
  std::vector<v1::TaskOutcome> Outcomes(int job) {
    std::vector<v1::TaskOutcome> outcomes;
    EXPECT_TRUE(database_
                    ->Read([&](Transaction& t) -> Status {
                      NSIC_ASSIGN_OR_RETURN(outcomes, DescribeOutcomes(t, Id(job), 0, 100'000));
                      return OkStatus();
                    })
                    .ok());
    return outcomes;
  }

  static v1::RegisterRequest Worker(const std::string& name, const std::vector<std::string>& roots = {}) {
    v1::RegisterRequest request;
    request.set_name(name);
    request.set_protocol(kProtocolVersion);
    request.set_version("0.1.3");
    request.set_device("cpu");
    for (const std::string& root : roots) request.add_media_roots(root);
    return request;
  }
  std::string Register(const std::string& name, const std::vector<std::string>& roots = {}) {
    Result<v1::RegisterResponse> response = AdmitWorker(farm_, Worker(name, roots));
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? response->session() : "";
  }
  // Every worker that is still there says so.
  void Heartbeat(const std::vector<std::string>& sessions) {
    for (const std::string& session : sessions) {
      Write([&](Transaction& t) { return CheckSession(farm_, t, session).status(); });
    }
  }
  void SetSpeed(const std::string& session, double megapixels_per_s) {
    Write([&](Transaction& t) -> Status {
      NSIC_ASSIGN_OR_RETURN(const WorkerRow worker, CheckSession(farm_, t, session));
      PutSpeed(t, worker.id, model_id_, megapixels_per_s, "fp32");
      return OkStatus();
    });
  }

  std::vector<v1::LeasedTask> Lease(const std::string& session, int max_tasks = 1, std::string request_id = "") {
    if (request_id.empty()) request_id = RandomHex(16);
    v1::LeaseRequest request;
    request.set_session(session);
    request.set_request_id(request_id);
    request.set_max_tasks(max_tasks);
    v1::LeaseResponse response;
    Write([&](Transaction& t) -> Status {
      response.Clear();
      NSIC_ASSIGN_OR_RETURN(const WorkerRow worker, CheckSession(farm_, t, session));
      return LeaseTasks(farm_, t, worker, request, &response);
    });
    return {response.tasks().begin(), response.tasks().end()};
  }

  // The output of a task is a text that names its source and says who made it.
  v1::ItemStatus Complete(const std::string& session, const v1::LeasedTask& task, const std::string& output = "output") {
    v1::CompletedItem item;
    item.set_token(task.token());
    std::string bytes = output + " of " + task.source().path();
    if (task.has_segment()) bytes += " from frame " + std::to_string(task.segment().frames().first());
    Result<std::string> sha256 = blobs_->Put(bytes);
    EXPECT_TRUE(sha256.ok()) << sha256.status();
    item.mutable_result()->mutable_output()->set_sha256(sha256.ok() ? *sha256 : "");
    item.mutable_result()->mutable_output()->set_size(static_cast<int64_t>(bytes.size()));
    item.mutable_result()->set_width(10);
    item.mutable_result()->set_height(10);
    item.mutable_result()->set_model_id(task.options().model_id());
    item.mutable_result()->set_frames(task.segment().frames().count());
    return Complete(session, item);
  }
  v1::ItemStatus Complete(const std::string& session, const v1::CompletedItem& item) {
    v1::ItemStatus status;
    Write([&](Transaction& t) -> Status {
      NSIC_ASSIGN_OR_RETURN(const WorkerRow worker, CheckSession(farm_, t, session));
      bool changed = false;
      return CommitResult(farm_, t, worker, item, &status, &changed);
    });
    return status;
  }
  v1::ItemStatus Fail(const std::string& session, const v1::LeasedTask& task, v1::FailureClass failure_class,
                      const std::string& message = "it broke") {
    v1::FailedItem item;
    item.set_token(task.token());
    item.set_failure_class(failure_class);
    item.set_message(message);
    v1::ItemStatus status;
    Write([&](Transaction& t) -> Status {
      NSIC_ASSIGN_OR_RETURN(const WorkerRow worker, CheckSession(farm_, t, session));
      bool changed = false;
      return TakeFailure(farm_, t, worker, item, &status, &changed);
    });
    return status;
  }
  v1::ItemStatus Release(const std::string& session, const v1::LeasedTask& task) {
    v1::ItemStatus status;
    Write([&](Transaction& t) -> Status {
      NSIC_ASSIGN_OR_RETURN(const WorkerRow worker, CheckSession(farm_, t, session));
      return TakeRelease(farm_, t, worker, task.token(), &status);
    });
    return status;
  }
  // Time passes; the sweeper looks.
  void Pass(int64_t ms) {
    clock_.AdvanceMs(ms);
    EXPECT_TRUE(SweepLeases(farm_).ok());
  }

  std::string folder_;
  ManualClock clock_;
  Metrics metrics_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<DatabaseBlobIndex> index_;
  std::unique_ptr<BlobStore> blobs_;
  BenchBoard bench_;
  Farm farm_{};
  std::string model_id_;
};

}  // namespace nsic

#endif  // NSIC_TESTS_UNIT_COORDINATOR_FIXTURE_H_
