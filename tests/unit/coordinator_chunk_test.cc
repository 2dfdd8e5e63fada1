// Segments that would take too long: chunk tasks feed an encode task. How they are planned, wait for each other, fail, are retried,
// cancelled and found again, and when what they stored may go.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/db/connection.h"
#include "coordinator/estimate_speed.h"
#include "coordinator/split_job.h"
#include "tests/unit/coordinator_fixture.h"

namespace nsic {
namespace {

constexpr int kOk = 0;
constexpr auto kBadInput = v1::FAILURE_CLASS_BAD_INPUT;
constexpr auto kFault = v1::FAILURE_CLASS_WORKER_FAULT;
constexpr auto kRestore = v1::SEGMENT_STEP_RESTORE;
constexpr auto kEncode = v1::SEGMENT_STEP_ENCODE;

// Videos of 100 frames, a segment of four seconds, at a megapixel a frame. With a worker of 0.06 megapixels a second 32 frames are a task.
constexpr int kFrames = 100;
constexpr double kSlow = 0.06;

class ChunkTest : public FarmTest {
 protected:
  void SetUp() override {
    FarmTest::SetUp();
    worker_ = Register("w");
    SetSpeed(worker_, kSlow);
  }

  v1::SourceFile SlowVideo(int i) { return Video(i, kFrames, 50, 1000, 1000); }
  v1::Job SubmitSlow(int job, int i) {
    Upload(i);
    return SubmitFile(job, SlowVideo(i));
  }
  v1::Job SubmitFile(int job, const v1::SourceFile& file) {
    const Result<v1::Job> submitted = AcceptSubmit(farm_, Request(job, std::vector<v1::SourceFile>{file}));
    EXPECT_TRUE(submitted.ok()) << submitted.status();
    return submitted.ok() ? *submitted : v1::Job();
  }
  // Whatever can be leased, up to `most`.
  std::vector<v1::LeasedTask> LeaseAll(int most = 1000) {
    std::vector<v1::LeasedTask> tasks;
    while (static_cast<int>(tasks.size()) < most) {
      const auto more = Lease(worker_);
      if (more.empty()) break;
      tasks.insert(tasks.end(), more.begin(), more.end());
    }
    return tasks;
  }
  std::string OutputOf(const v1::LeasedTask& task) {
    return Complete(worker_, task, std::to_string(task.segment().step())).stored_sha256();
  }
  bool IsThere(const std::string& sha256) { return blobs_->Examine(sha256)->stored.has_value(); }
  void CollectEverything() {
    ASSERT_TRUE(CollectGivenUp(farm_).ok());
    clock_.AdvanceMs(2 * kFetchedOutputMs);
    ASSERT_TRUE(CollectOld(farm_).ok());
    ASSERT_TRUE(MakeRoom(farm_, int64_t{1} << 40).ok());
    Heartbeat({worker_});
  }

  std::string worker_;
};

TEST_F(ChunkTest, ChunksFeedAnEncodeTask) {
  const v1::Job job = SubmitSlow(1, 0);
  EXPECT_EQ(job.tasks_queued(), 4) << "chunks of 25 frames";
  EXPECT_EQ(job.tasks_waiting(), 1) << "for them";
  EXPECT_EQ(job.pixels_total(), int64_t{kFrames} * 1'000'000 + 1);
  const auto chunks = LeaseAll();
  ASSERT_EQ(chunks.size(), 4u);
  std::vector<std::string> outputs;
  for (size_t i = 0; i < chunks.size(); ++i) {
    const Result<Segment> segment = FromMessage(chunks[i].segment());
    ASSERT_TRUE(segment.ok()) << segment.status();
    EXPECT_EQ(chunks[i].segment().step(), kRestore);
    EXPECT_EQ(segment->first, static_cast<int>(25 * i));
    EXPECT_EQ(segment->pts.size(), 25u);
    EXPECT_EQ(segment->starts.front().pts, i < 2 ? 0 : 2000);
    EXPECT_EQ(chunks[i].segment().chunks_size(), 0);
    EXPECT_EQ(chunks[i].source().content().sha256(), Sha256Hex(SourceBytes(0)));
    v1::CompletedItem item;
    item.set_token(chunks[i].token());
    v1::TaskResult& result = *item.mutable_result();
    result.mutable_output()->set_sha256(*blobs_->Put("chunk " + std::to_string(i)));
    result.set_width(1000);
    result.set_height(1000);
    result.set_model_id(model_id_);
    result.set_precision("bf16");
    result.set_frames(24);
    EXPECT_EQ(Complete(worker_, item).code(), static_cast<int>(StatusCode::kInvalidArgument)) << "a frame is missing";
    result.set_frames(25);
    result.set_frames_repeated(static_cast<int>(i));
    result.set_tiles_repeated(10);
    result.set_tiles_redone(1);
    result.set_seconds(100);
    result.set_compute_seconds(90);
    result.add_frames_concealed(segment->first + 3);
    EXPECT_TRUE(Lease(worker_).empty());
    EXPECT_EQ(Complete(worker_, item).code(), kOk);
    outputs.push_back(result.output().sha256());
    EXPECT_TRUE(Outcomes(1).empty()) << "chunks are nothing to the client";
  }
  CollectEverything();
  EXPECT_FALSE(IsThere(Sha256Hex(SourceBytes(0)))) << "an encode task reads no source";
  for (const std::string& output : outputs) EXPECT_TRUE(IsThere(output)) << "needed";

  const auto encode = Lease(worker_);
  ASSERT_EQ(encode.size(), 1u);
  const v1::Segment& segment = encode[0].segment();
  EXPECT_EQ(segment.step(), kEncode);
  EXPECT_EQ(segment.frames().first(), 0);
  EXPECT_EQ(segment.frames().count(), kFrames);
  ASSERT_EQ(segment.chunks_size(), 4);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(segment.chunks(i).frames().first(), 25 * i);
    EXPECT_EQ(segment.chunks(i).frames().count(), 25);
    EXPECT_EQ(segment.chunks(i).output().sha256(), outputs[static_cast<size_t>(i)]);
    EXPECT_EQ(segment.chunks(i).output().size(), 7);
  }
  v1::CompletedItem item;
  item.set_token(encode[0].token());
  v1::TaskResult& result = *item.mutable_result();
  result.mutable_output()->set_sha256(*blobs_->Put("segment"));
  result.set_width(1000);
  result.set_height(1000);
  result.set_model_id(model_id_);
  result.set_frames(kFrames);
  result.set_seconds(7);
  EXPECT_EQ(Complete(worker_, item).code(), kOk);

  const auto outcomes = Outcomes(1);
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(outcomes[0].parts(), 1);
  EXPECT_EQ(outcomes[0].frames().count(), kFrames);
  EXPECT_EQ(outcomes[0].result().output().sha256(), *blobs_->Put("segment"));
  EXPECT_EQ(outcomes[0].result().frames_repeated(), 0 + 1 + 2 + 3);
  EXPECT_EQ(outcomes[0].result().tiles_repeated(), 40);
  EXPECT_EQ(outcomes[0].result().tiles_redone(), 4);
  EXPECT_EQ(outcomes[0].result().precision(), "bf16");
  EXPECT_DOUBLE_EQ(outcomes[0].result().seconds(), 407);
  EXPECT_DOUBLE_EQ(outcomes[0].result().compute_seconds(), 360);
  EXPECT_EQ(std::vector<int>(outcomes[0].result().frames_concealed().begin(), outcomes[0].result().frames_concealed().end()),
            (std::vector<int>{3, 28, 53, 78}));
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(Get(1).pixels_done(), Get(1).pixels_total());
  ASSERT_TRUE(CollectGivenUp(farm_).ok());
  for (const std::string& output : outputs) EXPECT_FALSE(IsThere(output)) << "not needed any more";
  EXPECT_TRUE(IsThere(outcomes[0].result().output().sha256()));
}

TEST_F(ChunkTest, AChunkThatFailsForGoodFailsItsSegment) {
  SubmitSlow(1, 0);
  const auto chunks = LeaseAll();
  ASSERT_EQ(chunks.size(), 4u);
  const std::string kept = OutputOf(chunks[0]);
  EXPECT_EQ(Fail(worker_, chunks[2], kBadInput, "0.mkv: a broken packet at 2.04 s").code(), kOk);
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_RUNNING) << "two chunks are still at work";
  EXPECT_EQ(Get(1).tasks_failed(), 2);
  auto outcomes = Outcomes(1);
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(outcomes[0].end(), v1::TASK_END_FAILED);
  EXPECT_EQ(outcomes[0].error(), "0.mkv: a broken packet at 2.04 s");
  EXPECT_EQ(outcomes[0].worker(), "w");
  EXPECT_EQ(outcomes[0].frames().count(), kFrames);
  EXPECT_EQ(Fail(worker_, chunks[3], kBadInput, "another").code(), kOk);
  OutputOf(chunks[1]);
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(Outcomes(1).size(), 1u);
  ExpectSound();

  CollectEverything();
  EXPECT_TRUE(IsThere(kept)) << "for the retry";
  Upload(0);
  const Result<v1::Job> retried = RetryJob(farm_, Id(1));
  ASSERT_TRUE(retried.ok());
  EXPECT_EQ(retried->tasks_queued(), 2);
  EXPECT_EQ(retried->tasks_waiting(), 1);
  EXPECT_TRUE(Outcomes(1).empty());
  ExpectSound();
  for (const v1::LeasedTask& task : LeaseAll()) OutputOf(task);
  const auto encode = Lease(worker_);
  ASSERT_EQ(encode.size(), 1u);
  EXPECT_EQ(encode[0].segment().chunks_size(), 4);
  EXPECT_EQ(encode[0].segment().chunks(0).output().sha256(), kept);
  OutputOf(encode[0]);
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(ChunkTest, ARetryWhileOtherChunksAreStillAtWork) {
  SubmitSlow(1, 0);
  const auto chunks = LeaseAll();
  Fail(worker_, chunks[0], kBadInput);
  ASSERT_TRUE(RetryJob(farm_, Id(1)).ok());
  EXPECT_EQ(Get(1).tasks_queued(), 1);
  EXPECT_EQ(Get(1).tasks_waiting(), 1);
  ExpectSound();
  for (size_t i = 1; i < 4; ++i) OutputOf(chunks[i]);
  OutputOf(Lease(worker_)[0]);
  const auto encode = Lease(worker_);
  ASSERT_EQ(encode.size(), 1u);
  EXPECT_EQ(encode[0].segment().step(), kEncode);
}

TEST_F(ChunkTest, AnEncodeTaskThatFailsIsRetriedWithItsChunks) {
  SubmitSlow(1, 0);
  std::vector<std::string> outputs;
  for (const v1::LeasedTask& task : LeaseAll()) outputs.push_back(OutputOf(task));
  for (int i = 0; i < 3; ++i) {
    const auto encode = Lease(worker_);
    ASSERT_EQ(encode.size(), 1u) << i;
    ASSERT_EQ(encode[0].segment().step(), kEncode);
    Fail(worker_, encode[0], kFault, "the encoder fell over");
    Pass(60'000);
    Heartbeat({worker_});
  }
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_FAILED);
  CollectEverything();
  for (const std::string& output : outputs) EXPECT_TRUE(IsThere(output));
  ASSERT_TRUE(RetryJob(farm_, Id(1)).ok());
  EXPECT_EQ(Get(1).tasks_queued(), 1) << "without its source";
  const auto encode = Lease(worker_);
  ASSERT_EQ(encode.size(), 1u);
  EXPECT_EQ(encode[0].segment().chunks_size(), 4);
  OutputOf(encode[0]);
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(ChunkTest, ATaskThatKillsItsWorkersTakesItsSegmentAlong) {
  SubmitSlow(1, 0);
  for (int death = 0; death < 3; ++death) {
    const auto held = Lease(worker_);
    ASSERT_EQ(held.size(), 1u) << death;
    ASSERT_EQ(held[0].segment().frames().first(), 0) << "the first chunk, alone from now on";
    worker_ = Register("w");
    // The others get done.
    if (death == 0) {
      clock_.AdvanceMs(100);
      for (const v1::LeasedTask& task : LeaseAll(3)) OutputOf(task);
    }
    Pass(60'000);
    Heartbeat({worker_});
  }
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_FAILED);
  const auto outcomes = Outcomes(1);
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_NE(outcomes[0].error().find("3 times"), std::string::npos) << outcomes[0].error();
}

TEST_F(ChunkTest, CancelAndDeleteLetTheChunksGo) {
  for (const bool failed_before : {false, true}) {
    const int job = failed_before ? 2 : 1;
    SubmitSlow(job, job);
    const auto chunks = LeaseAll();
    ASSERT_EQ(chunks.size(), 4u);
    const std::string output = OutputOf(chunks[0]);
    if (failed_before) Fail(worker_, chunks[1], kBadInput);
    const Result<v1::Job> cancelled = CancelJob(farm_, Id(job));
    ASSERT_TRUE(cancelled.ok());
    EXPECT_EQ(cancelled->state(), v1::JOB_STATE_CANCELLED);
    EXPECT_EQ(cancelled->tasks_cancelled(), failed_before ? 2 : 4);
    EXPECT_EQ(Complete(worker_, chunks[2]).code(), static_cast<int>(StatusCode::kCancelled));
    EXPECT_EQ(Outcomes(job).size(), 1u);
    ASSERT_TRUE(CollectGivenUp(farm_).ok());
    EXPECT_FALSE(IsThere(output));
    ExpectSound();
  }
  SubmitSlow(3, 3);
  const auto chunks = LeaseAll();
  const std::string output = OutputOf(chunks[0]);
  for (size_t i = 1; i < 4; ++i) Fail(worker_, chunks[i], kBadInput);
  ASSERT_EQ(Get(3).state(), v1::JOB_STATE_FAILED);
  ASSERT_TRUE(DeleteJob(farm_, Id(3)).ok());
  ASSERT_TRUE(CollectGivenUp(farm_).ok());
  EXPECT_FALSE(IsThere(output));
}

TEST_F(ChunkTest, WhatIsKnownIsNotComputedAgain) {
  SubmitSlow(1, 0);
  const auto chunks = LeaseAll();
  OutputOf(chunks[0]);
  v1::Job again = SubmitFile(2, SlowVideo(0));
  EXPECT_EQ(again.tasks_done(), 1) << "a chunk";
  EXPECT_EQ(again.tasks_queued(), 3);
  for (size_t i = 1; i < 4; ++i) OutputOf(chunks[i]);
  EXPECT_EQ(Get(2).tasks_done(), 4) << "one result serves both";
  EXPECT_EQ(Get(2).tasks_queued(), 1);
  // Another encoder takes the same frames.
  v1::SourceFile other = SlowVideo(0);
  other.mutable_video()->mutable_encode()->set_crf(30);
  again = SubmitFile(3, other);
  EXPECT_EQ(again.tasks_done(), 4);
  EXPECT_EQ(again.tasks_queued(), 1) << "its encode task, at once";
  other.mutable_video()->mutable_encode()->set_width(500);
  EXPECT_EQ(SubmitFile(4, other).tasks_done(), 0) << "frames of another size are others";
  ASSERT_TRUE(CancelJob(farm_, Id(4)).ok());

  const auto encodes = LeaseAll();
  ASSERT_EQ(encodes.size(), 2u);
  for (const v1::LeasedTask& encode : encodes) Complete(worker_, encode, encode.job_id());
  for (int job = 1; job <= 3; ++job) EXPECT_EQ(Get(job).state(), v1::JOB_STATE_SUCCEEDED) << job;
  ASSERT_TRUE(CollectGivenUp(farm_).ok());
  again = SubmitFile(5, SlowVideo(0));
  EXPECT_EQ(again.state(), v1::JOB_STATE_SUCCEEDED) << "the segment itself is there";
  EXPECT_EQ(again.tasks_done(), 1) << "and its chunks are not wanted";
  // In one piece it is the same segment.
  SetSpeed(worker_, 1000);
  again = SubmitFile(6, SlowVideo(0));
  EXPECT_EQ(again.state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(ChunkTest, TheWholeSegmentMayBeDoneMeanwhile) {
  SubmitSlow(1, 0);
  SetSpeed(worker_, 1000);
  SubmitFile(2, SlowVideo(0));
  ASSERT_TRUE(PrioritizeJob(farm_, Id(2), 1).ok());
  const auto whole = Lease(worker_);
  ASSERT_EQ(whole.size(), 1u);
  ASSERT_EQ(whole[0].segment().step(), v1::SEGMENT_STEP_WHOLE);
  const std::string output = OutputOf(whole[0]);
  EXPECT_EQ(Get(1).tasks_waiting(), 1) << "its chunks come first";
  for (const v1::LeasedTask& task : LeaseAll()) {
    ASSERT_EQ(task.segment().step(), kRestore);
    OutputOf(task);
  }
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(Outcomes(1)[0].result().output().sha256(), output);
}

TEST_F(ChunkTest, AnEncodeTaskIsLeasedAloneAndByAnyWorker) {
  v1::SourceFile in_place = SlowVideo(0);
  in_place.mutable_in_place()->set_root_id("nas");
  in_place.mutable_in_place()->set_path("x.mkv");
  SubmitFile(1, in_place);
  EXPECT_TRUE(Lease(worker_).empty()) << "cannot read the source";
  const std::string sees = Register("sees", {"nas"});
  for (int i = 0; i < 4; ++i) {
    const auto task = Lease(sees);
    ASSERT_EQ(task.size(), 1u);
    Complete(sees, task[0]);
  }
  SubmitSlow(2, 2);
  SetSpeed(worker_, 1e6);
  const auto encode = Lease(worker_, 64);
  ASSERT_EQ(encode.size(), 1u);
  EXPECT_EQ(encode[0].segment().step(), kEncode);
  EXPECT_EQ(Lease(worker_, 64).size(), 2u) << "half of the chunks, not one at a time";
}

TEST_F(ChunkTest, AFullStoreStillEncodes) {
  OpenStore(20'000);
  SubmitSlow(1, 0);
  SubmitSlow(2, 1);
  ASSERT_TRUE(PrioritizeJob(farm_, Id(1), 1).ok());
  for (const v1::LeasedTask& task : LeaseAll(4)) OutputOf(task);
  ASSERT_TRUE(blobs_->Put(std::string(17'500, 'x')).ok());
  ASSERT_FALSE(blobs_->HasRoom());
  const auto encode = LeaseAll();
  ASSERT_EQ(encode.size(), 1u) << "no chunk of the other video";
  EXPECT_EQ(encode[0].segment().step(), kEncode);
  OutputOf(encode[0]);
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_TRUE(Lease(worker_).empty());
}

TEST_F(ChunkTest, AWaitingEncodeTaskIsNoSource) {
  SubmitSlow(1, 0);
  for (const v1::LeasedTask& task : LeaseAll()) OutputOf(task);
  bool any = true;
  ASSERT_TRUE(database_
                  ->Read([&](Transaction& t) {
                    any = AnySourceStored(t);
                    return OkStatus();
                  })
                  .ok());
  EXPECT_FALSE(any);
  EXPECT_EQ(Get(1).tasks_queued(), 1);
}

TEST_F(ChunkTest, ClientsCannotMarkChunksFetched) {
  SubmitSlow(1, 0);
  const auto chunks = LeaseAll();
  const std::string output = OutputOf(chunks[0]);
  ASSERT_TRUE(MarkJobFetched(farm_, Id(1), {chunks[0].task_id()}).ok());
  CollectEverything();
  EXPECT_TRUE(IsThere(output));
}

TEST_F(ChunkTest, TheAuditFindsBrokenNeeds) {
  const char* const breaks[] = {
      "UPDATE task SET state = 'queued' WHERE state = 'waiting'",
      "INSERT INTO task_need SELECT max(id) + 100, max(id) FROM task",
  };
  SubmitSlow(1, 0);
  const auto run = [&](const char* sql) {
    return Write([&](Transaction& t) {
      t.connection().Execute(sql);
      return OkStatus();
    });
  };
  ASSERT_TRUE(run(breaks[0]));
  const Status found = database_->Read([](Transaction& t) { return Audit(t); });
  EXPECT_NE(found.message().find("needs"), std::string::npos) << found;
  ASSERT_TRUE(run("DELETE FROM task_need"));
  ASSERT_FALSE(database_
                   ->Write([&](Transaction& t) {
                     t.connection().Execute(breaks[1]);
                     return OkStatus();
                   })
                   .ok());
}

// Whatever workers and the user do, in any order: the audit finds nothing, and a job that is not cancelled can be brought to its end.
TEST_F(ChunkTest, AnyOrderOfEventsKeepsTheInvariants) {
  for (const uint32_t seed : {1u, 2u, 3u}) {
    std::mt19937 random(seed);
    const auto pick = [&](int most) { return std::uniform_int_distribution<int>(0, most)(random); };
    const int job = static_cast<int>(10 * seed);
    SetSpeed(worker_, kSlow);
    SubmitSlow(job, job);
    SubmitFile(job + 1, SlowVideo(job));  // a twin
    SetSpeed(worker_, 1000);
    SubmitFile(job + 2, SlowVideo(job));  // in one piece
    std::vector<std::pair<std::string, v1::LeasedTask>> held;
    std::string other = Register("other");
    for (int step = 0; step < 60; ++step) {
      const int event = pick(9);
      if (event <= 2) {
        const std::string& session = pick(1) == 0 ? worker_ : other;
        for (const v1::LeasedTask& task : Lease(session, 3)) held.emplace_back(session, task);
      } else if (event <= 7 && !held.empty()) {
        const size_t which = static_cast<size_t>(pick(static_cast<int>(held.size()) - 1));
        const auto [session, task] = held[which];
        switch (event) {
          case 3: Fail(session, task, kBadInput); break;
          case 4: Fail(session, task, kFault); break;
          case 5: Release(session, task); break;
          default: Complete(session, task, std::to_string(task.segment().step())); break;
        }
        if (pick(1) == 0) held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));  // or once more
      } else if (event == 8) {
        ASSERT_TRUE(RetryJob(farm_, Id(job + pick(2))).ok());
      } else {
        Pass(pick(3) == 0 ? 61'000 : 3000);
        ASSERT_TRUE(CollectGivenUp(farm_).ok());
        Heartbeat({worker_, other});
      }
      const Status sound = database_->Read([](Transaction& t) { return Audit(t); });
      ASSERT_TRUE(sound.ok()) << "seed " << seed << ", step " << step << ": " << sound;
    }
    const auto all_done = [&] {
      for (int i = 0; i < 3; ++i) {
        if (Get(job + i).state() != v1::JOB_STATE_SUCCEEDED) return false;
      }
      return true;
    };
    for (int round = 0; round < 100 && !all_done(); ++round) {
      Pass(600'000);
      Heartbeat({worker_});
      Upload(job);
      for (int i = 0; i < 3; ++i) ASSERT_TRUE(RetryJob(farm_, Id(job + i)).ok());
      for (const v1::LeasedTask& task : LeaseAll()) Complete(worker_, task, std::to_string(task.segment().step()));
      ExpectSound();
    }
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(Get(job + i).state(), v1::JOB_STATE_SUCCEEDED) << "seed " << seed << ", job " << i;
      EXPECT_EQ(Outcomes(job + i).size(), 1u);
    }
  }
}

// What is planned for a video of 40 seconds at 25 frames a second.
TEST_F(ChunkTest, SlowerFarmsGetShorterSegmentsThenChunks) {
  v1::JobManifest manifest;
  *manifest.add_files() = Video(0, 1000, 25, 1000, 1000);
  v1::RestoreOptions options;
  options.set_split_pixels(1);
  VideoIndex index;
  for (int i = 0; i < 1000; ++i) index.pts.push_back(i * 40);
  for (int i = 0; i < 1000; i += 25) index.key_frames.push_back({i, i});
  const struct {
    double speed;
    const char* plan;  // w, c, e: whole, chunk, encode; with their frames
  } rows[] = {
      {1000, "w250 w250 w250 w250"},
      // 300 frames in ten minutes: 256 in steps
      {0.5, "w250 w250 w250 w250"},
      // 240: 192
      {0.4, "w150 w150 w150 w150 w150 w150 w100"},
      // 150: 128
      {0.25, "w100 w100 w100 w100 w100 w100 w100 w100 w100 w100"},
      // 120: 96
      {0.2,
       "c50 c50 e100 c50 c50 e100 c50 c50 e100 c50 c50 e100 c50 c50 e100 c50 c50 e100 c50 c50 e100 c50 c50 e100 c50 c50 e100 c50 c50 e100"},
  };
  const auto plan_at = [&](double speed) {
    const auto plan = SplitJob(manifest, options, TileSpec(), "1", speed, [&](int) { return index; });
    EXPECT_TRUE(plan.ok()) << plan.status();
    return *plan;
  };
  for (const auto& row : rows) {
    std::string text;
    for (const PlannedTask& task : plan_at(row.speed)) {
      const char* const step = task.step == TaskStep::kWhole ? "w" : task.step == TaskStep::kChunk ? "c" : "e";
      text += (text.empty() ? "" : " ") + std::string(step) + std::to_string(task.frames->count);
    }
    EXPECT_EQ(text, row.plan) << "at " << row.speed << " MP/s";
  }
  const auto slowest = plan_at(1e-9);
  EXPECT_EQ(slowest.size(), 1000u + 10u) << "a frame a chunk, however long it takes";
  // The same work has the same key, cut so or so.
  const auto chunked = plan_at(0.2), finer = plan_at(0.05);
  EXPECT_EQ(chunked[2].result_key, finer[5].result_key);
  EXPECT_NE(chunked[0].result_key, chunked[2].result_key);
  options.set_static_threshold(2);
  EXPECT_NE(plan_at(0.2)[2].result_key, plan_at(0.05)[5].result_key) << "a threshold depends on where one begins";
}

TEST(EstimateSpeed, ByArchitecture) {
  ModelCard card;
  const auto estimate = [&](const char* architecture, std::map<std::string, int64_t> parameters, int scale) {
    card.architecture = architecture;
    card.parameters = std::move(parameters);
    card.scale = scale;
    return EstimateSpeed(card, 2'000'000);
  };
  EXPECT_EQ(estimate("identity", {}, 1), 30);
  EXPECT_NEAR(estimate("light", {{"features", 48}, {"layers", 8}}, 1), 60e3 / 44'064, 1e-9);
  EXPECT_NEAR(estimate("srvgg-compact", {{"features", 64}, {"layers", 18}}, 4), 60e3 / (9 * (192 + 16 * 4096 + 64 * 48)), 1e-9);
  EXPECT_NEAR(estimate("ns-iqe", {{"features", 64}, {"blocks", 16}}, 1), 60e3 / 2.3e6, 0.1 * 60e3 / 2.3e6);
  EXPECT_LT(estimate("unet", {{"features", 48}, {"blocks", 2}}, 1), 60e3 / 120e3);
  EXPECT_NEAR(estimate("something new", {}, 1), 60e3 / 1e6, 1e-9);
}

}  // namespace
}  // namespace nsic
