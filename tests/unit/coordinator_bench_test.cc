// Admin.Bench and what workers answer to it, with a clock that stands still unless told.
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>

#include "coordinator/bench_workers.h"
#include "tests/unit/coordinator_fixture.h"

namespace nsic {
namespace {

class BenchTest : public FarmTest {
 protected:
  // What becomes of each worker, as the client of bench `n` sees it now.
  std::map<std::string, v1::WorkerBench> Ask(int n) {
    v1::BenchRequest request;
    request.set_bench_id(Id(n));
    request.set_model_id(model_id_);
    const Result<v1::BenchResponse> response = BenchWorkers(farm_, request);
    EXPECT_TRUE(response.ok()) << response.status();
    std::map<std::string, v1::WorkerBench> workers;
    if (response.ok()) {
      for (const v1::WorkerBench& worker : response->workers()) workers[worker.worker()] = worker;
    }
    return workers;
  }
  // The whole answer to a Lease call.
  v1::LeaseResponse Poll(const std::string& session, const std::string& request_id = RandomHex(16)) {
    v1::LeaseRequest request;
    request.set_session(session);
    request.set_request_id(request_id);
    request.set_max_tasks(1);
    v1::LeaseResponse response;
    Write([&](Transaction& t) -> Status {
      response.Clear();
      NSIC_ASSIGN_OR_RETURN(const WorkerRow worker, CheckSession(farm_, t, session));
      return LeaseTasks(farm_, t, worker, request, &response);
    });
    return response;
  }
  Status Report(const std::string& session, int n, const std::string& error = "") {
    v1::ReportRequest report;
    report.set_bench_id(Id(n));
    report.set_error(error);
    if (error.empty()) {
      v1::FrameSpeed* const speed = report.mutable_measurement()->add_frames();
      speed->set_width(1920);
      speed->set_height(1080);
      speed->set_frames_per_second(12.5);
    }
    return Report(session, report);
  }
  Status Report(const std::string& session, const v1::ReportRequest& report) {
    std::optional<WorkerRow> worker;
    Write([&](Transaction& t) -> Status {
      NSIC_ASSIGN_OR_RETURN(worker, CheckSession(farm_, t, session));
      return OkStatus();
    });
    return farm_.bench->Report(farm_, *worker, report);
  }
};

TEST_F(BenchTest, ConnectedWorkersMeasureInsteadOfWorking) {
  const std::string gone = Register("gone");
  clock_.AdvanceMs(farm_.options.lease_ttl_ms + 1);
  const std::string a = Register("a"), drained = Register("drained");
  Write([](Transaction& t) {
    SetDraining(t, FindWorkerByName(t, "drained")->id, true);
    return OkStatus();
  });
  Submit(1, 0, 2);
  EXPECT_FALSE(bench_.waiting(farm_));
  auto workers = Ask(1);
  ASSERT_EQ(workers.size(), 3u);
  EXPECT_EQ(workers["gone"].state(), v1::BENCH_STATE_AWAY);
  EXPECT_EQ(workers["gone"].error(), "it is not connected");
  EXPECT_EQ(workers["drained"].state(), v1::BENCH_STATE_AWAY);
  EXPECT_EQ(workers["a"].state(), v1::BENCH_STATE_WAITING);
  EXPECT_EQ(workers["a"].device(), "cpu");
  EXPECT_TRUE(bench_.waiting(farm_));

  for (int again = 0; again < 2; ++again) {
    const v1::LeaseResponse told = Poll(a);
    ASSERT_TRUE(told.has_measure()) << again;
    EXPECT_EQ(told.tasks_size(), 0);
    EXPECT_EQ(told.measure().bench_id(), Id(1));
    EXPECT_EQ(told.measure().model_id(), model_id_);
    EXPECT_EQ(told.measure().model_blob().size(), 64u);
  }
  EXPECT_FALSE(Poll(drained).has_measure());
  for (int again = 0; again < 2; ++again) {
    EXPECT_TRUE(Report(a, 1).ok()) << again;
    workers = Ask(1);
    EXPECT_EQ(workers["a"].state(), v1::BENCH_STATE_DONE);
    EXPECT_EQ(workers["a"].measurement().frames(0).frames_per_second(), 12.5);
  }
  EXPECT_TRUE(Report(a, 1, "too late to fail").ok());
  EXPECT_EQ(Ask(1)["a"].state(), v1::BENCH_STATE_DONE);
  EXPECT_FALSE(bench_.waiting(farm_));
  EXPECT_EQ(Poll(a).tasks_size(), 1) << "back to work";
}

TEST_F(BenchTest, ALostReplyWithTasksComesFirst) {
  const std::string a = Register("a");
  Submit(1, 0, 1);
  const std::string request_id = RandomHex(16);
  ASSERT_EQ(Poll(a, request_id).tasks_size(), 1);
  Ask(1);
  const v1::LeaseResponse again = Poll(a, request_id);
  EXPECT_EQ(again.tasks_size(), 1);
  EXPECT_FALSE(again.has_measure());
  EXPECT_TRUE(Poll(a).has_measure());
}

TEST_F(BenchTest, WorkersThatDoNotAnswerAreNamed) {
  const struct {
    const char* what;
    std::function<void(std::string session)> happens;
    const char* error;
  } rows[] = {
      {"falls silent",
       [&](const std::string&) {
         clock_.AdvanceMs(farm_.options.lease_ttl_ms - 1);
         EXPECT_EQ(Ask(1)["w"].state(), v1::BENCH_STATE_WAITING);
         clock_.AdvanceMs(2);
       },
       "fell silent"},
      {"dies of it and starts anew",
       [&](const std::string& session) {
         Poll(session);
         EXPECT_FALSE(Poll(Register("w")).has_measure());
       },
       "started anew"},
      {"fails", [&](const std::string& session) { EXPECT_TRUE(Report(session, 1, "no memory").ok()); }, "no memory"},
      {"is drained before its turn",
       [&](const std::string&) {
         Write([](Transaction& t) {
           SetDraining(t, FindWorkerByName(t, "w")->id, true);
           return OkStatus();
         });
       },
       "drain"},
      {"lives and never answers",
       [&](const std::string& session) {
         Poll(session);
         for (int i = 0; i < 62; ++i) {
           EXPECT_EQ(Ask(1)["w"].state(), v1::BENCH_STATE_WAITING) << i;
           clock_.AdvanceMs(29'500);
           Heartbeat({session});
         }
       },
       "has not answered for 30 minutes"},
  };
  for (const auto& row : rows) {
    BenchBoard fresh;
    farm_.bench = &fresh;
    Write([](Transaction& t) {
      if (const std::optional<WorkerRow> worker = FindWorkerByName(t, "w")) SetDraining(t, worker->id, false);
      return OkStatus();
    });
    const std::string session = Register("w");
    ASSERT_EQ(Ask(1)["w"].state(), v1::BENCH_STATE_WAITING) << row.what;
    row.happens(session);
    const v1::WorkerBench worker = Ask(1)["w"];
    EXPECT_EQ(worker.state(), v1::BENCH_STATE_FAILED) << row.what;
    EXPECT_NE(worker.error().find(row.error), std::string::npos) << row.what << ": " << worker.error();
    farm_.bench = &bench_;
  }
}

TEST_F(BenchTest, ABenchOfAClientThatHasGoneEnds) {
  const std::string a = Register("a");
  Ask(1);
  ASSERT_TRUE(Poll(a).has_measure());
  for (int i = 0; i < 5; ++i) {
    clock_.AdvanceMs(40'000);
    Heartbeat({a});
    EXPECT_EQ(Ask(1)["a"].state(), v1::BENCH_STATE_WAITING) << i;
  }
  clock_.AdvanceMs(61'000);
  EXPECT_FALSE(bench_.waiting(farm_));
  EXPECT_FALSE(Poll(a).has_measure());
  EXPECT_TRUE(Report(a, 1).ok()) << "acknowledged and dropped";
  EXPECT_EQ(Ask(1)["a"].state(), v1::BENCH_STATE_WAITING) << "begun anew";
}

TEST_F(BenchTest, NonsenseIsRefused) {
  const std::string a = Register("a");
  v1::BenchRequest request;
  request.set_bench_id("short");
  request.set_model_id(model_id_);
  EXPECT_EQ(BenchWorkers(farm_, request).status().code(), StatusCode::kInvalidArgument);
  request.set_bench_id(Id(1));
  request.set_model_id(std::string(64, 'a'));
  EXPECT_EQ(BenchWorkers(farm_, request).status().code(), StatusCode::kNotFound);

  Ask(1);
  v1::ReportRequest report;
  report.set_bench_id(Id(1));
  EXPECT_EQ(Report(a, report).code(), StatusCode::kInvalidArgument) << "nothing measured";
  v1::FrameSpeed* const speed = report.mutable_measurement()->add_frames();
  speed->set_width(1920);
  speed->set_height(1080);
  for (const double fps : {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    speed->set_frames_per_second(fps);
    EXPECT_EQ(Report(a, report).code(), StatusCode::kInvalidArgument) << fps;
  }
  EXPECT_EQ(Ask(1)["a"].state(), v1::BENCH_STATE_WAITING);
}

}  // namespace
}  // namespace nsic
