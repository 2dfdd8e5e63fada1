// What the coordinator decides, with a clock that stands still unless told: submitting, splitting, leasing, failing, expiring, retrying.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>
#include <map>
#include <set>

#include "coordinator/check_manifest.h"
#include "coordinator/judge_failure.h"
#include "coordinator/receive_blob.h"
#include "coordinator/split_job.h"
#include "tests/unit/coordinator_fixture.h"

namespace nsic {
namespace {

constexpr int kOk = 0;
constexpr auto kBadInput = v1::FAILURE_CLASS_BAD_INPUT;
constexpr auto kFault = v1::FAILURE_CLASS_WORKER_FAULT;
constexpr auto kTransient = v1::FAILURE_CLASS_TRANSIENT;

class SubmitTest : public FarmTest {};

TEST_F(SubmitTest, TheSameAgainIsTheSame) {
  const v1::Job first = Submit(1, 0, 3);
  EXPECT_EQ(first.state(), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(first.tasks_queued(), 3);
  EXPECT_EQ(first.pixels_total(), 3'000'000);
  EXPECT_EQ(Submit(1, 0, 3).SerializeAsString(), first.SerializeAsString());
  std::vector<v1::SourceFile> files = {Source(0)};
  EXPECT_EQ(AcceptSubmit(farm_, Request(1, files)).status().code(), StatusCode::kAlreadyExists);
  v1::SubmitRequest other = Request(1, files);
  other.mutable_spec()->set_priority(5);
  EXPECT_EQ(AcceptSubmit(farm_, other).status().code(), StatusCode::kAlreadyExists);
}

TEST_F(SubmitTest, BadSpecsAreRefused) {
  using Change = std::function<void(v1::SubmitRequest*)>;
  const auto options = [](v1::SubmitRequest* r) { return r->mutable_spec()->mutable_options(); };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const struct {
    const char* what;
    StatusCode code;
    Change change;
  } rows[] = {
      {"short id", StatusCode::kInvalidArgument, [](auto* r) { r->set_job_id("abc"); }},
      {"id with a slash", StatusCode::kInvalidArgument, [](auto* r) { r->set_job_id("../" + std::string(29, '0')); }},
      {"no model", StatusCode::kInvalidArgument, [&](auto* r) { options(r)->set_model_id(""); }},
      {"unknown model", StatusCode::kNotFound, [&](auto* r) { options(r)->set_model_id(std::string(64, 'a')); }},
      {"strength 2", StatusCode::kInvalidArgument, [&](auto* r) { options(r)->set_strength(2); }},
      {"strength NaN", StatusCode::kInvalidArgument, [&](auto* r) { options(r)->set_strength(nan); }},
      {"sharpen below 0", StatusCode::kInvalidArgument, [&](auto* r) { options(r)->set_sharpen(-0.1); }},
      {"scale NaN", StatusCode::kInvalidArgument, [&](auto* r) { options(r)->set_scale(nan); }},
      {"scale 17", StatusCode::kInvalidArgument, [&](auto* r) { options(r)->set_scale(17); }},
      {"scale below 0", StatusCode::kInvalidArgument, [&](auto* r) { options(r)->set_scale(-1); }},
      {"width alone", StatusCode::kInvalidArgument, [&](auto* r) { options(r)->set_width(100); }},
      {"scale and size", StatusCode::kInvalidArgument,
       [&](auto* r) {
         options(r)->set_scale(2);
         options(r)->set_width(100);
         options(r)->set_height(100);
       }},
      {"huge size", StatusCode::kInvalidArgument,
       [&](auto* r) {
         options(r)->set_width(100'000);
         options(r)->set_height(1);
       }},
      {"format gif", StatusCode::kInvalidArgument, [&](auto* r) { options(r)->set_format("gif"); }},
      {"quality 0", StatusCode::kInvalidArgument, [&](auto* r) { options(r)->set_jpeg_quality(0); }},
      {"quality 101", StatusCode::kInvalidArgument, [&](auto* r) { options(r)->set_jpeg_quality(101); }},
      {"negative static threshold", StatusCode::kInvalidArgument, [&](auto* r) { options(r)->set_static_threshold(-1); }},
      {"static threshold 256", StatusCode::kInvalidArgument, [&](auto* r) { options(r)->set_static_threshold(256); }},
      {"long model name", StatusCode::kInvalidArgument, [&](auto* r) { options(r)->set_model_name(std::string(256, 'm')); }},
      {"negative split", StatusCode::kInvalidArgument, [&](auto* r) { options(r)->set_split_pixels(-1); }},
      {"no manifest", StatusCode::kInvalidArgument, [](auto* r) { r->mutable_spec()->clear_manifest(); }},
      {"manifest not there", StatusCode::kFailedPrecondition,
       [](auto* r) { r->mutable_spec()->mutable_manifest()->set_sha256(std::string(64, 'b')); }},
      {"huge manifest", StatusCode::kInvalidArgument,
       [](auto* r) { r->mutable_spec()->mutable_manifest()->set_size(kMaxManifestBytes + 1); }},
  };
  for (const auto& row : rows) {
    v1::SubmitRequest request = Request(1, std::vector<v1::SourceFile>{Source(0)});
    row.change(&request);
    const Status status = AcceptSubmit(farm_, request).status();
    EXPECT_EQ(status.code(), row.code) << row.what << ": " << status;
  }
  EXPECT_NE(AcceptSubmit(farm_,
                         [&] {
                           v1::SubmitRequest r = Request(1, std::vector<v1::SourceFile>{Source(0)});
                           r.mutable_spec()->mutable_options()->set_model_id(std::string(64, 'a'));
                           return r;
                         }())
                .status()
                .message()
                .find("lite"),
            std::string::npos)
      << "an unknown model's message lists those there are";
}

TEST_F(SubmitTest, BadManifestsAreRefused) {
  using Change = std::function<void(v1::SourceFile*)>;
  const struct {
    const char* what;
    Change change;
  } rows[] = {
      {"no path", [](auto* f) { f->clear_path(); }},
      {"absolute", [](auto* f) { f->set_path("/etc/passwd"); }},
      {"up", [](auto* f) { f->set_path("../x"); }},
      {"up in the middle", [](auto* f) { f->set_path("a/../../x"); }},
      {"up at the end", [](auto* f) { f->set_path("a/.."); }},
      {"dot", [](auto* f) { f->set_path("./x"); }},
      {"empty part", [](auto* f) { f->set_path("a//x"); }},
      {"slash at the end", [](auto* f) { f->set_path("a/"); }},
      {"NUL", [](auto* f) { f->set_path(std::string("a\0b", 3)); }},
      {"long path", [](auto* f) { f->set_path(std::string(5000, 'a')); }},
      {"long name", [](auto* f) { f->set_path("a/" + std::string(256, 'b')); }},
      {"no hash", [](auto* f) { f->mutable_content()->clear_sha256(); }},
      {"upper-case hash", [](auto* f) { f->mutable_content()->set_sha256(std::string(64, 'A')); }},
      {"no bytes", [](auto* f) { f->mutable_content()->set_size(0); }},
      {"negative size", [](auto* f) { f->mutable_content()->set_size(-5); }},
      {"no picture", [](auto* f) { f->clear_picture(); }},
      {"no width", [](auto* f) { f->mutable_picture()->set_width(0); }},
      {"negative height", [](auto* f) { f->mutable_picture()->set_height(-1); }},
      {"huge picture", [](auto* f) { f->mutable_picture()->set_width(1'000'000), f->mutable_picture()->set_height(1'000'000); }},
      {"unknown format", [](auto* f) { f->mutable_picture()->set_format("exe"); }},
      {"12 bits", [](auto* f) { f->mutable_picture()->set_depth(12); }},
      {"no root", [](auto* f) { f->mutable_in_place()->set_path("x"); }},
      {"up from the root", [](auto* f) { f->mutable_in_place()->set_root_id("r"), f->mutable_in_place()->set_path("../x"); }},
      {"absolute in the root", [](auto* f) { f->mutable_in_place()->set_root_id("r"), f->mutable_in_place()->set_path("/x"); }},
      {"the same path again", [this](auto* f) { *f = Source(0); }},
  };
  int job = 10;
  for (const auto& row : rows) {
    v1::SourceFile bad = Source(1);
    row.change(&bad);
    const Status status = AcceptSubmit(farm_, Request(++job, std::vector<v1::SourceFile>{Source(0), bad})).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << row.what << ": " << status;
    EXPECT_NE(status.message().find("file 1 "), std::string::npos) << row.what << ": " << status;
  }
  EXPECT_EQ(AcceptSubmit(farm_, Request(1, std::vector<v1::SourceFile>{})).status().code(), StatusCode::kInvalidArgument) << "empty";
  v1::SubmitRequest junk = Request(1, std::vector<v1::SourceFile>{Source(0)});
  junk.mutable_spec()->mutable_manifest()->set_sha256(*blobs_->Put("\xff\xff\xff\xff junk"));
  EXPECT_EQ(AcceptSubmit(farm_, junk).status().code(), StatusCode::kInvalidArgument) << "no manifest";
  // Names as file systems have them are fine.
  for (const std::string& path : {std::string("-x"), std::string("a b\nc"), std::string("\xff\xfe"), std::string("...")}) {
    v1::SourceFile odd = Source(2);
    odd.set_path(path);
    EXPECT_TRUE(AcceptSubmit(farm_, Request(++job, std::vector<v1::SourceFile>{odd})).ok()) << path;
  }
}

TEST_F(SubmitTest, AHundredThousandFiles) {
  v1::JobManifest manifest;
  for (int i = 0; i < 100'000; ++i) {
    v1::SourceFile file = Source(i);
    if (i % 2 == 0) {
      file.mutable_in_place()->set_root_id("root");
      file.mutable_in_place()->set_path(file.path());
    }
    *manifest.add_files() = file;
  }
  const v1::SubmitRequest request = Request(1, manifest);
  const auto start = std::chrono::steady_clock::now();
  const auto say = [&](const char* what) {
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf("100,000 files: %s after %.1f s\n", what, seconds.count());
  };
  const Result<v1::Job> job = AcceptSubmit(farm_, request);
  ASSERT_TRUE(job.ok()) << job.status();
  say("accepted");
  EXPECT_EQ(job->tasks_waiting(), 50'000);
  EXPECT_EQ(job->tasks_queued(), 50'000);
  const std::string worker = Register("w", {"root"});
  SetSpeed(worker, 1.0);
  EXPECT_EQ(Lease(worker, 64).size(), 60u) << "a minute's worth";
  say("leased");
  EXPECT_EQ(CancelJob(farm_, Id(1))->tasks_cancelled(), 100'000);
  say("cancelled");
  EXPECT_TRUE(DeleteJob(farm_, Id(1)).ok());
  say("deleted");
}

TEST_F(SubmitTest, TasksWaitForTheirSources) {
  Register("w");
  std::vector<v1::SourceFile> files = {Source(0), Source(1)};
  ASSERT_TRUE(AcceptSubmit(farm_, Request(1, files)).ok());
  EXPECT_EQ(Get(1).tasks_waiting(), 2);
  EXPECT_EQ(Get(1).waiting_reason(), "waiting for uploads");
  Upload(1);
  EXPECT_EQ(Get(1).tasks_waiting(), 1);
  EXPECT_EQ(Get(1).tasks_queued(), 1);
  Upload(0);
  EXPECT_EQ(Get(1).tasks_queued(), 2);
}

TEST_F(SubmitTest, LargePicturesBecomeTileTasksOnTheGrid) {
  std::vector<v1::SourceFile> files = {Source(0, 1000, 1000), Source(1, 6000, 5000), Source(2, 100, 100)};
  v1::SubmitRequest request = Request(1, files);
  request.mutable_spec()->mutable_options()->set_split_pixels(24'000'000);
  for (int i = 0; i < 3; ++i) Upload(i);
  ASSERT_TRUE(AcceptSubmit(farm_, request).ok());
  const std::string worker = Register("w");
  SetSpeed(worker, 1000);
  std::map<int, std::vector<Rect>> regions;
  for (const v1::LeasedTask& task : Lease(worker, 64)) {
    const v1::Region& r = task.region();
    regions[task.file_index()].push_back(task.has_region() ? Rect{r.x(), r.y(), r.width(), r.height()} : Rect{});
    EXPECT_EQ(Complete(worker, task, "t" + std::to_string(task.task_id())).code(), kOk);
  }
  EXPECT_EQ(regions[0], std::vector<Rect>{Rect{}});
  EXPECT_EQ(regions[2], std::vector<Rect>{Rect{}});
  TileSpec tiling;
  tiling.tile = 256;
  EXPECT_EQ(regions[1], PlanTileTasks(TileGrid({6000, 5000}, tiling), kTileTaskPixels));
  EXPECT_GT(regions[1].size(), 4u);
  for (const v1::TaskOutcome& outcome : Outcomes(1)) {
    EXPECT_EQ(outcome.parts(), outcome.file_index() == 1 ? static_cast<int>(regions[1].size()) : 1);
    EXPECT_EQ(outcome.has_region(), outcome.file_index() == 1);
  }
  EXPECT_EQ(Get(1).pixels_total(), 1'000'000 + 30'000'000 + 10'000);
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_SUCCEEDED);
}

Result<VideoIndex> NoVideos(int file_index) { return InternalError("asked for the index of file " + std::to_string(file_index)); }

TEST(SplitJob, OnlyWhatMattersIsInTheKey) {
  v1::JobManifest manifest;
  v1::SourceFile* const file = manifest.add_files();
  file->mutable_content()->set_sha256(Sha256Hex("x"));
  file->mutable_picture()->set_width(2000);
  file->mutable_picture()->set_height(2000);
  v1::RestoreOptions base;
  base.set_model_id(std::string(64, 'a'));
  base.set_strength(1);
  base.set_format("png");
  base.set_jpeg_quality(95);
  base.set_split_pixels(24'000'000);
  TileSpec tiling;
  const auto key = [&](const v1::RestoreOptions& options, const std::string& version = "1") {
    return SplitJob(manifest, options, tiling, version, 1, NoVideos)->front().result_key;
  };
  const struct {
    const char* what;
    bool whole, tile;  // does it change the key of a whole picture, of a tile task?
    std::function<void(v1::RestoreOptions*)> change;
  } rows[] = {
      {"name of the model", false, false, [](auto* o) { o->set_model_name("other"); }},
      {"model", true, true, [](auto* o) { o->set_model_id(std::string(64, 'b')); }},
      {"strength", true, false, [](auto* o) { o->set_strength(0.5); }},
      {"sharpen", true, false, [](auto* o) { o->set_sharpen(0.5); }},
      {"scale", true, false, [](auto* o) { o->set_scale(2); }},
      {"size", true, false, [](auto* o) { o->set_width(5), o->set_height(5); }},
      {"format", true, false, [](auto* o) { o->set_format("jpg"); }},
      {"quality", true, false, [](auto* o) { o->set_jpeg_quality(50); }},
      {"static threshold, of videos", false, false, [](auto* o) { o->set_static_threshold(3); }},
      {"tolerate, of videos", false, false, [](auto* o) { o->set_tolerate(true); }},
  };
  for (const int64_t split : {int64_t{24'000'000}, int64_t{1'000'000}}) {
    base.set_split_pixels(split);
    for (const auto& row : rows) {
      v1::RestoreOptions changed = base;
      row.change(&changed);
      EXPECT_EQ(key(changed) != key(base), split == 1'000'000 ? row.tile : row.whole) << row.what << " at " << split;
    }
    EXPECT_NE(key(base, "2"), key(base)) << "another version's results are not reused";
  }
  v1::RestoreOptions higher = base;
  base.set_split_pixels(5'000'000);
  higher.set_split_pixels(6'000'000);
  EXPECT_EQ(key(base), key(higher)) << "the split limit, where it does not split";
}

class LeaseTest : public FarmTest {};

TEST_F(LeaseTest, BatchesAreAMinuteOfTheWorkersSpeed) {
  Submit(1, 0, 200);
  const struct {
    double speed;
    int max_tasks;
    size_t leased;
  } rows[] = {{0, 64, 1}, {0.001, 64, 1}, {0.05, 64, 3}, {0.5, 64, 30}, {0.5, 10, 10}, {100, 64, 64}, {100, 10'000, 64}};
  int n = 0;
  for (const auto& row : rows) {
    const std::string name = "w" + std::to_string(n++);
    const std::string worker = Register(name);
    if (row.speed > 0) SetSpeed(worker, row.speed);
    const std::vector<v1::LeasedTask> tasks = Lease(worker, row.max_tasks);
    EXPECT_EQ(tasks.size(), row.leased) << "at " << row.speed << " MP/s, at most " << row.max_tasks;
    for (size_t i = 1; i < tasks.size(); ++i) EXPECT_EQ(tasks[i].file_index(), tasks[i - 1].file_index() + 1) << "neighbours";
    for (const v1::LeasedTask& task : tasks) Release(worker, task);
    Write([&](Transaction& t) {
      SetDraining(t, FindWorkerByName(t, name)->id, true);  // one at a time: no sharing
      return OkStatus();
    });
  }
}

TEST_F(LeaseTest, WhatAWorkerHoldsCountsAndTheEndIsShared) {
  Submit(1, 0, 12);
  const std::string a = Register("a"), b = Register("b"), c = Register("c");
  for (const std::string& worker : {a, b, c}) SetSpeed(worker, 100);
  EXPECT_EQ(Lease(a, 64).size(), 4u) << "a third";
  EXPECT_EQ(Lease(b, 64).size(), 3u);
  EXPECT_EQ(Lease(c, 64).size(), 2u);
  Submit(2, 100, 100);
  SetSpeed(a, 0.05);
  EXPECT_EQ(Lease(a, 64).size(), 1u) << "has more than a minute's work already";
}

TEST_F(LeaseTest, TheSameRequestGetsTheSameLeases) {
  Submit(1, 0, 10);
  const std::string worker = Register("w");
  SetSpeed(worker, 0.05);
  const auto first = Lease(worker, 64, Id(7));
  const auto again = Lease(worker, 64, Id(7));
  ASSERT_EQ(first.size(), 3u);
  ASSERT_EQ(again.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(again[i].SerializeAsString(), first[i].SerializeAsString());
  EXPECT_EQ(Get(1).tasks_leased(), 3);
  const std::string other = Register("other");
  EXPECT_NE(Lease(other, 1, Id(7))[0].task_id(), first[0].task_id()) << "another worker's request of the same id is another request";
}

TEST_F(LeaseTest, PriorityThenFairness) {
  Submit(1, 0, 5);
  clock_.AdvanceMs(1);
  Submit(2, 10, 5);
  clock_.AdvanceMs(1);
  Submit(3, 20, 2, 7);
  const std::string worker = Register("w");
  std::vector<std::string> order;
  for (int i = 0; i < 8; ++i) order.push_back(Lease(worker)[0].job_id().substr(31));
  EXPECT_EQ(order, (std::vector<std::string>{"3", "3", "1", "2", "1", "2", "1", "2"}));
  ASSERT_TRUE(PrioritizeJob(farm_, Id(2), 1).ok());
  EXPECT_EQ(Lease(worker)[0].job_id(), Id(2));
  ASSERT_TRUE(PauseJob(farm_, Id(2), true).ok());
  EXPECT_EQ(Lease(worker)[0].job_id(), Id(1));
  EXPECT_EQ(Lease(worker)[0].job_id(), Id(1));
  EXPECT_TRUE(Lease(worker).empty()) << "paused";
  ASSERT_TRUE(PauseJob(farm_, Id(2), false).ok());
  EXPECT_EQ(Lease(worker)[0].job_id(), Id(2));
}

TEST_F(LeaseTest, MediaRoots) {
  v1::SourceFile in_place = Source(0);
  in_place.mutable_in_place()->set_root_id("nas");
  in_place.mutable_in_place()->set_path("x.png");
  ASSERT_TRUE(AcceptSubmit(farm_, Request(1, std::vector<v1::SourceFile>{in_place})).ok());
  const std::string blind = Register("blind"), sees = Register("sees", {"usb", "nas"});
  EXPECT_TRUE(Lease(blind).empty());
  const auto tasks = Lease(sees);
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks[0].source().in_place().path(), "x.png");
  Release(sees, tasks[0]);
  Register("sees");
  EXPECT_EQ(Get(1).waiting_reason(), "no worker can read the media root nas");
}

TEST_F(LeaseTest, ALeaseSaysEverything) {
  Submit(1, 3, 1);
  const auto tasks = Lease(Register("w"));
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks[0].source().SerializeAsString(), Source(3).SerializeAsString());
  EXPECT_EQ(tasks[0].options().model_id(), model_id_);
  EXPECT_EQ(tasks[0].options().split_pixels(), kDefaultSplitPixels);
  EXPECT_FALSE(tasks[0].has_region());
  EXPECT_EQ(tasks[0].model_blob(), Sha256Hex("bundle of lite"));
  EXPECT_EQ(tasks[0].model_blob_size(), 14);
}

TEST_F(LeaseTest, DuplicatesAreComputedOnce) {
  v1::SourceFile twin = Source(0);
  twin.set_path("copy.png");
  Upload(0);
  ASSERT_TRUE(AcceptSubmit(farm_, Request(1, std::vector<v1::SourceFile>{Source(0), twin})).ok());
  const std::string a = Register("a"), b = Register("b");
  SetSpeed(a, 100);
  const auto tasks = Lease(a, 10);
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_TRUE(Lease(b).empty());
  EXPECT_EQ(Complete(a, tasks[0]).code(), kOk);
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_SUCCEEDED);
  const auto outcomes = Outcomes(1);
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_EQ(outcomes[0].result().output().sha256(), outcomes[1].result().output().sha256());
}

TEST_F(LeaseTest, KnownResultsAreNotComputedAgain) {
  Submit(1, 0, 2);
  const std::string worker = Register("w");
  for (int i = 0; i < 2; ++i) Complete(worker, Lease(worker)[0]);
  ASSERT_TRUE(CollectGivenUp(farm_).ok());
  EXPECT_EQ(blobs_->ReadAll(Sha256Hex(SourceBytes(0)), 1000).status().code(), StatusCode::kNotFound) << "sources go when their tasks end";
  const Result<v1::Job> again = AcceptSubmit(farm_, Request(2, std::vector<v1::SourceFile>{Source(0), Source(1), Source(2)}));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->tasks_done(), 2);
  EXPECT_EQ(again->tasks_waiting(), 1);
  v1::SubmitRequest other = Request(3, std::vector<v1::SourceFile>{Source(0)});
  other.mutable_spec()->mutable_options()->set_strength(0.5);
  EXPECT_EQ(AcceptSubmit(farm_, other)->tasks_done(), 0) << "other options are other work";
  const Result<v1::Job> done = AcceptSubmit(farm_, Request(4, std::vector<v1::SourceFile>{Source(1)}));
  EXPECT_EQ(done->state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_GT(done->ended_ms(), 0);
}

class FailTest : public FarmTest {};

TEST_F(FailTest, BadInputFailsAtOnce) {
  Submit(1, 0, 2);
  const std::string worker = Register("w");
  EXPECT_EQ(Fail(worker, Lease(worker)[0], kBadInput, "picture 0 is truncated").code(), kOk);
  Complete(worker, Lease(worker)[0]);
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_FAILED);
  const auto outcomes = Outcomes(1);
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_EQ(outcomes[0].end(), v1::TASK_END_FAILED);
  EXPECT_EQ(outcomes[0].error(), "picture 0 is truncated");
  EXPECT_EQ(outcomes[0].worker(), "w");
  EXPECT_EQ(outcomes[1].end(), v1::TASK_END_DONE);
}

TEST_F(FailTest, OneWorkerFailsATaskThreeTimes) {
  Submit(1, 0, 1);
  const std::string worker = Register("w");
  for (int i = 0; i < 3; ++i) {
    const auto tasks = Lease(worker);
    ASSERT_EQ(tasks.size(), 1u) << i;
    Fail(worker, tasks[0], kFault, "no memory " + std::to_string(i));
    EXPECT_TRUE(Lease(worker).empty()) << "backs off";
    if (i < 2) {
      EXPECT_NE(Get(1).waiting_reason().find("no memory"), std::string::npos) << Get(1).waiting_reason();
    }
    Pass(60'000);
    Heartbeat({worker});
  }
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_FAILED);
  EXPECT_NE(Outcomes(1)[0].error().find("3 times"), std::string::npos) << Outcomes(1)[0].error();
  EXPECT_NE(Outcomes(1)[0].error().find("no memory 2"), std::string::npos) << Outcomes(1)[0].error();
}

TEST_F(FailTest, AWorkerThatFailedGivesWayToOthers) {
  Submit(1, 0, 1);
  const std::string a = Register("a"), b = Register("b"), c = Register("c"), d = Register("d");
  std::set<std::string> tried;
  for (const std::string& worker : {a, b, c}) {
    const auto tasks = Lease(worker);
    ASSERT_EQ(tasks.size(), 1u);
    Fail(worker, tasks[0], kFault);
    clock_.AdvanceMs(30'000);
    Heartbeat({a, b, c, d});
    EXPECT_TRUE(Lease(a).empty()) << "a has failed on it, others have not";
  }
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_FAILED) << "three distinct workers";
  EXPECT_TRUE(Lease(d).empty());
}

TEST_F(FailTest, TwoWorkersShareTheThreeFailures) {
  Submit(1, 0, 1);
  const std::string a = Register("a"), b = Register("b");
  for (const std::string& worker : {a, b, a}) {
    const auto tasks = Lease(worker);
    ASSERT_EQ(tasks.size(), 1u);
    Fail(worker, tasks[0], kFault);
    clock_.AdvanceMs(30'000);
    Heartbeat({a, b});
  }
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_FAILED);
}

TEST(JudgeFailure, Poison) {
  const struct {
    FailureRecord record;
    bool poison;
  } rows[] = {
      {{1, 1, 1, 0}, false}, {{2, 1, 1, 0}, false},  {{3, 1, 1, 0}, true},  {{3, 1, 0, 0}, true},  {{3, 1, 2, 0}, false},
      {{3, 2, 2, 0}, true},  {{3, 2, 3, 0}, false},  {{3, 3, 3, 0}, true},  {{3, 3, 99, 0}, true}, {{9, 2, 99, 0}, false},
      {{2, 2, 2, 0}, false}, {{0, 0, 5, 11}, false}, {{0, 0, 5, 12}, true},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(IsPoison(row.record), row.poison) << row.record.failures << " failures on " << row.record.failed_workers << " of "
                                                << row.record.eligible_workers << ", " << row.record.transients << " transients";
  }
  for (int n = 1; n < 100; ++n) {
    EXPECT_LE(BackoffMs({n, 1, 1, n}), 300'000) << n;
    EXPECT_GT(BackoffMs({n, 1, 1, 0}), 0) << n;
    EXPECT_GE(BackoffMs({0, 0, 1, n + 1}), BackoffMs({0, 0, 1, n})) << n;
  }
}

TEST_F(FailTest, TransientsAreBoundedAndNotTheWorkersFault) {
  Submit(1, 0, 1);
  const std::string worker = Register("w");
  int attempts = 0;
  while (Get(1).state() == v1::JOB_STATE_RUNNING && attempts < 100) {
    const auto tasks = Lease(worker);
    if (tasks.size() == 1) {
      ++attempts;
      Fail(worker, tasks[0], kTransient, "the network went away");
    }
    clock_.AdvanceMs(20'000);
    Heartbeat({worker});
  }
  EXPECT_EQ(attempts, kMaxTransients);
  Submit(2, 1, 1);
  EXPECT_EQ(Lease(worker).size(), 1u) << "not blocked";
}

TEST_F(FailTest, ReleasedCountsForNothing) {
  Submit(1, 0, 1);
  const std::string worker = Register("w");
  for (int i = 0; i < 50; ++i) {
    const auto tasks = Lease(worker);
    ASSERT_EQ(tasks.size(), 1u) << i;
    EXPECT_EQ(Release(worker, tasks[0]).code(), kOk);
    EXPECT_EQ(Release(worker, tasks[0]).code(), kOk) << "again";
  }
  EXPECT_EQ(Complete(worker, Lease(worker)[0]).code(), kOk);
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(FailTest, ExpiryCountsAsAFailure) {
  Submit(1, 0, 1);
  for (int i = 0; i < 3; ++i) {
    const std::string worker = Register("w");
    ASSERT_EQ(Lease(worker).size(), 1u) << i;
    EXPECT_EQ(Get(1).tasks_leased(), 1);
    Pass(59'999);
    EXPECT_EQ(Get(1).tasks_leased(), 1) << "not yet";
    Pass(1);
    EXPECT_EQ(Get(1).tasks_leased(), 0);
    clock_.AdvanceMs(60'000);
  }
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_FAILED) << "a task that kills its worker ends, on one machine too";
  EXPECT_NE(Outcomes(1)[0].error().find("not heard of"), std::string::npos) << Outcomes(1)[0].error();
}

// A worker that dies with ten leases and starts anew at once: the nine that are innocent must not be poisoned with the tenth.
TEST_F(FailTest, ATaskThatKillsWorkersIsFoundAmongItsNeighbours) {
  constexpr int kTasks = 10, kKiller = 4;
  Submit(1, 0, kTasks);
  int deaths = 0;
  for (int life = 0; life < 100 && Get(1).state() == v1::JOB_STATE_RUNNING; ++life) {
    const std::string worker = Register("w");
    SetSpeed(worker, 100);
    while (true) {
      // As a worker that fetches ahead does: asks for more while it holds some.
      std::vector<v1::LeasedTask> held = Lease(worker, 5);
      for (const v1::LeasedTask& more : Lease(worker, 5)) held.push_back(more);
      if (held.empty()) break;
      bool died = false;
      for (const v1::LeasedTask& task : held) {
        if (task.file_index() == kKiller) died = true;
        if (died) break;
        EXPECT_EQ(Complete(worker, task).code(), kOk);
      }
      if (died) {
        ++deaths;
        break;
      }
    }
    clock_.AdvanceMs(30'000);
  }
  EXPECT_EQ(deaths, 3);
  EXPECT_EQ(Get(1).tasks_done(), kTasks - 1);
  EXPECT_EQ(Get(1).tasks_failed(), 1);
  for (const v1::TaskOutcome& outcome : Outcomes(1)) {
    if (outcome.end() == v1::TASK_END_FAILED) {
      EXPECT_EQ(outcome.file_index(), kKiller);
      EXPECT_NE(outcome.error().find("started anew"), std::string::npos) << outcome.error();
    }
  }
}

TEST_F(FailTest, AFailingWorkerIsBlockedWhileAnotherCouldWork) {
  Submit(1, 0, 20);
  const std::string bad = Register("bad"), good = Register("good");
  for (int i = 0; i < 3; ++i) {
    const auto tasks = Lease(bad);
    ASSERT_EQ(tasks.size(), 1u) << i;
    Fail(bad, tasks[0], kFault);
  }
  EXPECT_TRUE(Lease(bad).empty()) << "blocked";
  EXPECT_EQ(Lease(good).size(), 1u);
  // The good one leaves: a block must not stop a farm of one.
  clock_.AdvanceMs(61'000);
  Heartbeat({bad});
  EXPECT_EQ(Lease(bad).size(), 1u);
  Heartbeat({bad, good});
  EXPECT_TRUE(Lease(bad).empty()) << "the other is back";
  clock_.AdvanceMs(kBlockMs);
  Heartbeat({bad, good});
  EXPECT_EQ(Lease(bad).size(), 1u) << "the block is over";
}

TEST_F(FailTest, OneSilenceIsOneFailureInARow) {
  Submit(1, 0, 30);
  const std::string a = Register("a"), b = Register("b");
  SetSpeed(a, 100);
  ASSERT_GE(Lease(a, 15).size(), 10u);
  Pass(60'000);
  Heartbeat({a, b});
  EXPECT_EQ(Get(1).tasks_leased(), 0);
  EXPECT_FALSE(Lease(a).empty()) << "a laptop that slept is not blocked";
}

class CommitTest : public FarmTest {};

TEST_F(CommitTest, ReplaysAreAcknowledgedWithTheStoredHash) {
  Submit(1, 0, 1);
  const std::string worker = Register("w");
  const auto task = Lease(worker)[0];
  const v1::ItemStatus first = Complete(worker, task, "first");
  EXPECT_EQ(first.code(), kOk);
  EXPECT_EQ(first.stored_sha256(), Sha256Hex("first of " + task.source().path()));
  for (const std::string output : {"first", "second"}) {
    const v1::ItemStatus again = Complete(worker, task, output);
    EXPECT_EQ(again.code(), kOk) << output;
    EXPECT_EQ(again.stored_sha256(), first.stored_sha256()) << "success is never replaced";
  }
  EXPECT_EQ(Fail(worker, task, kFault).code(), kOk) << "acknowledged, changes nothing";
  EXPECT_EQ(Release(worker, task).code(), kOk);
  EXPECT_EQ(Outcomes(1).size(), 1u);
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(CommitTest, LateResultsAreAccepted) {
  Submit(1, 0, 2);
  const std::string slow = Register("slow"), fast = Register("fast");
  const auto a = Lease(slow)[0], b = Lease(slow)[0];
  Pass(60'000);
  Heartbeat({slow, fast});
  EXPECT_EQ(Get(1).tasks_queued(), 2);
  EXPECT_EQ(Complete(slow, a).code(), kOk) << "nobody else had it";
  EXPECT_EQ(Get(1).tasks_done(), 1);
  clock_.AdvanceMs(2000);
  const auto again = Lease(fast);
  ASSERT_EQ(again.size(), 1u);
  ASSERT_EQ(again[0].task_id(), b.task_id());
  const v1::ItemStatus late = Complete(slow, b, "late");
  EXPECT_EQ(late.code(), kOk) << "first come, first served";
  const v1::ItemStatus beaten = Complete(fast, again[0], "beaten");
  EXPECT_EQ(beaten.code(), kOk);
  EXPECT_EQ(beaten.stored_sha256(), late.stored_sha256());
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(CommitTest, ALateWordThatTheFileIsBadCounts) {
  Submit(1, 0, 2);
  const std::string slow = Register("slow");
  const auto a = Lease(slow)[0];
  Pass(60'000);
  Heartbeat({slow});
  EXPECT_EQ(Fail(slow, a, kBadInput, "truncated").code(), kOk);
  EXPECT_EQ(Get(1).tasks_failed(), 1);
}

TEST_F(CommitTest, BadResultsAreRefusedAndChangeNothing) {
  Submit(1, 0, 1);
  const std::string worker = Register("w"), thief = Register("thief");
  const auto task = Lease(worker)[0];
  v1::CompletedItem good;
  good.set_token(task.token());
  good.mutable_result()->mutable_output()->set_sha256(*blobs_->Put("output"));
  good.mutable_result()->set_width(1);
  good.mutable_result()->set_height(1);
  good.mutable_result()->set_model_id(model_id_);
  const struct {
    const char* what;
    StatusCode code;
    std::function<void(v1::CompletedItem*)> change;
  } rows[] = {
      {"unknown token", StatusCode::kNotFound, [](auto* i) { i->set_token("x"); }},
      {"no output", StatusCode::kInvalidArgument, [](auto* i) { i->mutable_result()->clear_output(); }},
      {"output not stored", StatusCode::kFailedPrecondition,
       [](auto* i) { i->mutable_result()->mutable_output()->set_sha256(std::string(64, 'c')); }},
      {"no size", StatusCode::kInvalidArgument, [](auto* i) { i->mutable_result()->set_width(0); }},
      {"another model", StatusCode::kInvalidArgument, [](auto* i) { i->mutable_result()->set_model_id("m"); }},
      {"time NaN", StatusCode::kInvalidArgument,
       [](auto* i) { i->mutable_result()->set_seconds(std::numeric_limits<double>::quiet_NaN()); }},
  };
  for (const auto& row : rows) {
    v1::CompletedItem item = good;
    row.change(&item);
    EXPECT_EQ(Complete(worker, item).code(), static_cast<int>(row.code)) << row.what;
    EXPECT_EQ(Get(1).tasks_leased(), 1) << row.what;
  }
  EXPECT_EQ(Complete(thief, good).code(), static_cast<int>(StatusCode::kPermissionDenied));
  EXPECT_EQ(Complete(worker, good).code(), kOk);
}

TEST_F(CommitTest, AFencedWorkersResultIsTakenUnderItsNewSession) {
  Submit(1, 0, 1);
  const std::string old_session = Register("w");
  const auto task = Lease(old_session)[0];
  const std::string session = Register("w");
  EXPECT_EQ(Get(1).tasks_leased(), 0);
  Status fenced = database_->Write([&](Transaction& t) { return CheckSession(farm_, t, old_session).status(); });
  EXPECT_EQ(fenced.code(), StatusCode::kAborted);
  EXPECT_EQ(Complete(session, task).code(), kOk);
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(CommitTest, RegistrationChecksVersions) {
  const struct {
    const char* version;
    int protocol;
    bool fits;
  } rows[] = {{"0.1.0", kProtocolVersion, true},  {"0.1.99", kProtocolVersion, true},     {"0.2.0", kProtocolVersion, false},
              {"1.1.0", kProtocolVersion, false}, {"0.1.0", kProtocolVersion + 1, false}, {"", kProtocolVersion, false}};
  for (const auto& row : rows) {
    v1::RegisterRequest request = Worker("w");
    request.set_version(row.version);
    request.set_protocol(row.protocol);
    const Status status = AdmitWorker(farm_, request).status();
    EXPECT_EQ(status.ok(), row.fits) << row.version << " " << row.protocol << ": " << status;
    if (row.fits) continue;
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
    EXPECT_NE(status.message().find("0.1.0"), std::string::npos) << status;
  }
}

TEST_F(CommitTest, StragglersAreLentToFasterIdleWorkers) {
  Submit(1, 0, 4);
  const std::string slow = Register("slow");
  SetSpeed(slow, 0.05);  // 20 s a picture
  EXPECT_EQ(Lease(slow, 10).size(), 3u);
  EXPECT_EQ(Lease(slow, 10).size(), 1u);
  const std::string fast = Register("fast"), unknown = Register("unknown");
  SetSpeed(fast, 10);
  EXPECT_TRUE(Lease(unknown).empty()) << "may be slower still";
  const auto lent = Lease(fast, 10);
  ASSERT_EQ(lent.size(), 1u);
  EXPECT_EQ(lent[0].file_index(), 3) << "the one that the slow worker would come to last";
  EXPECT_TRUE(Lease(fast).empty()) << "not idle";
  ExpectSound();
  EXPECT_EQ(Complete(fast, lent[0]).code(), kOk);
  EXPECT_EQ(Get(1).tasks_leased(), 3);
  const auto next = Lease(fast, 10);
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(next[0].file_index(), 2);
  Release(fast, next[0]);
  EXPECT_EQ(Get(1).tasks_leased(), 3) << "the first lease is still there";
}

class ControlTest : public FarmTest {};

TEST_F(ControlTest, Cancel) {
  Submit(1, 0, 3);
  const std::string worker = Register("w");
  const auto task = Lease(worker)[0];
  Complete(worker, Lease(worker)[0]);
  const Result<v1::Job> job = CancelJob(farm_, Id(1));
  ASSERT_TRUE(job.ok());
  EXPECT_EQ(job->state(), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(job->tasks_cancelled(), 2);
  EXPECT_EQ(Complete(worker, task).code(), static_cast<int>(StatusCode::kCancelled));
  EXPECT_EQ(Outcomes(1).size(), 3u);
  EXPECT_EQ(CancelJob(farm_, Id(1))->SerializeAsString(), job->SerializeAsString());
  EXPECT_EQ(RetryJob(farm_, Id(1))->state(), v1::JOB_STATE_CANCELLED) << "a cancelled job stays cancelled";
  EXPECT_EQ(PauseJob(farm_, Id(1), true)->paused(), false);
  EXPECT_TRUE(Lease(worker).empty());
}

TEST_F(ControlTest, RetryGivesACleanRecord) {
  Submit(1, 0, 1);
  const std::string worker = Register("w");
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 3; ++i) {
      const auto tasks = Lease(worker);
      ASSERT_EQ(tasks.size(), 1u) << round << "/" << i;
      Fail(worker, tasks[0], kFault);
      Pass(30'000);
      Heartbeat({worker});
    }
    EXPECT_EQ(Get(1).state(), v1::JOB_STATE_FAILED) << round;
    const int64_t sequence = Outcomes(1)[0].sequence();
    ASSERT_TRUE(CollectGivenUp(farm_).ok());
    const Result<v1::Job> job = RetryJob(farm_, Id(1));
    ASSERT_TRUE(job.ok());
    EXPECT_EQ(job->state(), v1::JOB_STATE_RUNNING);
    EXPECT_EQ(job->tasks_queued(), 1) << "a failed task's source stays while there is room";
    EXPECT_EQ(job->ended_ms(), 0);
    EXPECT_TRUE(Outcomes(1).empty());
    EXPECT_EQ(RetryJob(farm_, Id(1))->SerializeAsString(), job->SerializeAsString());
    EXPECT_GT(sequence, 0);
  }
  EXPECT_EQ(Complete(worker, Lease(worker)[0]).code(), kOk);
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(Outcomes(1)[0].sequence(), 3) << "a retried task gets a new sequence";
}

TEST_F(ControlTest, RetryWaitsForASourceThatHasGone) {
  Submit(1, 0, 1);
  const std::string worker = Register("w");
  Fail(worker, Lease(worker)[0], kBadInput);
  ASSERT_TRUE(MakeRoom(farm_, 1'000'000).ok());
  EXPECT_FALSE(blobs_->Examine(Sha256Hex(SourceBytes(0)))->stored);
  EXPECT_EQ(RetryJob(farm_, Id(1))->tasks_waiting(), 1);
  Upload(0);
  EXPECT_EQ(Get(1).tasks_queued(), 1);
}

TEST_F(ControlTest, DeleteFreesEverything) {
  Submit(1, 0, 2);
  const std::string worker = Register("w");
  EXPECT_EQ(DeleteJob(farm_, Id(1)).code(), StatusCode::kFailedPrecondition);
  for (int i = 0; i < 2; ++i) Complete(worker, Lease(worker)[0]);
  EXPECT_TRUE(DeleteJob(farm_, Id(1)).ok());
  EXPECT_TRUE(DeleteJob(farm_, Id(1)).ok()) << "an unknown job is fine";
  ASSERT_TRUE(CollectGivenUp(farm_).ok());
  EXPECT_EQ(blobs_->usage().blobs, 1) << "the model's bundle";
  EXPECT_EQ(CancelJob(farm_, Id(1)).status().code(), StatusCode::kNotFound);
}

TEST_F(ControlTest, Draining) {
  Submit(1, 0, 2);
  const std::string worker = Register("w");
  Write([&](Transaction& t) {
    SetDraining(t, FindWorkerByName(t, "w")->id, true);
    return OkStatus();
  });
  EXPECT_TRUE(Lease(worker).empty());
  EXPECT_EQ(Get(1).waiting_reason(), "every worker is draining");
}

TEST_F(ControlTest, AUsersBlockHoldsEvenForTheOnlyWorker) {
  Submit(1, 0, 1);
  const std::string worker = Register("w");
  Write([&](Transaction& t) {
    const int64_t id = FindWorkerByName(t, "w")->id;
    WorkerModelRow row = FindWorkerModel(t, id, model_id_);
    row.banned_until_ms = clock_.WallMs() + 1000;
    PutFailures(t, id, row);
    return OkStatus();
  });
  EXPECT_TRUE(Lease(worker).empty());
  EXPECT_EQ(Get(1).waiting_reason(), "every worker is blocked from the model lite");
  clock_.AdvanceMs(1000);
  EXPECT_EQ(Lease(worker).size(), 1u);
}

TEST_F(ControlTest, WhyAJobWaits) {
  Submit(1, 0, 1);
  EXPECT_EQ(Get(1).waiting_reason(), "no worker is connected");
  const std::string worker = Register("w");
  EXPECT_EQ(Get(1).waiting_reason(), "other jobs go first") << "or the next poll takes it";
  ASSERT_TRUE(PauseJob(farm_, Id(1), true).ok());
  EXPECT_EQ(Get(1).waiting_reason(), "paused");
  ASSERT_TRUE(PauseJob(farm_, Id(1), false).ok());
  Lease(worker);
  EXPECT_EQ(Get(1).waiting_reason(), "") << "it moves";
}

class RestartTest : public FarmTest {};

TEST_F(RestartTest, LeasesAreExtendedBeforeTheFirstSweep) {
  Submit(1, 0, 1);
  const std::string worker = Register("w");
  const auto task = Lease(worker)[0];
  clock_.AdvanceMs(3'600'000);  // the coordinator was down for an hour
  OpenStore(0);
  ASSERT_TRUE(ExtendLeasesAfterStart(farm_).ok());
  Pass(59'000);
  EXPECT_EQ(Get(1).tasks_leased(), 1);
  EXPECT_EQ(Complete(worker, task).code(), kOk) << "the session survives, too";
}

class QuotaTest : public FarmTest {};

// Ten times as much source as the quota, and outputs larger than their sources: the client uploads whenever it is let, workers work
// whenever there is something, the client fetches whatever is done.
TEST_F(QuotaTest, ALibraryManyTimesTheQuotaFlowsThrough) {
  constexpr int kFiles = 60;
  constexpr int64_t kSource = 50'000, kOutput = 80'000, kQuota = 600'000;
  static_assert(kFiles * kSource > 4 * kQuota, "the point of the test");
  OpenStore(kQuota);
  BlobReceiver receiver(&farm_);
  const auto bytes_of = [](int i) { return std::string(kSource, static_cast<char>('a' + i % 26)) + std::to_string(i); };
  std::vector<v1::SourceFile> files;
  for (int i = 0; i < kFiles; ++i) {
    v1::SourceFile file = Source(i);
    file.mutable_content()->set_sha256(Sha256Hex(bytes_of(i)));
    file.mutable_content()->set_size(static_cast<int64_t>(bytes_of(i).size()));
    files.push_back(file);
  }
  ASSERT_TRUE(AcceptSubmit(farm_, Request(1, files)).ok());
  const std::string worker = Register("w");
  int uploaded = 0, fetched = 0, rounds = 0;
  int64_t peak = 0;
  int64_t after = 0;
  for (; Get(1).state() == v1::JOB_STATE_RUNNING && rounds < 1000; ++rounds) {
    while (uploaded < kFiles) {  // the client uploads until it is told to wait
      v1::UploadHeader header;
      *header.mutable_blob() = files[static_cast<size_t>(uploaded)].content();
      Result<std::unique_ptr<BlobUpload>> upload = receiver.Admit(header);
      if (!upload.ok()) {
        ASSERT_EQ(upload.status().code(), StatusCode::kResourceExhausted) << upload.status();
        break;
      }
      ASSERT_TRUE((*upload)->Append(bytes_of(uploaded)).ok());
      ASSERT_TRUE(*(*upload)->Finish());
      ++uploaded;
      peak = std::max(peak, blobs_->usage().used());
    }
    EXPECT_LE(blobs_->usage().used(), kQuota);
    for (const v1::LeasedTask& task : Lease(worker)) {
      const std::string output = std::string(kOutput, 'o') + task.source().path();
      const Result<std::string> stored = blobs_->Put(output);
      ASSERT_TRUE(stored.ok()) << "sources must leave room for outputs: " << stored.status();
      v1::CompletedItem item;
      item.set_token(task.token());
      item.mutable_result()->mutable_output()->set_sha256(*stored);
      item.mutable_result()->set_width(1);
      item.mutable_result()->set_height(1);
      item.mutable_result()->set_model_id(model_id_);
      ASSERT_EQ(Complete(worker, item).code(), kOk);
    }
    ASSERT_TRUE(CollectGivenUp(farm_).ok());
    std::vector<int64_t> done;  // the client fetches, two rounds late
    if (rounds % 3 == 2) {
      for (const v1::TaskOutcome& outcome : Outcomes(1)) {
        if (outcome.sequence() <= after) continue;
        EXPECT_TRUE(blobs_->ReadAll(outcome.result().output().sha256(), 1 << 20).ok()) << "unfetched outputs stay";
        after = outcome.sequence();
        done.push_back(outcome.task_id());
        ++fetched;
      }
      ASSERT_TRUE(MarkJobFetched(farm_, Id(1), done).ok());
    }
    if (!blobs_->HasRoom()) {
      ASSERT_TRUE(MakeRoom(farm_, kQuota / 10).ok());
    }
    Heartbeat({worker});
  }
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_SUCCEEDED) << Get(1).DebugString();
  EXPECT_EQ(uploaded, kFiles);
  EXPECT_GE(fetched, kFiles - 3);
  EXPECT_LE(peak, kQuota);
}

TEST_F(QuotaTest, SourcesLeaveHalfForOutputs) {
  OpenStore(100'000);
  BlobReceiver receiver(&farm_);
  std::vector<v1::SourceFile> files;
  for (int i = 0; i < 4; ++i) {
    v1::SourceFile file = Source(i);
    file.mutable_content()->set_size(i == 3 ? 70'000 : 20'000);
    file.mutable_content()->set_sha256(Sha256Hex(std::string(static_cast<size_t>(file.content().size()), static_cast<char>('a' + i))));
    files.push_back(file);
  }
  ASSERT_TRUE(AcceptSubmit(farm_, Request(1, files)).ok());
  const auto admit = [&](int i) {
    v1::UploadHeader header;
    *header.mutable_blob() = files[static_cast<size_t>(i)].content();
    return receiver.Admit(header);
  };
  { EXPECT_TRUE(admit(3).ok()) << "larger than half, but alone"; }
  auto first = admit(0);
  ASSERT_TRUE(first.ok());
  auto second = admit(1);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(admit(2).status().code(), StatusCode::kResourceExhausted) << "would be 60 of 100, counting uploads in flight";
  EXPECT_EQ(admit(3).status().code(), StatusCode::kResourceExhausted) << "no longer alone";
  EXPECT_TRUE(blobs_->Put(std::string(50'000, 'o')).ok()) << "an output may use the rest";
}

TEST_F(QuotaTest, AFullStoreStopsLeasingAndFailsNothing) {
  OpenStore(10'000);
  Submit(1, 0, 3);
  const std::string worker = Register("w");
  const auto task = Lease(worker)[0];
  Upload(77);
  ASSERT_TRUE(blobs_->Put(std::string(9000, 'x')).ok());
  ASSERT_FALSE(blobs_->HasRoom());
  for (int i = 0; i < 30; ++i) Fail(worker, task, kTransient, "no room for the output");
  EXPECT_TRUE(Lease(worker).empty());
  EXPECT_EQ(Get(1).tasks_failed(), 0);
  clock_.AdvanceMs(10'000);
  Heartbeat({worker});
  EXPECT_NE(Get(1).waiting_reason().find("storage is full"), std::string::npos) << Get(1).waiting_reason();
  clock_.AdvanceMs(kUnmentionedBlobMs);  // nobody mentioned those blobs
  ASSERT_TRUE(CollectOld(farm_).ok());
  Heartbeat({worker});
  EXPECT_EQ(Lease(worker).size(), 1u);
}

}  // namespace
}  // namespace nsic
