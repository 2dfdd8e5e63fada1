// A coordinator in this process, spoken to over loopback with real gRPC.
#include <SQLiteCpp/SQLiteCpp.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/collect_blobs.h"
#include "coordinator/coordinator.h"
#include "coordinator/metrics.h"
#include "core/base/digest.h"
#include "core/rpc/channel.h"
#include "models/io/model_pack.h"
#include "nsic/v1/admin.grpc.pb.h"
#include "nsic/v1/blobs.grpc.pb.h"
#include "nsic/v1/jobs.grpc.pb.h"
#include "nsic/v1/models.grpc.pb.h"
#include "nsic/v1/work.grpc.pb.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;
using grpc::StatusCode;

// Calls that hang fail the test instead of blocking it; nothing is decided by how long they take.
constexpr std::chrono::seconds kDeadline{60};

int Threads() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("Threads:", 0) == 0) return std::stoi(line.substr(8));
  }
  return -1;
}

std::string Id(int n) {
  const std::string id = std::to_string(n);
  return std::string(32 - id.size(), '0') + id;
}

class ServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "service_XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    ModelPack pack;
    pack.card.name = "copy";
    pack.card.architecture = "identity";
    pack.card.tiling.tile = 256;
    pack.card.licence = "CC0-1.0";
    ASSERT_TRUE(WriteModelPack(folder_ + "/models/copy", pack).ok());
    options_.listen = "127.0.0.1:0";
    options_.state_folder = folder_ + "/state";
    options_.models_folder = folder_ + "/models";
    options_.farm.version = "0.1.0";
    options_.clock = &clock_;
    Start();
  }
  void TearDown() override {
    coordinator_.reset();
    fs::remove_all(folder_);
  }

  void Start() {
    Result<std::unique_ptr<Coordinator>> started = Coordinator::Start(options_);
    ASSERT_TRUE(started.ok()) << started.status();
    coordinator_ = *std::move(started);
    Connect(options_.token);
  }
  // As after a crash whose last reply was lost: what was committed is there, nothing else is.
  void Restart() {
    coordinator_.reset();
    Start();
  }
  void Connect(const std::string& token) {
    channel_ = OpenChannel(coordinator_->address(), token);
    jobs_ = v1::Jobs::NewStub(channel_);
    blobs_ = v1::Blobs::NewStub(channel_);
    work_ = v1::Work::NewStub(channel_);
    models_ = v1::Models::NewStub(channel_);
    admin_ = v1::Admin::NewStub(channel_);
  }

  static std::unique_ptr<grpc::ClientContext> Context() {
    auto context = std::make_unique<grpc::ClientContext>();
    context->set_deadline(std::chrono::system_clock::now() + kDeadline);
    return context;
  }

  grpc::Status UploadPart(const std::string& bytes, size_t offset, size_t end, v1::UploadResult* result) {
    const auto context = Context();
    const std::unique_ptr<grpc::ClientWriter<v1::UploadChunk>> writer = blobs_->Upload(context.get(), result);
    v1::UploadChunk chunk;
    chunk.mutable_header()->mutable_blob()->set_sha256(Sha256Hex(bytes));
    chunk.mutable_header()->mutable_blob()->set_size(static_cast<int64_t>(bytes.size()));
    chunk.mutable_header()->set_offset(static_cast<int64_t>(offset));
    do {
      chunk.set_data(bytes.substr(offset, std::min<size_t>(end - offset, 1 << 20)));
      offset += chunk.data().size();
      if (!writer->Write(chunk)) break;
      chunk.clear_header();
    } while (offset < end);
    writer->WritesDone();
    return writer->Finish();
  }
  grpc::Status Upload(const std::string& bytes, v1::UploadResult* result) { return UploadPart(bytes, 0, bytes.size(), result); }
  std::string MustUpload(const std::string& bytes) {
    v1::UploadResult result;
    const grpc::Status status = Upload(bytes, &result);
    EXPECT_TRUE(status.ok() && result.complete()) << status.error_message();
    return Sha256Hex(bytes);
  }
  grpc::Status Download(const std::string& sha256, int64_t offset, int64_t length, std::string* bytes) {
    v1::DownloadRequest request;
    request.set_sha256(sha256);
    request.set_offset(offset);
    request.set_length(length);
    const auto context = Context();
    const auto reader = blobs_->Download(context.get(), request);
    v1::DownloadChunk chunk;
    bytes->clear();
    while (reader->Read(&chunk)) *bytes += chunk.data();
    return reader->Finish();
  }

  std::string ModelId() {
    v1::GetModelRequest request;
    request.set_name_or_id("copy");
    v1::Model model;
    EXPECT_TRUE(models_->Get(Context().get(), request, &model).ok());
    return model.id();
  }

  static std::string SourceBytes(int i) { return "source " + std::to_string(i); }
  v1::SubmitRequest SubmitRequest(int job, int first, int count) {
    v1::JobManifest manifest;
    for (int i = first; i < first + count; ++i) {
      v1::SourceFile* const file = manifest.add_files();
      file->set_path("p" + std::to_string(i) + ".png");
      file->mutable_content()->set_sha256(Sha256Hex(SourceBytes(i)));
      file->mutable_content()->set_size(static_cast<int64_t>(SourceBytes(i).size()));
      file->mutable_picture()->set_width(100);
      file->mutable_picture()->set_height(100);
      file->mutable_picture()->set_format("png");
      file->mutable_picture()->set_depth(8);
    }
    v1::SubmitRequest request;
    request.set_job_id(Id(job));
    request.mutable_spec()->mutable_manifest()->set_sha256(MustUpload(manifest.SerializeAsString()));
    request.mutable_spec()->mutable_manifest()->set_size(static_cast<int64_t>(manifest.ByteSizeLong()));
    request.mutable_spec()->mutable_options()->set_model_id(ModelId());
    request.mutable_spec()->mutable_options()->set_strength(1);
    request.mutable_spec()->mutable_options()->set_format("png");
    request.mutable_spec()->mutable_options()->set_jpeg_quality(95);
    return request;
  }
  void Submit(int job, int first, int count) {
    const v1::SubmitRequest request = SubmitRequest(job, first, count);
    for (int i = first; i < first + count; ++i) MustUpload(SourceBytes(i));
    v1::Job reply;
    const grpc::Status status = jobs_->Submit(Context().get(), request, &reply);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  static v1::RegisterRequest WorkerRequest(const std::string& name) {
    v1::RegisterRequest request;
    request.set_name(name);
    request.set_protocol(kProtocolVersion);
    request.set_version("0.1.0");
    return request;
  }
  std::string Register(const std::string& name) {
    v1::RegisterResponse response;
    const grpc::Status status = work_->Register(Context().get(), WorkerRequest(name), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.session();
  }
  v1::LeaseRequest LeaseRequest(const std::string& session, int wait_ms, const std::string& request_id = RandomHex(16)) {
    v1::LeaseRequest request;
    request.set_session(session);
    request.set_request_id(request_id);
    request.set_max_tasks(8);
    request.set_wait_ms(wait_ms);
    v1::ModelSpeed* const speed = request.add_speeds();
    speed->set_model_id(ModelId());
    speed->set_megapixels_per_second(100);
    return request;
  }
  v1::LeaseResponse Lease(const std::string& session, int wait_ms = 20'000) {
    v1::LeaseResponse response;
    const grpc::Status status = work_->Lease(Context().get(), LeaseRequest(session, wait_ms), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  v1::CompleteRequest CompleteRequest(const std::string& session, const std::vector<v1::LeasedTask>& tasks) {
    v1::CompleteRequest request;
    request.set_session(session);
    for (const v1::LeasedTask& task : tasks) {
      v1::CompletedItem* const item = request.add_items();
      item->set_token(task.token());
      const std::string output = "output of " + task.source().path();
      item->mutable_result()->mutable_output()->set_sha256(MustUpload(output));
      item->mutable_result()->mutable_output()->set_size(static_cast<int64_t>(output.size()));
      item->mutable_result()->set_width(100);
      item->mutable_result()->set_height(100);
      item->mutable_result()->set_seconds(0.5);
      item->mutable_result()->set_model_id(task.options().model_id());
    }
    return request;
  }

  // Everything in the database but when things were last seen, and who was named by chance.
  std::string Dump() {
    SQLite::Database database(options_.state_folder + "/coordinator.db", SQLite::OPEN_READONLY);
    std::ostringstream out;
    std::vector<std::string> tables;
    SQLite::Statement names(database, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name");
    while (names.executeStep()) tables.push_back(names.getColumn(0).getString());
    for (const std::string& table : tables) {
      SQLite::Statement rows(database, "SELECT * FROM " + table + " ORDER BY 1, 2");
      while (rows.executeStep()) {
        out << table << ":";
        for (int i = 0; i < rows.getColumnCount(); ++i) {
          const std::string column = rows.getColumnName(i);
          if (column == "last_seen_ms" || column == "touched_ms" || column == "session" || column == "expires_steady_ms" ||
              column == "banned_until_ms") {
            continue;
          }
          out << " " << column << "=" << rows.getColumn(i).getString();
        }
        out << "\n";
      }
    }
    return out.str();
  }

  std::string folder_;
  SystemClock clock_;
  Coordinator::Options options_;
  std::unique_ptr<Coordinator> coordinator_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Jobs::Stub> jobs_;
  std::unique_ptr<v1::Blobs::Stub> blobs_;
  std::unique_ptr<v1::Work::Stub> work_;
  std::unique_ptr<v1::Models::Stub> models_;
  std::unique_ptr<v1::Admin::Stub> admin_;
};

// One farm's life, each call made three times: as it is, again (a retry), and again after a restart (the reply was lost in a crash). The
// second and third get the first one's answer and change nothing.
class DuplicateCallTest : public ServiceTest {
 protected:
  // Blobs that were given up go in the background: not of their own accord between two looks.
  std::string SettledDump() {
    EXPECT_TRUE(CollectGivenUp(coordinator_->farm()).ok());
    return Dump();
  }
  static std::string FirstDifference(const std::string& got, const std::string& expected) {
    std::istringstream a(got), b(expected);
    std::string x, y;
    while (true) {
      const bool more_a = static_cast<bool>(std::getline(a, x)), more_b = static_cast<bool>(std::getline(b, y));
      if (!more_a && !more_b) return "";
      if (more_a != more_b || x != y) return "got " + (more_a ? x : "nothing") + ", expected " + (more_b ? y : "nothing");
    }
  }
  template <typename Request, typename Reply, typename Method>
  Reply Thrice(const char* name, const Request& request, const Method& method) {
    const auto call = [&](Reply* reply) { return method(Context().get(), request, reply); };
    Reply first, second, third;
    const grpc::Status ok = call(&first);
    EXPECT_TRUE(ok.ok()) << name << ": " << ok.error_message();
    const std::string after = SettledDump();
    EXPECT_TRUE(call(&second).ok()) << name;
    EXPECT_EQ(FirstDifference(SettledDump(), after), "") << name << ", called again";
    Restart();
    EXPECT_TRUE(call(&third).ok()) << name;
    EXPECT_EQ(FirstDifference(SettledDump(), after), "") << name << ", called again after a restart";
    Blank(&first), Blank(&second), Blank(&third);
    EXPECT_EQ(second.DebugString(), first.DebugString()) << name << ", called again";
    EXPECT_EQ(third.DebugString(), first.DebugString()) << name << ", called again after a restart";
    called_.push_back(name);
    return first;
  }
  // What may differ: each registration's session; what a person is told of the moment.
  template <typename Reply>
  static void Blank(Reply* /*reply*/) {}
  static void Blank(v1::RegisterResponse* reply) { reply->clear_session(); }
  static void Blank(v1::Job* reply) { reply->clear_waiting_reason(); }
  static void Blank(v1::ListJobsResponse* reply) {
    for (v1::Job& job : *reply->mutable_jobs()) job.clear_waiting_reason();
  }
  static void Blank(v1::ListWorkersResponse* reply) {
    for (v1::WorkerStatus& worker : *reply->mutable_workers()) worker.clear_last_seen_ms();
  }

  std::vector<std::string> called_;
};

TEST_F(DuplicateCallTest, EveryMethodTwiceAndAfterACrash) {
#define NSIC_CALL(stub, method) [&](grpc::ClientContext* c, const auto& q, auto* r) { return (stub)->method(c, q, r); }
  const auto job_id = [](int n) {
    v1::JobId id;
    id.set_job_id(Id(n));
    return id;
  };

  // Models.
  ModelPack pack;
  pack.card.name = "other";
  pack.card.architecture = "identity";
  pack.card.tiling.tile = 128;
  pack.card.licence = "CC0-1.0";
  // The hash of the weights that WriteModelPack fills in is needed: bundle what was written.
  ASSERT_TRUE(WriteModelPack(folder_ + "/other", pack).ok());
  const Result<ModelPack> written = ReadModelPack(folder_ + "/other");
  ASSERT_TRUE(written.ok()) << written.status();
  const std::string bundle = BundleModelPack(*written);
  v1::PutModelRequest put;
  put.set_bundle_sha256(Sha256Hex(bundle));
  {
    v1::Model model;
    EXPECT_EQ(models_->Put(Context().get(), put, &model).error_code(), StatusCode::FAILED_PRECONDITION) << "not uploaded yet";
  }
  Thrice<std::string, v1::UploadResult>(
      "Blobs.Upload", bundle,
      [&](grpc::ClientContext*, const std::string& bytes, v1::UploadResult* result) { return Upload(bytes, result); });
  const auto model = Thrice<v1::PutModelRequest, v1::Model>("Models.Put", put, NSIC_CALL(models_, Put));
  EXPECT_EQ(model.name(), "other");
  v1::GetModelRequest get_model;
  get_model.set_name_or_id(model.id());
  Thrice<v1::GetModelRequest, v1::Model>("Models.Get", get_model, NSIC_CALL(models_, Get));
  EXPECT_EQ((Thrice<v1::ListModelsRequest, v1::ListModelsResponse>("Models.List", {}, NSIC_CALL(models_, List))).models_size(), 2);
  v1::RemoveModelRequest remove;
  remove.set_name_or_id("other");
  Thrice<v1::RemoveModelRequest, v1::RemoveModelResponse>("Models.Remove", remove, NSIC_CALL(models_, Remove));

  // Blobs.
  v1::FindMissingRequest find;
  find.add_sha256(Sha256Hex("not there"));
  Thrice<v1::FindMissingRequest, v1::FindMissingResponse>("Blobs.FindMissing", find, NSIC_CALL(blobs_, FindMissing));
  v1::StatBlobRequest stat;
  stat.set_sha256(MustUpload("some blob"));
  EXPECT_TRUE((Thrice<v1::StatBlobRequest, v1::BlobStat>("Blobs.Stat", stat, NSIC_CALL(blobs_, Stat))).stored());
  Thrice<std::string, v1::DownloadChunk>(
      "Blobs.Download", stat.sha256(),
      [&](grpc::ClientContext*, const std::string& sha256, v1::DownloadChunk* all) { return Download(sha256, 0, 0, all->mutable_data()); });

  // A job of five: two done, one failed, one given back, one left.
  const v1::SubmitRequest submit = SubmitRequest(1, 0, 5);
  for (int i = 0; i < 5; ++i) MustUpload(SourceBytes(i));
  Thrice<v1::SubmitRequest, v1::Job>("Jobs.Submit", submit, NSIC_CALL(jobs_, Submit));
  Thrice<v1::RegisterRequest, v1::RegisterResponse>("Work.Register", WorkerRequest("w"), NSIC_CALL(work_, Register));
  const std::string session = Register("w");
  const auto lease =
      Thrice<v1::LeaseRequest, v1::LeaseResponse>("Work.Lease", LeaseRequest(session, 1000, Id(99)), NSIC_CALL(work_, Lease));
  ASSERT_EQ(lease.tasks_size(), 5);
  v1::RenewRequest renew;
  renew.set_session(session);
  for (const v1::LeasedTask& task : lease.tasks()) renew.add_tokens(task.token());
  renew.add_tokens("unknown");
  const auto renewed = Thrice<v1::RenewRequest, v1::RenewResponse>("Work.Renew", renew, NSIC_CALL(work_, Renew));
  EXPECT_TRUE(renewed.go_on(0));
  EXPECT_FALSE(renewed.go_on(5));
  Thrice<v1::CompleteRequest, v1::ItemsResponse>("Work.Complete", CompleteRequest(session, {lease.tasks(0), lease.tasks(1)}),
                                                 NSIC_CALL(work_, Complete));
  v1::FailRequest fail;
  fail.set_session(session);
  fail.add_items()->set_token(lease.tasks(2).token());
  fail.mutable_items(0)->set_failure_class(v1::FAILURE_CLASS_BAD_INPUT);
  fail.mutable_items(0)->set_message("truncated");
  Thrice<v1::FailRequest, v1::ItemsResponse>("Work.Fail", fail, NSIC_CALL(work_, Fail));
  v1::ReleaseRequest release;
  release.set_session(session);
  release.add_tokens(lease.tasks(3).token());
  Thrice<v1::ReleaseRequest, v1::ItemsResponse>("Work.Release", release, NSIC_CALL(work_, Release));

  // Its control.
  Thrice<v1::JobId, v1::Job>("Jobs.Get", job_id(1), NSIC_CALL(jobs_, Get));
  EXPECT_EQ((Thrice<v1::ListJobsRequest, v1::ListJobsResponse>("Jobs.List", {}, NSIC_CALL(jobs_, List))).jobs_size(), 1);
  EXPECT_TRUE((Thrice<v1::JobId, v1::Job>("Jobs.Pause", job_id(1), NSIC_CALL(jobs_, Pause))).paused());
  EXPECT_FALSE((Thrice<v1::JobId, v1::Job>("Jobs.Resume", job_id(1), NSIC_CALL(jobs_, Resume))).paused());
  v1::SetPriorityRequest priority;
  priority.set_job_id(Id(1));
  priority.set_priority(3);
  EXPECT_EQ((Thrice<v1::SetPriorityRequest, v1::Job>("Jobs.SetPriority", priority, NSIC_CALL(jobs_, SetPriority))).spec().priority(), 3);
  EXPECT_EQ((Thrice<v1::JobId, v1::Job>("Jobs.Retry", job_id(1), NSIC_CALL(jobs_, Retry))).tasks_failed(), 0);
  v1::ListOutputsRequest outputs;
  outputs.set_job_id(Id(1));
  const auto listed = Thrice<v1::ListOutputsRequest, v1::ListOutputsResponse>("Jobs.ListOutputs", outputs, NSIC_CALL(jobs_, ListOutputs));
  ASSERT_EQ(listed.outcomes_size(), 2);
  v1::MarkFetchedRequest mark;
  mark.set_job_id(Id(1));
  mark.add_task_ids(listed.outcomes(0).task_id());
  mark.add_task_ids(123456);
  Thrice<v1::MarkFetchedRequest, v1::MarkFetchedResponse>("Jobs.MarkFetched", mark, NSIC_CALL(jobs_, MarkFetched));

  // The farm.
  EXPECT_EQ(
      (Thrice<v1::ListWorkersRequest, v1::ListWorkersResponse>("Admin.ListWorkers", {}, NSIC_CALL(admin_, ListWorkers))).workers_size(), 1);
  v1::BenchRequest bench;
  bench.set_bench_id(Id(1));
  bench.set_model_id(ModelId());
  EXPECT_EQ((Thrice<v1::BenchRequest, v1::BenchResponse>("Admin.Bench", bench, NSIC_CALL(admin_, Bench))).workers(0).state(),
            v1::BENCH_STATE_WAITING);
  v1::ReportRequest report;
  report.set_session(session);
  report.set_bench_id(Id(1));
  report.set_error("the test has no engine");
  Thrice<v1::ReportRequest, v1::ReportResponse>("Work.Report", report, NSIC_CALL(work_, Report));
  v1::DrainRequest drain;
  drain.set_worker("w");
  drain.set_on(true);
  Thrice<v1::DrainRequest, v1::AdminResponse>("Admin.Drain", drain, NSIC_CALL(admin_, Drain));
  v1::BlockRequest block;
  block.set_worker("w");
  block.set_model_id(ModelId());
  Thrice<v1::BlockRequest, v1::AdminResponse>("Admin.Block", block, NSIC_CALL(admin_, Block));
  Thrice<v1::BlockRequest, v1::AdminResponse>("Admin.Unblock", block, NSIC_CALL(admin_, Unblock));
  Thrice<v1::StatsRequest, v1::StatsResponse>("Admin.Stats", {}, NSIC_CALL(admin_, Stats));

  // The end of it.
  EXPECT_EQ((Thrice<v1::JobId, v1::Job>("Jobs.Cancel", job_id(1), NSIC_CALL(jobs_, Cancel))).state(), v1::JOB_STATE_CANCELLED);
  v1::WatchRequest watch;
  watch.set_job_id(Id(1));
  const auto seen =
      Thrice<v1::WatchRequest, v1::JobEvent>("Jobs.Watch", watch, [&](grpc::ClientContext* c, const auto& q, v1::JobEvent* all) {
        const auto reader = jobs_->Watch(c, q);
        v1::JobEvent event;
        while (reader->Read(&event)) {
          *all->mutable_job() = event.job();
          all->mutable_outcomes()->MergeFrom(event.outcomes());
        }
        return reader->Finish();
      });
  EXPECT_EQ(seen.outcomes_size(), 5);
  Thrice<v1::JobId, v1::DeleteJobResponse>("Jobs.Delete", job_id(1), NSIC_CALL(jobs_, Delete));
#undef NSIC_CALL

  // No method was forgotten.
  std::set<std::string> all;
  for (const google::protobuf::FileDescriptor* file :
       {v1::JobId::descriptor()->file(), v1::BlobRef::descriptor()->file(), v1::LeasedTask::descriptor()->file(),
        v1::Model::descriptor()->file(), v1::StatsRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        all.insert(file->service(s)->name() + "." + file->service(s)->method(m)->name());
      }
    }
  }
  EXPECT_EQ(std::set<std::string>(called_.begin(), called_.end()), all);
}

TEST_F(ServiceTest, AnInterruptedUploadGoesOn) {
  const std::string bytes(5'500'000, 'z');
  v1::UploadResult result;
  ASSERT_TRUE(UploadPart(bytes, 0, 3'000'000, &result).ok());
  EXPECT_FALSE(result.complete());
  EXPECT_EQ(result.received(), 3'000'000);
  EXPECT_EQ(UploadPart(bytes, 0, 100, &result).error_code(), StatusCode::OUT_OF_RANGE);
  Restart();
  v1::StatBlobRequest request;
  request.set_sha256(Sha256Hex(bytes));
  v1::BlobStat stat;
  ASSERT_TRUE(blobs_->Stat(Context().get(), request, &stat).ok());
  EXPECT_FALSE(stat.stored());
  EXPECT_EQ(stat.received(), 3'000'000);
  ASSERT_TRUE(UploadPart(bytes, 3'000'000, bytes.size(), &result).ok());
  EXPECT_TRUE(result.complete());
  ASSERT_TRUE(blobs_->Stat(Context().get(), request, &stat).ok());
  EXPECT_TRUE(stat.stored());
  ASSERT_EQ(stat.chunk_sha256_size(), 2);
  std::string got;
  ASSERT_TRUE(Download(Sha256Hex(bytes), 5'000'000, 123, &got).ok());
  EXPECT_EQ(got, bytes.substr(5'000'000, 123));
  EXPECT_EQ(Download(Sha256Hex(bytes), 5'500'001, 0, &got).error_code(), StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(Download(Sha256Hex("x"), 0, 0, &got).error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(Download("../../etc/passwd", 0, 0, &got).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServiceTest, LyingUploadsAreRefused) {
  v1::UploadChunk chunk;
  chunk.mutable_header()->mutable_blob()->set_sha256(Sha256Hex("truth"));
  chunk.mutable_header()->mutable_blob()->set_size(5);
  const auto send = [&](const std::vector<v1::UploadChunk>& chunks) {
    v1::UploadResult result;
    const auto context = Context();
    const auto writer = blobs_->Upload(context.get(), &result);
    for (const v1::UploadChunk& c : chunks) writer->Write(c);
    writer->WritesDone();
    return writer->Finish().error_code();
  };
  v1::UploadChunk bare;
  bare.set_data("truth");
  EXPECT_EQ(send({}), StatusCode::INVALID_ARGUMENT) << "no header";
  EXPECT_EQ(send({bare}), StatusCode::INVALID_ARGUMENT) << "data first";
  EXPECT_EQ(send({chunk, chunk}), StatusCode::INVALID_ARGUMENT) << "two headers";
  chunk.set_data("liars");
  EXPECT_EQ(send({chunk}), StatusCode::DATA_LOSS);
  chunk.set_data("truth, and more");
  EXPECT_EQ(send({chunk}), StatusCode::INVALID_ARGUMENT) << "more than announced";
  chunk.set_data(std::string((1 << 20) + 1, 'x'));
  EXPECT_EQ(send({chunk}), StatusCode::INVALID_ARGUMENT) << "a message too large";
  chunk.set_data("truth");
  EXPECT_EQ(send({chunk}), StatusCode::OK);
}

TEST_F(ServiceTest, HundredsOfWaitingWorkersHoldNoThreads) {
  constexpr int kWorkers = 400;
  std::vector<std::string> sessions;
  for (int i = 0; i < kWorkers; ++i) sessions.push_back(Register("w" + std::to_string(i)));
  const int before = Threads();
  grpc::CompletionQueue queue;
  struct Poll {
    std::unique_ptr<grpc::ClientContext> context = Context();
    v1::LeaseResponse response;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReader<v1::LeaseResponse>> reader;
  };
  std::vector<Poll> polls(kWorkers);
  const v1::LeaseRequest request = LeaseRequest("", 30'000);
  for (int i = 0; i < kWorkers; ++i) {
    v1::LeaseRequest mine = request;
    mine.set_session(sessions[static_cast<size_t>(i)]);
    mine.set_request_id(Id(i));
    Poll& poll = polls[static_cast<size_t>(i)];
    poll.reader = work_->AsyncLease(poll.context.get(), mine, &queue);
    poll.reader->Finish(&poll.response, &poll.status, &poll);
  }
  // Calls go on beside them, and show that the polls have arrived: every worker has said its speed.
  v1::ListWorkersResponse workers;
  do {
    ASSERT_TRUE(admin_->ListWorkers(Context().get(), {}, &workers).ok());
  } while (!std::all_of(workers.workers().begin(), workers.workers().end(), [](const auto& worker) { return worker.speeds_size() == 1; }));
  const int during = Threads();
  std::printf("%d workers wait: %d threads before, %d during\n", kWorkers, before, during);
  EXPECT_LT(during - before, 40);

  // Work for some of them, then the end for the rest.
  Submit(1, 0, 20);
  int leased = 0;
  const auto next = [&] {
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok));
    return static_cast<Poll*>(tag);
  };
  for (int answered = 0; answered < 20; ++answered) {
    const Poll* const poll = next();
    ASSERT_TRUE(poll->status.ok()) << poll->status.error_message();
    leased += poll->response.tasks_size();
  }
  EXPECT_EQ(leased, 20) << "shared among so many, one each";
  coordinator_->Stop();
  for (int i = 20; i < kWorkers; ++i) EXPECT_EQ(next()->status.error_code(), StatusCode::UNAVAILABLE);
  queue.Shutdown();
}

TEST_F(ServiceTest, APollEndsWhenItsTimeIsUpAndWhenItsCallerGoes) {
  const std::string session = Register("w");
  EXPECT_EQ(Lease(session, 0).tasks_size(), 0);
  EXPECT_EQ(Lease(session, 50).tasks_size(), 0);
  {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
    v1::LeaseResponse response;
    EXPECT_EQ(work_->Lease(&context, LeaseRequest(session, 30'000), &response).error_code(), StatusCode::DEADLINE_EXCEEDED);
  }
  Submit(1, 0, 1);
  EXPECT_EQ(Lease(session).tasks_size(), 1) << "the caller that has gone took nothing along";
  v1::LeaseResponse response;
  EXPECT_EQ(work_->Lease(Context().get(), LeaseRequest("nobody", 0), &response).error_code(), StatusCode::ABORTED);
  EXPECT_EQ(work_->Lease(Context().get(), LeaseRequest(session, 0, "short"), &response).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServiceTest, WatchTellsWhatHappensAsItHappens) {
  Submit(1, 0, 3);
  const std::string session = Register("w");
  v1::WatchRequest request;
  request.set_job_id(Id(1));
  const auto context = Context();
  const auto reader = jobs_->Watch(context.get(), request);
  v1::JobEvent event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.job().state(), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(event.outcomes_size(), 0);
  const v1::LeaseResponse lease = Lease(session);
  ASSERT_EQ(lease.tasks_size(), 3);
  std::vector<int64_t> sequences;
  for (const v1::LeasedTask& task : lease.tasks()) {
    v1::ItemsResponse reply;
    ASSERT_TRUE(work_->Complete(Context().get(), CompleteRequest(session, {task}), &reply).ok());
    ASSERT_EQ(reply.items(0).code(), 0) << reply.items(0).message();
    do {
      ASSERT_TRUE(reader->Read(&event));
    } while (event.outcomes_size() == 0);
    ASSERT_EQ(event.outcomes_size(), 1);
    EXPECT_EQ(event.outcomes(0).task_id(), task.task_id());
    EXPECT_EQ(event.outcomes(0).worker(), "w");
    sequences.push_back(event.outcomes(0).sequence());
  }
  EXPECT_EQ(event.job().state(), v1::JOB_STATE_SUCCEEDED);
  while (reader->Read(&event)) EXPECT_EQ(event.outcomes_size(), 0);
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_TRUE(std::is_sorted(sequences.begin(), sequences.end()));

  request.set_after(sequences[1]);
  const auto again_context = Context();
  const auto again = jobs_->Watch(again_context.get(), request);
  ASSERT_TRUE(again->Read(&event));
  ASSERT_EQ(event.outcomes_size(), 1);
  EXPECT_EQ(event.outcomes(0).sequence(), sequences[2]);
  EXPECT_FALSE(again->Read(&event));
  EXPECT_TRUE(again->Finish().ok());

  request.set_job_id(Id(2));
  const auto unknown_context = Context();
  const auto unknown = jobs_->Watch(unknown_context.get(), request);
  EXPECT_FALSE(unknown->Read(&event));
  EXPECT_EQ(unknown->Finish().error_code(), StatusCode::NOT_FOUND);
}

TEST_F(ServiceTest, StoppingEndsWatchesQuickly) {
  Submit(1, 0, 1);
  v1::WatchRequest request;
  request.set_job_id(Id(1));
  const auto context = Context();
  const auto reader = jobs_->Watch(context.get(), request);
  v1::JobEvent event;
  ASSERT_TRUE(reader->Read(&event));
  std::thread stopper([&] { coordinator_->Stop(); });
  while (reader->Read(&event)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::UNAVAILABLE);
  stopper.join();
}

TEST_F(ServiceTest, EveryMethodWantsTheToken) {
  coordinator_.reset();
  options_.token = "a token of the farm";
  Start();
  EXPECT_FALSE(ModelId().empty()) << "with the token";
  for (const std::string& token : {std::string(), std::string("a token of the farn"), std::string("a token of the farm2")}) {
    Connect(token);
    v1::Job job;
    EXPECT_EQ(jobs_->Get(Context().get(), {}, &job).error_code(), StatusCode::UNAUTHENTICATED) << token;
    v1::StatsResponse stats;
    EXPECT_EQ(admin_->Stats(Context().get(), {}, &stats).error_code(), StatusCode::UNAUTHENTICATED) << token;
    v1::ListModelsResponse models;
    EXPECT_EQ(models_->List(Context().get(), {}, &models).error_code(), StatusCode::UNAUTHENTICATED) << token;
    v1::LeaseResponse lease;
    EXPECT_EQ(work_->Lease(Context().get(), {}, &lease).error_code(), StatusCode::UNAUTHENTICATED) << token;
    v1::UploadResult upload;
    EXPECT_EQ(Upload("x", &upload).error_code(), StatusCode::UNAUTHENTICATED) << token;
    std::string bytes;
    EXPECT_EQ(Download(Sha256Hex("x"), 0, 0, &bytes).error_code(), StatusCode::UNAUTHENTICATED) << token;
    const auto context = Context();
    const auto watch = jobs_->Watch(context.get(), {});
    v1::JobEvent event;
    EXPECT_FALSE(watch->Read(&event));
    EXPECT_EQ(watch->Finish().error_code(), StatusCode::UNAUTHENTICATED) << token;
  }
}

TEST_F(ServiceTest, StartsThatAreRefused) {
  const struct {
    const char* what;
    std::function<void(Coordinator::Options*)> change;
    nsic::StatusCode code;
    const char* message;
  } rows[] = {
      {"open to others", [](auto* o) { o->listen = "0.0.0.0:0"; }, nsic::StatusCode::kFailedPrecondition, "--token-file"},
      {"open to others by name", [](auto* o) { o->listen = "example.org:0"; }, nsic::StatusCode::kFailedPrecondition, "--insecure"},
      {"state in use", [this](auto* o) { o->state_folder = options_.state_folder; }, nsic::StatusCode::kFailedPrecondition, "--state"},
      {"port taken", [this](auto* o) { o->listen = coordinator_->address(); }, nsic::StatusCode::kUnavailable, "port"},
      {"no models", [this](auto* o) { o->models_folder = folder_ + "/nothing"; }, nsic::StatusCode::kNotFound, "nothing"},
  };
  int n = 0;
  for (const auto& row : rows) {
    Coordinator::Options options = options_;
    options.state_folder = folder_ + "/state" + std::to_string(++n);
    row.change(&options);
    const Status status = Coordinator::Start(options).status();
    EXPECT_EQ(status.code(), row.code) << row.what << ": " << status;
    EXPECT_NE(status.message().find(row.message), std::string::npos) << row.what << ": " << status;
  }
  Coordinator::Options open = options_;
  open.state_folder = folder_ + "/open";
  open.listen = "0.0.0.0:0";
  open.insecure = true;
  EXPECT_TRUE(Coordinator::Start(open).ok());
  open.insecure = false;
  open.token = "a token of the farm";
  EXPECT_TRUE(Coordinator::Start(open).ok());
}

TEST_F(ServiceTest, ADamagedShippedPackIsNamed) {
  coordinator_.reset();
  std::ofstream(folder_ + "/models/copy/weights.safetensors", std::ios::app) << "x";
  const Status status = Coordinator::Start(options_).status();
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("models/copy"), std::string::npos) << status;
  Coordinator::Options none = options_;
  none.models_folder.clear();
  coordinator_ = *Coordinator::Start(none);
}

TEST_F(ServiceTest, AShippedPackIsReplacedByANewerOneAndAUsersIsNot) {
  const std::string first = ModelId();
  ModelPack pack;
  pack.card.name = "copy";
  pack.card.architecture = "identity";
  pack.card.tiling.tile = 512;
  pack.card.licence = "CC0-1.0";
  Submit(1, 0, 1);
  ASSERT_TRUE(WriteModelPack(folder_ + "/models/copy", pack).ok());
  Restart();
  const std::string second = ModelId();
  EXPECT_NE(second, first);
  // The job that runs still finds its model.
  const v1::LeaseResponse lease = Lease(Register("w"));
  ASSERT_EQ(lease.tasks_size(), 1);
  EXPECT_EQ(lease.tasks(0).options().model_id(), first);
  std::string bundle;
  EXPECT_TRUE(Download(lease.tasks(0).model_blob(), 0, 0, &bundle).ok());

  // A user's pack under the shipped name.
  v1::RemoveModelRequest remove;
  remove.set_name_or_id("copy");
  v1::RemoveModelResponse removed;
  ASSERT_TRUE(models_->Remove(Context().get(), remove, &removed).ok());
  pack.card.tiling.tile = 1024;
  ASSERT_TRUE(WriteModelPack(folder_ + "/mine", pack).ok());
  v1::PutModelRequest put;
  put.set_bundle_sha256(MustUpload(BundleModelPack(*ReadModelPack(folder_ + "/mine"))));
  v1::Model mine;
  ASSERT_TRUE(models_->Put(Context().get(), put, &mine).ok());
  Restart();
  EXPECT_EQ(ModelId(), mine.id()) << "the user's stays";
  remove.set_name_or_id(first);
  EXPECT_EQ(models_->Remove(Context().get(), remove, &removed).error_code(), StatusCode::FAILED_PRECONDITION) << "a job needs it";
}

TEST_F(ServiceTest, MetricsAreCounted) {
  coordinator_.reset();
  options_.metrics = "127.0.0.1:0";
  Start();
  ASSERT_GT(coordinator_->metrics_port(), 0);
  Submit(1, 0, 2);
  const std::string session = Register("w");
  const v1::LeaseResponse lease = Lease(session);
  ASSERT_EQ(lease.tasks_size(), 2);
  v1::ItemsResponse reply;
  ASSERT_TRUE(work_->Complete(Context().get(), CompleteRequest(session, {lease.tasks(0)}), &reply).ok());
  v1::FailRequest fail;
  fail.set_session(session);
  fail.add_items()->set_token(lease.tasks(1).token());
  fail.mutable_items(0)->set_failure_class(v1::FAILURE_CLASS_BAD_INPUT);
  ASSERT_TRUE(work_->Fail(Context().get(), fail, &reply).ok());
  const std::string command = "curl -s http://127.0.0.1:" + std::to_string(coordinator_->metrics_port()) + "/metrics";
  FILE* const pipe = ::popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string text;
  char buffer[4096];
  for (size_t got = 0; (got = ::fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, got);
  ::pclose(pipe);
  for (const std::string line :
       {"nsic_tasks{state=\"done\"} 1", "nsic_tasks{state=\"failed\"} 1", "nsic_jobs{state=\"failed\"} 1", "nsic_leases_active 0",
        "nsic_workers_connected 1", "nsic_blob_quota_bytes 0", "nsic_rpc_requests_total{code=\"OK\",method=\"Jobs.Submit\"} 1",
        "nsic_rpc_latency_seconds_count{method=\"Work.Complete\"} 1", "nsic_task_duration_seconds_sum{model=\"copy\"} 0.5",
        "nsic_megapixels_total{model=\"copy\",worker=\"w\"} 0.01",
        "nsic_task_failures_total{class=\"bad_input\",model=\"copy\",worker=\"w\"} 1", "nsic_lease_expirations_total 0"}) {
    EXPECT_NE(text.find(line + "\n"), std::string::npos) << line << " is not in\n" << text;
  }
  EXPECT_NE(text.find("nsic_blob_bytes "), std::string::npos);
}

}  // namespace
}  // namespace nsic
