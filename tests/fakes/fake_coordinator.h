// A coordinator without a database: hands out the tasks that a test gives it and writes down what becomes of them. Real gRPC.
#ifndef NSIC_TESTS_FAKES_FAKE_COORDINATOR_H_
#define NSIC_TESTS_FAKES_FAKE_COORDINATOR_H_

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/base/digest.h"
#include "core/rpc/channel.h"
#include "nsic/v1/work.grpc.pb.h"
#include "tests/fakes/fake_blobs.h"

namespace nsic {

// Half a minute is for a machine under load; a passing test waits as long as it takes only.
inline bool WaitUntil(const std::function<bool()>& happened) {
  for (int i = 0; i < 6000; ++i) {
    if (happened()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

// The public members are guarded by `mutex` while a server uses it.
class FakeWork : public v1::Work::Service {
 public:
  grpc::Status Register(grpc::ServerContext*, const v1::RegisterRequest* request, v1::RegisterResponse* response) override {
    std::lock_guard<std::mutex> lock(mutex);
    registrations.push_back(*request);
    if (!refusal.ok()) return refusal;
    session = "session-" + std::to_string(registrations.size());
    response->set_session(session);
    response->set_lease_ttl_ms(10'000);
    response->set_renew_every_ms(20);
    return grpc::Status::OK;
  }

  grpc::Status Lease(grpc::ServerContext* context, const v1::LeaseRequest* request, v1::LeaseResponse* response) override {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(request->wait_ms());
    {
      std::lock_guard<std::mutex> lock(mutex);
      leases.push_back(*request);
      const auto granted = grants.find(request->request_id());
      if (granted != grants.end()) *response = granted->second;
      if (granted != grants.end()) return grpc::Status::OK;
    }
    bool lost = false;
    while (true) {
      {
        std::lock_guard<std::mutex> lock(mutex);
        if (request->session() != session) return UnknownSession();
        response->set_drain(drain);
        if (!measure.bench_id().empty()) {
          *response->mutable_measure() = measure;
          return grpc::Status::OK;
        }
        if (!tasks.empty() && !drain && !lost) {
          for (int i = 0; i < batch && !tasks.empty(); ++i) {
            *response->add_tasks() = tasks.front();
            tasks.pop_front();
          }
          grants[request->request_id()] = *response;
          lost = lose_replies;
          if (!lost) return grpc::Status::OK;
        }
      }
      if (context->IsCancelled()) return grpc::Status::CANCELLED;
      if (std::chrono::steady_clock::now() >= end && !lost) return grpc::Status::OK;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  grpc::Status Renew(grpc::ServerContext*, const v1::RenewRequest* request, v1::RenewResponse* response) override {
    std::lock_guard<std::mutex> lock(mutex);
    if (request->session() != session) return UnknownSession();
    ++renewals;
    for (const std::string& token : request->tokens()) {
      renewed.insert(token);
      response->add_go_on(stop.count(token) == 0);
    }
    response->set_drain(drain);
    return grpc::Status::OK;
  }

  grpc::Status Complete(grpc::ServerContext* context, const v1::CompleteRequest* request, v1::ItemsResponse* response) override {
    while (hang && !context->IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::lock_guard<std::mutex> lock(mutex);
    if (request->session() != session) return UnknownSession();
    for (const v1::CompletedItem& item : request->items()) {
      v1::ItemStatus* status = response->add_items();
      if (!complete_answers.empty()) {
        status->set_code(complete_answers.front());
        complete_answers.pop_front();
      }
      if (status->code() == 0) completed[item.token()] = item.result();
    }
    return grpc::Status::OK;
  }

  grpc::Status Fail(grpc::ServerContext*, const v1::FailRequest* request, v1::ItemsResponse* response) override {
    std::lock_guard<std::mutex> lock(mutex);
    if (request->session() != session) return UnknownSession();
    for (const v1::FailedItem& item : request->items()) {
      failed[item.token()] = item;
      response->add_items();
    }
    return grpc::Status::OK;
  }

  grpc::Status Release(grpc::ServerContext*, const v1::ReleaseRequest* request, v1::ItemsResponse* response) override {
    std::lock_guard<std::mutex> lock(mutex);
    if (request->session() != session) return UnknownSession();
    for (const std::string& token : request->tokens()) {
      released.insert(token);
      response->add_items();
    }
    return grpc::Status::OK;
  }

  grpc::Status Report(grpc::ServerContext*, const v1::ReportRequest* request, v1::ReportResponse*) override {
    std::lock_guard<std::mutex> lock(mutex);
    if (request->session() != session) return UnknownSession();
    reports.push_back(*request);
    measure.Clear();
    return grpc::Status::OK;
  }

  // What the test sets.
  std::mutex mutex;
  std::deque<v1::LeasedTask> tasks;
  int batch = 100;      // tasks a lease
  v1::Measure measure;  // with a bench_id: what the next Lease asks for, in place of tasks
  bool drain = false;
  bool lose_replies = false;         // leases are granted, their first replies never come
  std::set<std::string> stop;        // tokens that are not to go on
  std::deque<int> complete_answers;  // codes of the next items; then OK
  grpc::Status refusal;              // of Register
  std::string session;               // another value: the worker's session is forgotten
  std::atomic<bool> hang{false};     // Complete does not answer

  // What was asked.
  std::vector<v1::RegisterRequest> registrations;
  std::vector<v1::LeaseRequest> leases;
  std::map<std::string, v1::LeaseResponse> grants;
  int renewals = 0;
  std::set<std::string> renewed;
  std::map<std::string, v1::TaskResult> completed;
  std::map<std::string, v1::FailedItem> failed;
  std::set<std::string> released;
  std::vector<v1::ReportRequest> reports;

 private:
  static grpc::Status UnknownSession() { return {grpc::ABORTED, "this session is not known here; register again"}; }
};

class FakeCoordinator {
 public:
  FakeCoordinator() { Start("127.0.0.1:0"); }
  ~FakeCoordinator() { Stop(); }

  const std::string& address() const { return address_; }
  void Stop() {
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
  }
  void Restart() {
    Stop();
    Start(address_);
  }

  bool Completed(const std::string& token) {
    std::lock_guard<std::mutex> lock(work.mutex);
    return work.completed.count(token) > 0;
  }
  bool Failed(const std::string& token) {
    std::lock_guard<std::mutex> lock(work.mutex);
    return work.failed.count(token) > 0;
  }
  bool Released(const std::string& token) {
    std::lock_guard<std::mutex> lock(work.mutex);
    return work.released.count(token) > 0;
  }
  void Add(const v1::LeasedTask& task) {
    std::lock_guard<std::mutex> lock(work.mutex);
    work.tasks.push_back(task);
  }
  // The bytes that a completed task delivered.
  std::string Output(const std::string& token) {
    std::string hash;
    {
      std::lock_guard<std::mutex> lock(work.mutex);
      hash = work.completed.at(token).output().sha256();
    }
    std::lock_guard<std::mutex> lock(blobs.mutex);
    return blobs.stored.at(hash);
  }

  FakeWork work;
  FakeBlobs blobs;

 private:
  void Start(const std::string& address) {
    grpc::ServerBuilder builder;
    ApplyServerLimits(&builder);
    int port = 0;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&work);
    builder.RegisterService(&blobs);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr) << address;
    address_ = "127.0.0.1:" + std::to_string(port);
  }

  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace nsic

#endif  // NSIC_TESTS_FAKES_FAKE_COORDINATOR_H_
