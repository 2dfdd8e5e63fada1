// The real program, killed with SIGKILL again and again while a client and workers talk to it.
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/base/cancel.h"
#include "core/base/digest.h"
#include "core/base/files.h"
#include "core/rpc/blob_transfer.h"
#include "core/rpc/channel.h"
#include "models/io/model_pack.h"
#include "nsic/v1/admin.grpc.pb.h"
#include "nsic/v1/jobs.grpc.pb.h"
#include "nsic/v1/models.grpc.pb.h"
#include "nsic/v1/work.grpc.pb.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;

// Gives up long after anything that works would have ended.
const RetryPolicy kPatient = [] {
  RetryPolicy policy;
  policy.max_attempts = 1000;
  policy.first_delay = std::chrono::milliseconds(20);
  policy.max_delay = std::chrono::milliseconds(200);
  return policy;
}();

class ProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "process_XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    ModelPack pack;
    pack.card.name = "copy";
    pack.card.architecture = "identity";
    pack.card.tiling.tile = 256;
    pack.card.licence = "CC0-1.0";
    ASSERT_TRUE(WriteModelPack(folder_ + "/models/copy", pack).ok());
  }
  void TearDown() override {
    if (child_ > 0) End(SIGKILL);
    fs::remove_all(folder_);
  }

  void Launch(const std::string& listen) {
    const std::string address_file = folder_ + "/address";
    fs::remove(address_file);
    child_ = ::fork();
    ASSERT_GE(child_, 0);
    if (child_ == 0) {
      const int log = ::open((folder_ + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
      ::dup2(log, 2);
      ::execl(NSIC_BIN "/nsic-coordinator", "nsic-coordinator", "serve", "--state", (folder_ + "/state").c_str(), "--listen",
              listen.c_str(), "--models", (folder_ + "/models").c_str(), "--address-file", address_file.c_str(), nullptr);
      ::_exit(127);
    }
    while (!fs::exists(address_file)) {
      int status = 0;
      ASSERT_EQ(::waitpid(child_, &status, WNOHANG), 0) << "it did not start:\n" << *ReadFile(folder_ + "/log");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    address_ = *ReadFile(address_file);
  }
  int End(int signal) {
    ::kill(child_, signal);
    int status = 0;
    ::waitpid(child_, &status, 0);
    child_ = -1;
    return status;
  }

  std::string folder_;
  pid_t child_ = -1;
  std::string address_;
};

std::string OutputOf(const v1::LeasedTask& task) { return "output of " + task.source().path(); }

// A worker that "computes" at once. Notes what the coordinator has acknowledged.
class FakeWorker {
 public:
  FakeWorker(std::string name, const std::string& address)
      : name_(std::move(name)), channel_(OpenChannel(address, "")), transfer_(channel_, kPatient), thread_([this] { Run(); }) {}
  ~FakeWorker() {
    stop_.Cancel();
    thread_.join();
  }
  int acknowledged() const { return acknowledged_; }
  std::map<int64_t, std::string> results() {
    std::lock_guard<std::mutex> lock(mutex_);
    return results_;
  }
  Status failed() {
    std::lock_guard<std::mutex> lock(mutex_);
    return failed_;
  }

 private:
  void Run() {
    const Status status = Work();
    std::lock_guard<std::mutex> lock(mutex_);
    if (!stop_.cancelled()) failed_ = status;
  }

  Status Work() {
    const auto stub = v1::Work::NewStub(channel_);
    v1::RegisterRequest hello;
    hello.set_name(name_);
    hello.set_protocol(kProtocolVersion);
    hello.set_version("0.1.0");
    v1::RegisterResponse session;
    NSIC_RETURN_IF_ERROR(
        CallWithRetry(channel_.get(), kPatient, stop_, [&](grpc::ClientContext* c) { return stub->Register(c, hello, &session); }));
    while (!stop_.cancelled()) {
      v1::LeaseRequest ask;
      ask.set_session(session.session());
      ask.set_request_id(RandomHex(16));
      ask.set_max_tasks(4);
      ask.set_wait_ms(500);
      v1::LeaseResponse lease;
      // The same request id in every retry: a lost reply loses no task.
      NSIC_RETURN_IF_ERROR(
          CallWithRetry(channel_.get(), kPatient, stop_, [&](grpc::ClientContext* c) { return stub->Lease(c, ask, &lease); }));
      for (const v1::LeasedTask& task : lease.tasks()) {
        NSIC_ASSIGN_OR_RETURN(const std::string source,
                              transfer_.DownloadBytes(task.source().content().sha256(), task.source().content().size(), stop_));
        const std::string output = OutputOf(task);
        const std::string sha256 = Sha256Hex(output);
        NSIC_RETURN_IF_ERROR(transfer_.UploadBytes(output, sha256, stop_));
        v1::CompleteRequest done;
        done.set_session(session.session());
        v1::CompletedItem* const item = done.add_items();
        item->set_token(task.token());
        item->mutable_result()->mutable_output()->set_sha256(sha256);
        item->mutable_result()->mutable_output()->set_size(static_cast<int64_t>(output.size()));
        item->mutable_result()->set_width(1);
        item->mutable_result()->set_height(1);
        item->mutable_result()->set_model_id(task.options().model_id());
        v1::ItemsResponse reply;
        NSIC_RETURN_IF_ERROR(
            CallWithRetry(channel_.get(), kPatient, stop_, [&](grpc::ClientContext* c) { return stub->Complete(c, done, &reply); }));
        if (reply.items(0).code() != 0) return InternalError("Complete says " + reply.items(0).message());
        {
          std::lock_guard<std::mutex> lock(mutex_);
          results_[task.task_id()] = reply.items(0).stored_sha256();
        }
        ++acknowledged_;
      }
    }
    return OkStatus();
  }

  const std::string name_;
  const std::shared_ptr<grpc::Channel> channel_;
  BlobTransfer transfer_;
  CancelToken stop_;
  std::atomic<int> acknowledged_{0};
  std::mutex mutex_;
  std::map<int64_t, std::string> results_;  // guarded by mutex_
  Status failed_;                           // guarded by mutex_
  std::thread thread_;
};

TEST_F(ProcessTest, KilledAgainAndAgainItLosesNothingThatItAcknowledged) {
  constexpr int kFiles = 120, kKills = 6;
  Launch("127.0.0.1:0");
  const std::string address = address_;
  const auto channel = OpenChannel(address, "");
  const auto jobs = v1::Jobs::NewStub(channel);
  const auto models = v1::Models::NewStub(channel);
  BlobTransfer transfer(channel, kPatient);
  CancelToken cancel;

  v1::GetModelRequest get_model;
  get_model.set_name_or_id("copy");
  v1::Model model;
  ASSERT_TRUE(
      CallWithRetry(channel.get(), kPatient, cancel, [&](grpc::ClientContext* c) { return models->Get(c, get_model, &model); }).ok());
  v1::JobManifest manifest;
  std::vector<std::string> sources;
  for (int i = 0; i < kFiles; ++i) {
    sources.push_back("source " + std::to_string(i));
    v1::SourceFile* const file = manifest.add_files();
    file->set_path(std::to_string(i) + ".png");
    file->mutable_content()->set_sha256(Sha256Hex(sources.back()));
    file->mutable_content()->set_size(static_cast<int64_t>(sources.back().size()));
    file->mutable_picture()->set_width(1000);
    file->mutable_picture()->set_height(1000);
    file->mutable_picture()->set_format("png");
    file->mutable_picture()->set_depth(8);
  }
  const std::string bytes = manifest.SerializeAsString();
  v1::SubmitRequest submit;
  submit.set_job_id(std::string(32, '1'));
  submit.mutable_spec()->mutable_manifest()->set_sha256(Sha256Hex(bytes));
  submit.mutable_spec()->mutable_manifest()->set_size(static_cast<int64_t>(bytes.size()));
  v1::RestoreOptions* const options = submit.mutable_spec()->mutable_options();
  options->set_model_id(model.id());
  options->set_strength(1);
  options->set_format("png");
  options->set_jpeg_quality(95);
  ASSERT_TRUE(transfer.UploadBytes(bytes, Sha256Hex(bytes), cancel).ok());
  v1::Job job;
  ASSERT_TRUE(CallWithRetry(channel.get(), kPatient, cancel, [&](grpc::ClientContext* c) { return jobs->Submit(c, submit, &job); }).ok());

  std::vector<std::unique_ptr<FakeWorker>> workers;
  for (int i = 0; i < 3; ++i) workers.push_back(std::make_unique<FakeWorker>("w" + std::to_string(i), address));
  Status uploaded;
  std::thread uploader([&] {
    for (const std::string& source : sources) {
      uploaded = transfer.UploadBytes(source, Sha256Hex(source), cancel);
      if (!uploaded.ok()) return;
    }
  });

  const auto acknowledged = [&] {
    int sum = 0;
    for (const auto& worker : workers) sum += worker->acknowledged();
    return sum;
  };
  const auto broken = [&] {
    for (const auto& worker : workers) {
      if (!worker->failed().ok()) return true;
    }
    return false;
  };
  for (int kill = 1; kill <= kKills; ++kill) {
    while (acknowledged() < kill * kFiles / (kKills + 1) && !broken()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::map<int64_t, std::string> before;
    for (const auto& worker : workers) before.merge(worker->results());
    End(SIGKILL);
    Launch(address);  // it audits its state when it starts
    ASSERT_EQ(address_, address);
    // What was acknowledged before is there after.
    v1::ListOutputsRequest list;
    list.set_job_id(submit.job_id());
    v1::ListOutputsResponse outputs;
    ASSERT_TRUE(
        CallWithRetry(channel.get(), kPatient, cancel, [&](grpc::ClientContext* c) { return jobs->ListOutputs(c, list, &outputs); }).ok());
    std::map<int64_t, std::string> after;
    for (const v1::TaskOutcome& outcome : outputs.outcomes()) after[outcome.task_id()] = outcome.result().output().sha256();
    for (const auto& [task, sha256] : before) EXPECT_EQ(after[task], sha256) << "task " << task << " after kill " << kill;
  }
  uploader.join();
  EXPECT_TRUE(uploaded.ok()) << uploaded;
  while (acknowledged() < kFiles && !broken()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  for (const auto& worker : workers) EXPECT_TRUE(worker->failed().ok()) << worker->failed();

  v1::JobId id;
  id.set_job_id(submit.job_id());
  ASSERT_TRUE(CallWithRetry(channel.get(), kPatient, cancel, [&](grpc::ClientContext* c) { return jobs->Get(c, id, &job); }).ok());
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED) << job.DebugString();
  EXPECT_EQ(job.tasks_done(), kFiles);
  for (const std::string& source : sources) {
    const std::string output = "output of " + source.substr(7) + ".png";
    const Result<std::string> stored = transfer.DownloadBytes(Sha256Hex(output), static_cast<int64_t>(output.size()), cancel);
    ASSERT_TRUE(stored.ok()) << output << ": " << stored.status();
    EXPECT_EQ(*stored, output);
  }
  workers.clear();
  EXPECT_EQ(End(SIGTERM), 0) << "a clean stop ends with 0";
}

TEST_F(ProcessTest, SigtermAnswersWaitingPollsAndEnds) {
  Launch("127.0.0.1:0");
  const auto channel = OpenChannel(address_, "");
  const auto stub = v1::Work::NewStub(channel);
  v1::RegisterRequest hello;
  hello.set_name("w");
  hello.set_protocol(kProtocolVersion);
  hello.set_version("0.1.0");
  v1::RegisterResponse session;
  {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    ASSERT_TRUE(stub->Register(&context, hello, &session).ok());
  }
  v1::LeaseRequest ask;
  ask.set_session(session.session());
  ask.set_request_id(RandomHex(16));
  ask.set_max_tasks(1);
  ask.set_wait_ms(30'000);
  ask.add_speeds()->set_model_id(std::string(64, 'a'));
  ask.mutable_speeds(0)->set_megapixels_per_second(1);
  v1::LeaseResponse lease;
  grpc::Status status;
  std::thread poll([&] {
    grpc::ClientContext context;
    status = stub->Lease(&context, ask, &lease);
  });
  // The poll has arrived when the speed that it says is known.
  const auto admin = v1::Admin::NewStub(channel);
  v1::ListWorkersResponse workers;
  do {
    grpc::ClientContext context;
    ASSERT_TRUE(admin->ListWorkers(&context, {}, &workers).ok());
  } while (workers.workers(0).speeds().empty());
  EXPECT_EQ(End(SIGTERM), 0);
  poll.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
}

TEST_F(ProcessTest, BadFlagsAreUsageErrors) {
  const struct {
    const char* flags;
    int code;
  } rows[] = {
      {"", 2},
      {"serve", 2},
      {"serve --state S --quota lots", 2},
      {"serve --state S --token-file /nonexistent", 2},
      {"serve --state S --listen 0.0.0.0:0", 1},
      {"serve --state S --listen 0.0.0.0:0 --insecure --token-file /dev/null", 2},
      {"serve --state /proc/nothing", 1},
  };
  for (const auto& row : rows) {
    const std::string command = "cd " + folder_ + " && " NSIC_BIN "/nsic-coordinator " + row.flags + " 2>> log";
    EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), row.code) << row.flags;
  }
}

}  // namespace
}  // namespace nsic
