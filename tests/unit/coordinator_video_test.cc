// What the coordinator does with videos: what it refuses, how it cuts them, what a segment's lease says and which results it takes.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "coordinator/check_manifest.h"
#include "coordinator/split_job.h"
#include "tests/unit/coordinator_fixture.h"

namespace nsic {
namespace {

constexpr int kOk = 0;

class VideoTest : public FarmTest {
 protected:
  v1::Job SubmitVideo(int job, const v1::SourceFile& file) {
    const Result<v1::Job> submitted = AcceptSubmit(farm_, Request(job, std::vector<v1::SourceFile>{file}));
    EXPECT_TRUE(submitted.ok()) << submitted.status();
    return submitted.ok() ? *submitted : v1::Job();
  }
};

TEST_F(VideoTest, BadVideosAreRefused) {
  using Change = std::function<void(v1::SourceFile*)>;
  const struct {
    const char* message;
    Change change;
  } rows[] = {
      {"frame rate", [](auto* f) { f->mutable_video()->clear_frame_rate(); }},
      {"CRF", [](auto* f) { f->mutable_video()->mutable_encode()->set_crf(std::numeric_limits<double>::quiet_NaN()); }},
      {"no index", [](auto* f) { f->mutable_video()->clear_index(); }},
      {"no index", [](auto* f) { f->mutable_video()->mutable_index()->set_sha256("../../etc/passwd"); }},
      {"0 bytes", [](auto* f) { f->mutable_video()->mutable_index()->set_size(0); }},
      {"at most", [](auto* f) { f->mutable_video()->mutable_index()->set_size(kMaxIndexBytes + 1); }},
      {"for 0 frames", [](auto* f) { f->mutable_video()->clear_range(); }},
      {"from frame -1", [](auto* f) { f->mutable_video()->mutable_range()->set_first(-1); }},
      {"from frame 2147483647", [](auto* f) { f->mutable_video()->mutable_range()->set_first(std::numeric_limits<int32_t>::max()); }},
      {"but has 1000", [](auto* f) { f->mutable_video()->mutable_range()->set_count(1001); }},
      {"but has 1000", [](auto* f) { f->mutable_video()->mutable_range()->set_first(1); }},
      {"which is none", [this](auto* f) { f->mutable_video()->mutable_index()->set_sha256(*blobs_->Put("\xff\xff\xff\xff junk")); }},
      {"no frames",
       [this](auto* f) {
         *f->mutable_video()->mutable_index() = StoreIndex({{}, {{0, 0}}});
       }},
      {"neither", [](auto* f) { f->clear_video(); }},
  };
  int job = 0;
  for (const auto& row : rows) {
    v1::SourceFile bad = Video(1, 1000);
    row.change(&bad);
    const Status status = AcceptSubmit(farm_, Request(++job, std::vector<v1::SourceFile>{Source(0), bad})).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << row.message << ": " << status;
    EXPECT_NE(status.message().find("file 1 "), std::string::npos) << row.message << ": " << status;
    EXPECT_NE(status.message().find(row.message), std::string::npos) << row.message << ": " << status;
  }
  v1::SourceFile no_index = Video(1, 1000);
  no_index.mutable_video()->mutable_index()->set_sha256(std::string(64, 'd'));
  const Status status = AcceptSubmit(farm_, Request(++job, std::vector<v1::SourceFile>{no_index})).status();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
  EXPECT_NE(status.message().find("video 1.mkv"), std::string::npos) << status;
  v1::VideoIndex backwards;
  for (const int64_t delta : {0, 40, -40}) backwards.add_pts_deltas(delta);
  backwards.add_key_frames(0);
  backwards.add_key_positions(0);
  v1::SourceFile bad = Video(1, 3);
  bad.mutable_video()->mutable_index()->set_sha256(*blobs_->Put(backwards.SerializeAsString()));
  EXPECT_NE(AcceptSubmit(farm_, Request(++job, std::vector<v1::SourceFile>{bad})).status().message().find("increasing"), std::string::npos);
}

TEST_F(VideoTest, AVideoBecomesSegmentsThatSayEverything) {
  const v1::SourceFile video = Video(7, 1000, 60, 320, 180);
  const v1::Job job = SubmitVideo(1, video);
  EXPECT_EQ(job.tasks_waiting(), 5) << "for the upload of the source";
  EXPECT_EQ(job.pixels_total(), 1000 * 320 * 180);
  Upload(7);
  EXPECT_EQ(Get(1).tasks_queued(), 5);
  const std::string worker = Register("w");
  SetSpeed(worker, 1000);
  const auto tasks = Lease(worker, 64);
  ASSERT_EQ(tasks.size(), 5u);
  const int firsts[] = {0, 240, 480, 720, 900};
  const int counts[] = {240, 240, 240, 180, 100};
  for (size_t i = 0; i < tasks.size(); ++i) {
    const v1::LeasedTask& task = tasks[i];
    EXPECT_EQ(task.source().SerializeAsString(), video.SerializeAsString());
    EXPECT_FALSE(task.has_region());
    const Result<Segment> segment = FromMessage(task.segment());
    ASSERT_TRUE(segment.ok()) << segment.status();
    EXPECT_EQ(segment->first, firsts[i]);
    EXPECT_EQ(segment->pts.size(), static_cast<size_t>(counts[i]));
    EXPECT_EQ(segment->pts.front(), 40 * firsts[i]);
    EXPECT_EQ(segment->pts.back() - segment->pts.front(), 40 * static_cast<int64_t>(segment->pts.size() - 1));
    EXPECT_EQ(segment->starts.front().pts, 40 * firsts[i]) << "a key frame";
    EXPECT_EQ(segment->starts.back().pts, 0) << "the very first key frame is always there";
    EXPECT_EQ(segment->starts.size(), i == 0 ? 1u : 5u);
    EXPECT_EQ(segment->starts.front().position, 1000 * firsts[i]);
    EXPECT_EQ(Complete(worker, task).code(), kOk);
  }
  const auto outcomes = Outcomes(1);
  ASSERT_EQ(outcomes.size(), 5u);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    EXPECT_EQ(outcomes[i].parts(), 5);
    EXPECT_FALSE(outcomes[i].has_region());
    EXPECT_EQ(outcomes[i].frames().first(), firsts[i]);
    EXPECT_EQ(outcomes[i].frames().count(), counts[i]);
    EXPECT_EQ(outcomes[i].result().frames(), outcomes[i].frames().count());
  }
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(Get(1).pixels_done(), Get(1).pixels_total());
}

TEST_F(VideoTest, PicturesAndVideosMix) {
  v1::SourceFile in_place = Video(3, 600);
  in_place.mutable_in_place()->set_root_id("nas");
  in_place.mutable_in_place()->set_path("x.mkv");
  ASSERT_TRUE(AcceptSubmit(farm_, Request(1, std::vector<v1::SourceFile>{Source(0), in_place, Source(1)})).ok());
  EXPECT_EQ(Get(1).tasks_waiting(), 2);
  EXPECT_EQ(Get(1).tasks_queued(), 3);
  const std::string blind = Register("blind"), sees = Register("sees", {"nas"});
  EXPECT_TRUE(Lease(blind).empty());
  const auto tasks = Lease(sees);
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks[0].source().in_place().path(), "x.mkv");
  EXPECT_EQ(tasks[0].file_index(), 1);
  Upload(0);
  const auto picture = Lease(blind);
  ASSERT_EQ(picture.size(), 1u);
  EXPECT_FALSE(picture[0].has_segment());
}

TEST_F(VideoTest, OnlyTheRangeIsRestored) {
  v1::SourceFile video = Video(0, 1000);
  video.mutable_video()->mutable_range()->set_first(333);
  video.mutable_video()->mutable_range()->set_count(10);
  const v1::Job job = SubmitVideo(1, video);
  EXPECT_EQ(job.pixels_total(), 10 * 100 * 100);
  Upload(0);
  const auto tasks = Lease(Register("w"));
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks[0].segment().frames().first(), 333);
  EXPECT_EQ(tasks[0].segment().frames().count(), 10);
  EXPECT_EQ(tasks[0].segment().starts(0).pts(), 40 * 300);
}

TEST_F(VideoTest, ResultsThatAreNotTheSegmentAreRefused) {
  SubmitVideo(1, Video(0, 300, 100));
  Upload(0);
  const std::string worker = Register("w");
  const auto first = Lease(worker)[0];
  ASSERT_EQ(Complete(worker, first).code(), kOk);
  const auto task = Lease(worker)[0];
  ASSERT_EQ(task.segment().frames().first(), 200);
  v1::CompletedItem good;
  good.set_token(task.token());
  good.mutable_result()->mutable_output()->set_sha256(*blobs_->Put("segment"));
  good.mutable_result()->set_width(100);
  good.mutable_result()->set_height(100);
  good.mutable_result()->set_model_id(model_id_);
  good.mutable_result()->set_frames(100);
  good.mutable_result()->set_frames_repeated(100);
  good.mutable_result()->add_frames_concealed(200);
  good.mutable_result()->add_frames_concealed(299);
  using Change = std::function<void(v1::TaskResult*)>;
  const struct {
    const char* what;
    Change change;
  } rows[] = {
      {"no frames", [](auto* r) { r->clear_frames(); }},
      {"a frame less", [](auto* r) { r->set_frames(99); }},
      {"a frame more", [](auto* r) { r->set_frames(101); }},
      {"repeats more than there are", [](auto* r) { r->set_frames_repeated(101); }},
      {"repeats less than none", [](auto* r) { r->set_frames_repeated(-1); }},
      {"repeats less than no tiles", [](auto* r) { r->set_tiles_repeated(-1); }},
      {"conceals a frame before", [](auto* r) { r->set_frames_concealed(0, 199); }},
      {"conceals a frame after", [](auto* r) { r->set_frames_concealed(1, 300); }},
      {"conceals a frame twice", [](auto* r) { r->set_frames_concealed(1, 200); }},
  };
  for (const auto& row : rows) {
    v1::CompletedItem item = good;
    row.change(item.mutable_result());
    EXPECT_EQ(Complete(worker, item).code(), static_cast<int>(StatusCode::kInvalidArgument)) << row.what;
    EXPECT_EQ(Get(1).tasks_leased(), 1) << row.what;
  }
  EXPECT_EQ(Complete(worker, good).code(), kOk);
  EXPECT_EQ(Outcomes(1)[1].result().frames_concealed_size(), 2);
}

TEST_F(VideoTest, KnownSegmentsAreNotComputedAgain) {
  SubmitVideo(1, Video(0, 500, 250));
  Upload(0);
  const std::string worker = Register("w");
  EXPECT_EQ(Complete(worker, Lease(worker)[0]).code(), kOk);
  const v1::Job again = SubmitVideo(2, Video(0, 500, 250));
  EXPECT_EQ(again.tasks_done(), 1);
  EXPECT_EQ(again.tasks_queued(), 1);
  EXPECT_EQ(Complete(worker, Lease(worker)[0]).code(), kOk);
  EXPECT_EQ(Get(1).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(Get(2).state(), v1::JOB_STATE_SUCCEEDED) << "one result serves both";
}

TEST_F(VideoTest, AnIndexStaysAsLongAsItsJob) {
  const v1::SourceFile video = Video(0, 100);
  const std::string index = video.video().index().sha256();
  SubmitVideo(1, video);
  Upload(0);
  const std::string worker = Register("w");
  EXPECT_EQ(Complete(worker, Lease(worker)[0]).code(), kOk);
  clock_.AdvanceMs(30 * kFetchedOutputMs);
  ASSERT_TRUE(CollectGivenUp(farm_).ok());
  ASSERT_TRUE(CollectOld(farm_).ok());
  ASSERT_TRUE(MakeRoom(farm_, int64_t{1} << 40).ok());
  EXPECT_TRUE(blobs_->Examine(index)->stored);
  EXPECT_FALSE(blobs_->Examine(Sha256Hex(SourceBytes(0)))->stored);
  ASSERT_TRUE(DeleteJob(farm_, Id(1)).ok());
  clock_.AdvanceMs(kUnmentionedBlobMs);
  ASSERT_TRUE(CollectGivenUp(farm_).ok());
  EXPECT_FALSE(blobs_->Examine(index)->stored);
}

TEST_F(VideoTest, SegmentsAreLeasedBySpeed) {
  SubmitVideo(1, Video(0, 2500, 250, 1000, 1000));  // ten of 250 megapixels
  Upload(0);
  const std::string slow = Register("slow");
  SetSpeed(slow, 1);
  EXPECT_EQ(Lease(slow, 64).size(), 1u) << "more than a minute's work, but one there must be";
  EXPECT_TRUE(Lease(slow, 64).size() == 1u) << "a worker that asks for more gets more";
  const std::string fast = Register("fast");
  SetSpeed(fast, 12.6);
  EXPECT_EQ(Lease(fast, 64).size(), 3u);
}

TEST_F(VideoTest, ALeaseOfTheLargestSegmentsFitsAMessage) {
  // As many frames as a segment takes, in a time base that makes their stamps long.
  v1::SourceFile dense = Video(0, 1);
  VideoIndex index;
  const int frames = kMaxSegmentFrames * kMaxBatch;
  for (int i = 0; i < frames; ++i) index.pts.push_back(int64_t{i} * 2'000'000);
  for (int i = 0; i < frames; i += 50) index.key_frames.push_back({i, int64_t{1} << 60});
  *dense.mutable_video()->mutable_index() = StoreIndex(index);
  dense.mutable_video()->mutable_time_base()->set_den(1'000'000'000);
  dense.mutable_video()->mutable_range()->set_count(frames);
  dense.set_path(std::string(kMaxNameBytes, 'n') + "/" + std::string(kMaxNameBytes, 'n'));
  SubmitVideo(1, dense);
  Upload(0);
  const std::string worker = Register("w");
  SetSpeed(worker, 1e6);
  const auto tasks = Lease(worker, 64);
  EXPECT_EQ(tasks.size(), static_cast<size_t>(kMaxBatch));
  size_t bytes = 0, most = 0;
  for (const v1::LeasedTask& task : tasks) {
    bytes += task.ByteSizeLong();
    most = std::max(most, static_cast<size_t>(task.segment().frames().count()));
  }
  EXPECT_GT(most, size_t{2900}) << "six seconds of them";
  EXPECT_LT(bytes, static_cast<size_t>(kMaxMessageBytes) / 2);
}

TEST_F(VideoTest, OutcomesComeInPiecesThatFitAMessage) {
  const int segments = 1200;
  SubmitVideo(1, Video(0, segments * 250, 250, 16, 16));
  Upload(0);
  // Every frame concealed.
  const std::string worker = Register("w");
  SetSpeed(worker, 1e6);
  const std::string output = *blobs_->Put("output");
  for (int done = 0; done < segments;) {
    for (const v1::LeasedTask& task : Lease(worker, 64)) {
      v1::CompletedItem item;
      item.set_token(task.token());
      item.mutable_result()->mutable_output()->set_sha256(output);
      item.mutable_result()->set_width(16);
      item.mutable_result()->set_height(16);
      item.mutable_result()->set_model_id(model_id_);
      const v1::FrameRange& frames = task.segment().frames();
      item.mutable_result()->set_frames(frames.count());
      for (int i = 0; i < frames.count(); ++i) item.mutable_result()->add_frames_concealed(frames.first() + i);
      item.mutable_result()->set_device(std::string(8000, 'd'));
      ASSERT_EQ(Complete(worker, item).code(), kOk);
      ++done;
    }
  }
  int64_t after = 0;
  int seen = 0, pieces = 0;
  while (true) {
    std::vector<v1::TaskOutcome> outcomes;
    ASSERT_TRUE(database_
                    ->Read([&](Transaction& t) -> Status {
                      NSIC_ASSIGN_OR_RETURN(outcomes, DescribeOutcomes(t, Id(1), after, 1000));
                      return OkStatus();
                    })
                    .ok());
    if (outcomes.empty()) break;
    size_t bytes = 0;
    for (const v1::TaskOutcome& outcome : outcomes) bytes += outcome.ByteSizeLong();
    EXPECT_LT(bytes, size_t{8} << 20);
    seen += static_cast<int>(outcomes.size());
    ++pieces;
    after = outcomes.back().sequence();
  }
  EXPECT_EQ(seen, segments);
  EXPECT_GT(pieces, 2);
}

class SegmentKeyTest : public FarmTest {};

TEST_F(SegmentKeyTest, OnlyWhatMattersIsInIt) {
  v1::JobManifest base_manifest;
  *base_manifest.add_files() = Video(0, 500, 250);
  v1::RestoreOptions base;
  base.set_model_id(std::string(64, 'a'));
  base.set_strength(1);
  base.set_format("png");
  base.set_jpeg_quality(95);
  base.set_split_pixels(1);
  VideoIndex index;
  for (int i = 0; i < 500; ++i) index.pts.push_back(i * 40);
  index.key_frames = {{0, 0}, {250, 5000}};
  const auto keys = [&](const v1::JobManifest& manifest, const v1::RestoreOptions& options, const VideoIndex& of,
                        const std::string& version = "1") {
    std::vector<std::string> result;
    const auto plan = SplitJob(manifest, options, TileSpec(), version, 30, [&](int) { return of; });
    EXPECT_TRUE(plan.ok()) << plan.status();
    for (const PlannedTask& task : *plan) result.push_back(task.result_key);
    return result;
  };
  const std::vector<std::string> usual = keys(base_manifest, base, index);
  ASSERT_EQ(usual.size(), 2u);
  EXPECT_NE(usual[0], usual[1]);
  EXPECT_NE(keys(base_manifest, base, index, "2")[0], usual[0]);

  const struct {
    const char* what;
    bool matters;
    std::function<void(v1::RestoreOptions*)> change;
  } options[] = {
      {"name of the model", false, [](auto* o) { o->set_model_name("other"); }},
      {"model", true, [](auto* o) { o->set_model_id(std::string(64, 'b')); }},
      {"strength", true, [](auto* o) { o->set_strength(0.5); }},
      {"sharpen", true, [](auto* o) { o->set_sharpen(0.5); }},
      {"scale", true, [](auto* o) { o->set_scale(2); }},
      {"format of pictures", false, [](auto* o) { o->set_format("jpg"); }},
      {"quality of pictures", false, [](auto* o) { o->set_jpeg_quality(50); }},
      {"split of pictures", false, [](auto* o) { o->set_split_pixels(7); }},
      {"static threshold", true, [](auto* o) { o->set_static_threshold(1); }},
      {"tolerate", true, [](auto* o) { o->set_tolerate(true); }},
  };
  for (const auto& row : options) {
    v1::RestoreOptions changed = base;
    row.change(&changed);
    EXPECT_EQ(keys(base_manifest, changed, index)[0] != usual[0], row.matters) << row.what;
  }
  const struct {
    const char* what;
    bool matters;
    std::function<void(v1::SourceFile*)> change;
  } files[] = {
      {"path", false, [](auto* f) { f->set_path("other.mkv"); }},
      {"content", true, [](auto* f) { f->mutable_content()->set_sha256(std::string(64, 'c')); }},
      {"colour", true, [](auto* f) { f->mutable_video()->mutable_colour()->set_matrix(9); }},
      {"deinterlace", true, [](auto* f) { f->mutable_video()->set_deinterlace(true); }},
      {"crf", true, [](auto* f) { f->mutable_video()->mutable_encode()->set_crf(19); }},
      {"threads", true, [](auto* f) { f->mutable_video()->mutable_encode()->set_threads(4); }},
      {"container", false, [](auto* f) { f->mutable_video()->mutable_encode()->set_container("mp4"); }},
      {"index blob", false, [](auto* f) { f->mutable_video()->mutable_index()->set_sha256(std::string(64, 'e')); }},
      {"range behind", false, [](auto* f) { f->mutable_video()->mutable_range()->set_count(490); }},
  };
  for (const auto& row : files) {
    v1::JobManifest changed = base_manifest;
    row.change(changed.mutable_files(0));
    EXPECT_EQ(keys(changed, base, index)[0] != usual[0], row.matters) << row.what;
  }
  VideoIndex other = index;
  other.pts.back() += 5;
  EXPECT_EQ(keys(base_manifest, base, other)[0], usual[0]) << "the other segment's time stamps";
  EXPECT_NE(keys(base_manifest, base, other)[1], usual[1]);
  other = index;
  other.key_frames[0].position = 77;
  EXPECT_EQ(keys(base_manifest, base, other), usual) << "where decoding starts";
}

TEST(CutSegment, StartsFromKeyFramesBefore) {
  VideoIndex index;
  for (int i = 0; i < 100; ++i) index.pts.push_back(i * 10);
  for (int i = 0; i < 100; i += 10) index.key_frames.push_back({i, i * 1000});
  const struct {
    FrameSpan frames;
    std::vector<int64_t> starts;
  } rows[] = {
      {{0, 5}, {0}},
      {{9, 5}, {0}},
      {{10, 5}, {100, 0}},
      {{35, 10}, {300, 200, 100, 0}},
      {{45, 10}, {400, 300, 200, 100, 0}},
      {{99, 1}, {900, 800, 700, 600, 0}},
  };
  for (const auto& row : rows) {
    const Segment segment = CutSegment(index, row.frames);
    std::vector<int64_t> starts;
    for (const Segment::Start& start : segment.starts) {
      starts.push_back(start.pts);
      EXPECT_EQ(start.position, start.pts * 100);
    }
    EXPECT_EQ(starts, row.starts) << "from frame " << row.frames.first;
    EXPECT_EQ(segment.first, row.frames.first);
    EXPECT_EQ(segment.pts.size(), static_cast<size_t>(row.frames.count));
    EXPECT_EQ(segment.pts.front(), row.frames.first * 10);
  }
}

// A film of two hours at 24 frames a second: counts here, seconds and memory in tests/bench/plan_bench.cc.
TEST_F(VideoTest, TwoHoursAreAFewHundredTasks) {
  const v1::SourceFile video = Video(0, 172'800, 48, 1920, 1080);
  EXPECT_LT(video.video().index().size(), 400'000);
  const v1::Job job = SubmitVideo(1, video);
  EXPECT_EQ(job.tasks_waiting(), 720);
  EXPECT_EQ(job.pixels_total(), int64_t{172'800} * 1920 * 1080);
  Upload(0);
  EXPECT_EQ(Get(1).tasks_queued(), 720);
  EXPECT_EQ(CancelJob(farm_, Id(1))->tasks_cancelled(), 720);
}

}  // namespace
}  // namespace nsic
