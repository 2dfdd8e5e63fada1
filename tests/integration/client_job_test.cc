// The client's way with a job, against a real coordinator in this process and a worker that makes outputs of its own.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client/farm_connection.h"
#include "client/job_record.h"
#include "client/run_job.h"
#include "client/submit.h"
#include "coordinator/coordinator.h"
#include "core/base/digest.h"
#include "core/base/files.h"
#include "models/io/model_pack.h"
#include "nsic/v1/work.grpc.pb.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

std::string OutputOf(const std::string& source_sha256) { return "restored " + source_sha256; }

// Leases tasks, and answers each with OutputOf its source, or with a failure.
class Worker {
 public:
  explicit Worker(const std::string& address) : channel_(OpenChannel(address, "")), work_(v1::Work::NewStub(channel_)), blobs_(channel_) {
    thread_ = std::thread([this] { Run(); });
  }
  ~Worker() {
    stop_.Cancel();
    thread_.join();
  }
  void FailSource(const std::string& sha256) { failing_ = sha256; }  // before the job is submitted
  int done() const { return done_; }

 private:
  void Run() {
    const RetryPolicy policy{0};
    v1::RegisterRequest registration;
    registration.set_name("desk");
    registration.set_protocol(kProtocolVersion);
    registration.set_version("0.1.0");
    registration.set_device("cpu");
    registration.set_cores(1);
    registration.set_memory_bytes(1 << 30);
    v1::RegisterResponse session;
    while (!stop_.cancelled()) {
      const Status registered = CallWithRetry(
          channel_.get(), policy, stop_, [&](grpc::ClientContext* context) { return work_->Register(context, registration, &session); });
      if (!registered.ok()) continue;
      Status status;
      while (status.ok()) {
        v1::LeaseRequest request;
        request.set_session(session.session());
        request.set_request_id(RandomHex(16));
        request.set_max_tasks(2);
        request.set_wait_ms(200);
        v1::LeaseResponse leases;
        status = CallWithRetry(channel_.get(), policy, stop_,
                               [&](grpc::ClientContext* context) { return work_->Lease(context, request, &leases); });
        for (const v1::LeasedTask& task : leases.tasks()) {
          if (status.ok()) status = Answer(session.session(), task);
        }
      }
    }
  }

  Status Answer(const std::string& session, const v1::LeasedTask& task) {
    v1::ItemsResponse items;
    if (task.source().content().sha256() == failing_) {
      v1::FailRequest request;
      request.set_session(session);
      v1::FailedItem* item = request.add_items();
      item->set_token(task.token());
      item->set_failure_class(v1::FAILURE_CLASS_BAD_INPUT);
      item->set_message("the picture is truncated");
      return CallWithRetry(channel_.get(), RetryPolicy{0}, stop_,
                           [&](grpc::ClientContext* context) { return work_->Fail(context, request, &items); });
    }
    const std::string output = OutputOf(task.source().content().sha256());
    NSIC_RETURN_IF_ERROR(blobs_.UploadBytes(output, Sha256Hex(output), stop_));
    v1::CompleteRequest request;
    request.set_session(session);
    v1::CompletedItem* item = request.add_items();
    item->set_token(task.token());
    v1::TaskResult* result = item->mutable_result();
    result->mutable_output()->set_sha256(Sha256Hex(output));
    result->mutable_output()->set_size(static_cast<int64_t>(output.size()));
    result->set_width(task.source().picture().width());
    result->set_height(task.source().picture().height());
    result->set_model_id(task.options().model_id());
    result->set_precision("fp32");
    result->set_device("cpu");
    result->set_seconds(0.5);
    ++done_;
    return CallWithRetry(channel_.get(), RetryPolicy{0}, stop_,
                         [&](grpc::ClientContext* context) { return work_->Complete(context, request, &items); });
  }

  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Work::Stub> work_;
  BlobTransfer blobs_;
  std::string failing_;
  std::atomic<int> done_{0};
  CancelToken stop_;
  std::thread thread_;
};

class ClientJob : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "nsic-job-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    ModelPack pack;
    pack.card.name = "identity";
    pack.card.architecture = "identity";
    pack.card.tiling.tile = 256;
    pack.card.licence = "Apache-2.0";
    ASSERT_TRUE(WriteModelPack(Path("models/identity"), pack).ok());
    options_.listen = "127.0.0.1:0";
    options_.state_folder = Path("state");
    options_.models_folder = Path("models");
    options_.farm.version = "0.1.0";
    options_.clock = &clock_;
  }
  void TearDown() override {
    worker_.reset();
    farm_.reset();
    coordinator_.reset();
    fs::remove_all(folder_);
  }

  void StartCoordinator() {
    Result<std::unique_ptr<Coordinator>> started = Coordinator::Start(options_);
    ASSERT_TRUE(started.ok()) << started.status();
    coordinator_ = *std::move(started);
    options_.listen = coordinator_->address();  // the same port again after a restart
    if (farm_ == nullptr) farm_ = std::make_unique<FarmConnection>(coordinator_->address(), "", coordinator_->address());
  }
  void StartWorker() { worker_ = std::make_unique<Worker>(coordinator_->address()); }

  std::string Path(const std::string& relative) const { return folder_ + "/" + relative; }

  // A job of files "0.jpg"... with these contents, submitted and recorded.
  RecordedJob Submit(const std::vector<std::string>& contents) {
    RecordedJob job;
    job.job_id = RandomHex(16);
    job.coordinator = coordinator_->address();
    job.title = "test";
    job.model = "identity";
    const Result<v1::Model> model = farm_->GetModel("identity", cancel_);
    EXPECT_TRUE(model.ok()) << model.status();
    v1::SubmitRequest request;
    request.set_job_id(job.job_id);
    v1::RestoreOptions* restore = request.mutable_spec()->mutable_options();
    *restore = *ToRestoreOptions(SubmitOptions());
    restore->set_model_id(model->id());
    restore->set_model_name("identity");
    job.parameters = ParametersHash(*restore);
    v1::JobManifest manifest;
    for (size_t i = 0; i < contents.size(); ++i) {
      PlannedFile file;
      file.path = std::to_string(i) + ".jpg";
      file.input = Path("in/" + file.path);
      file.output = Path("out/sub/" + file.path);
      file.sha256 = Sha256Hex(contents[i]);
      file.bytes = static_cast<int64_t>(contents[i].size());
      file.size = {30, 20};
      EXPECT_TRUE(MakeFolders(Path("in")).ok());
      EXPECT_TRUE(WriteFileAtomically(file.input, contents[i]).ok());
      v1::SourceFile* source = manifest.add_files();
      source->set_path(file.path);
      source->mutable_content()->set_sha256(file.sha256);
      source->mutable_content()->set_size(file.bytes);
      source->mutable_picture()->set_width(30);
      source->mutable_picture()->set_height(20);
      source->mutable_picture()->set_format("jpeg");
      source->mutable_picture()->set_depth(8);
      job.files.push_back(std::move(file));
    }
    const std::string bytes = manifest.SerializeAsString();
    request.mutable_spec()->set_name("test");
    request.mutable_spec()->mutable_manifest()->set_sha256(Sha256Hex(bytes));
    request.mutable_spec()->mutable_manifest()->set_size(static_cast<int64_t>(bytes.size()));
    EXPECT_TRUE(farm_->blobs().UploadBytes(bytes, Sha256Hex(bytes), cancel_).ok());
    const Result<v1::Job> submitted = farm_->Submit(request, cancel_);
    EXPECT_TRUE(submitted.ok()) << submitted.status();
    run_.restore = *restore;

    Result<std::unique_ptr<JobRecord>> record = JobRecord::Open(Path("out/nsic-report"), "k");
    EXPECT_TRUE(record.ok()) << record.status();
    record_ = *std::move(record);
    EXPECT_TRUE(record_->BeginJob(job).ok());
    return job;
  }

  Result<JobEnd> Run(const RecordedJob& job) {
    RunContext context;
    context.farm = farm_.get();
    context.record = record_.get();
    context.progress = &progress_;
    context.clock = &clock_;
    context.room_patience_us = 1'500'000;
    return RunJob(context, job, run_, cancel_);
  }

  // Every file in the folder of outputs, relative.
  std::vector<std::string> Outputs() {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::recursive_directory_iterator entry(Path("out"), error), end; !error && entry != end; entry.increment(error)) {
      if (entry->is_regular_file()) names.push_back(fs::relative(entry->path(), Path("out")).string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  std::string folder_;
  SystemClock clock_;
  CancelToken cancel_;
  Coordinator::Options options_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<FarmConnection> farm_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> notices_{std::tmpfile(), &std::fclose};
  Progress progress_{notices_.get(), false, &clock_};
  std::unique_ptr<JobRecord> record_;
  JobOptions run_;
};

TEST_F(ClientJob, SendsWatchesAndFetches) {
  StartCoordinator();
  StartWorker();
  const RecordedJob job = Submit({"one", "two", "two", "four"});
  ASSERT_FALSE(HasFailure());
  const Result<JobEnd> end = Run(job);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->state, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(end->unfetched, 0);
  ASSERT_EQ(end->files.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    const ReportFile& file = end->files[i];
    EXPECT_EQ(file.state, FileState::kDone) << i << ": " << file.error;
    EXPECT_EQ(file.output, job.files[i].output) << i;
    EXPECT_EQ(*ReadFile(file.output), OutputOf(job.files[i].sha256)) << i;
    EXPECT_EQ(file.worker, "desk") << i;
    EXPECT_EQ(file.output_size, (Size{30, 20})) << i;
  }
  EXPECT_THAT(Outputs(), testing::ElementsAre("nsic-report/record-k.jsonl", "sub/0.jpg", "sub/1.jpg", "sub/2.jpg", "sub/3.jpg"))
      << "nothing temporary is left";
  const auto outcomes = farm_->ListOutputs(job.job_id, 0, cancel_);
  ASSERT_TRUE(outcomes.ok());
  for (const v1::TaskOutcome& outcome : *outcomes) EXPECT_TRUE(outcome.fetched()) << outcome.task_id();
}

TEST_F(ClientJob, AgainLeavesGoodOutputsAloneAndMakesLostOnesAgain) {
  StartCoordinator();
  StartWorker();
  const RecordedJob job = Submit({"one", "two", "three"});
  ASSERT_FALSE(HasFailure());
  ASSERT_TRUE(Run(job).ok());
  struct stat before {};
  ASSERT_EQ(::stat(job.files[0].output.c_str(), &before), 0);
  fs::remove(job.files[1].output);
  ASSERT_TRUE(WriteFileAtomically(job.files[2].output, "damaged").ok());
  run_.wait = false;
  const Result<JobEnd> end = Run(job);
  ASSERT_TRUE(end.ok()) << end.status();
  struct stat after {};
  ASSERT_EQ(::stat(job.files[0].output.c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(*ReadFile(job.files[i].output), OutputOf(job.files[i].sha256)) << i;
  EXPECT_EQ(worker_->done(), 3) << "nothing was computed again";
}

TEST_F(ClientJob, ReportsWhatAWorkerSaysOfABadFile) {
  StartCoordinator();
  StartWorker();
  worker_->FailSource(Sha256Hex("bad"));
  const Result<JobEnd> end = Run(Submit({"good", "bad"}));
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->state, v1::JOB_STATE_FAILED);
  EXPECT_EQ(end->files[0].state, FileState::kDone);
  EXPECT_EQ(end->files[1].state, FileState::kFailed);
  EXPECT_THAT(end->files[1].error, HasSubstr("truncated"));
  EXPECT_FALSE(fs::exists(Path("out/sub/1.jpg")));
}

TEST_F(ClientJob, ASourceThatChangedFailsAlone) {
  StartCoordinator();
  StartWorker();
  const RecordedJob job = Submit({"good", "old", "gone"});
  ASSERT_FALSE(HasFailure());
  ASSERT_TRUE(WriteFileAtomically(job.files[1].input, "new").ok());
  fs::remove(job.files[2].input);
  const Result<JobEnd> end = Run(job);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->state, v1::JOB_STATE_CANCELLED) << "it could not end by itself";
  EXPECT_EQ(end->files[0].state, FileState::kDone);
  EXPECT_EQ(end->files[1].state, FileState::kFailed);
  EXPECT_THAT(end->files[1].error, AllOf(HasSubstr("1.jpg"), HasSubstr("changed")));
  EXPECT_EQ(end->files[2].state, FileState::kFailed);
  EXPECT_THAT(end->files[2].error, AllOf(HasSubstr("2.jpg"), HasSubstr("No such file")));
}

TEST_F(ClientJob, ASourceThatNeverFindsRoomFailsAlone) {
  options_.quota = 1 << 20;
  StartCoordinator();
  StartWorker();
  const Result<JobEnd> end = Run(Submit({"good", std::string(3 << 20, 'x')}));
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->files[0].state, FileState::kDone) << end->files[0].error;
  EXPECT_EQ(end->files[1].state, FileState::kFailed);
  EXPECT_THAT(end->files[1].error, AnyOf(HasSubstr("room"), HasSubstr("quota")));
}

TEST_F(ClientJob, FlowsThroughAStoreThatIsSmallerThanItsSources) {
  options_.quota = 2 << 20;
  StartCoordinator();
  StartWorker();
  std::vector<std::string> contents;
  for (char c = 'a'; c < 'a' + 20; ++c) contents.emplace_back(400 << 10, c);
  const Result<JobEnd> end = Run(Submit(contents));
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->state, v1::JOB_STATE_SUCCEEDED);
  for (const ReportFile& file : end->files) EXPECT_EQ(file.state, FileState::kDone) << file.input << ": " << file.error;
}

TEST_F(ClientJob, GoesOnWhenTheCoordinatorComesBack) {
  StartCoordinator();
  const RecordedJob job = Submit({"one", "two"});
  ASSERT_FALSE(HasFailure());
  Result<JobEnd> end(InternalError("not run"));
  std::thread runner([&] { end = Run(job); });
  // It is waiting once both sources are there.
  while (!farm_->FindMissing({job.files[0].sha256, job.files[1].sha256}, cancel_)->empty()) std::this_thread::yield();
  coordinator_.reset();
  StartCoordinator();
  StartWorker();
  runner.join();
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->state, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(Outputs().size(), 3u);
}

TEST_F(ClientJob, KeepsAnOutputThatCannotBeStoredForLater) {
  StartCoordinator();
  StartWorker();
  const RecordedJob job = Submit({"one"});
  ASSERT_FALSE(HasFailure());
  ASSERT_TRUE(WriteFileAtomically(Path("out/sub"), "in the way").ok());
  Result<JobEnd> end = Run(job);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->files[0].state, FileState::kFailed);
  EXPECT_EQ(end->unfetched, 1);
  EXPECT_FALSE(farm_->ListOutputs(job.job_id, 0, cancel_)->front().fetched());

  fs::remove(Path("out/sub"));
  run_.wait = false;
  end = Run(job);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->files[0].state, FileState::kDone);
  EXPECT_EQ(end->unfetched, 0);
}

TEST_F(ClientJob, TellsWhenTheCoordinatorDoesNotKnowTheJob) {
  StartCoordinator();
  RecordedJob job = Submit({"one"});
  ASSERT_FALSE(HasFailure());
  job.job_id = std::string(32, '0');
  EXPECT_EQ(Run(job).status().code(), StatusCode::kNotFound);
}

TEST_F(ClientJob, StopsWhenCancelledAndWhenTheFarmIsUnwell) {
  StartCoordinator();
  const RecordedJob job = Submit({"one"});
  ASSERT_FALSE(HasFailure());
  RunContext context;
  context.farm = farm_.get();
  context.record = record_.get();
  context.progress = &progress_;
  context.clock = &clock_;
  context.health = [] { return UnavailableError("the local worker ended"); };
  const Status unwell = RunJob(context, job, run_, cancel_).status();
  EXPECT_THAT(unwell.message(), HasSubstr("the local worker ended"));

  Status stopped;
  std::thread runner([&] { stopped = Run(job).status(); });
  while (!farm_->FindMissing({job.files[0].sha256}, CancelToken())->empty()) std::this_thread::yield();
  cancel_.Cancel();
  runner.join();
  EXPECT_EQ(stopped.code(), StatusCode::kCancelled);
}

}  // namespace
}  // namespace nsic
