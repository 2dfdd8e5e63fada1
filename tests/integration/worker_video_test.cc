// Segments of videos through a whole worker: files made on the spot by the ffmpeg command line, which also decodes what comes back.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/digest.h"
#include "core/base/files.h"
#include "core/media/index_video.h"
#include "core/media/plan_encode.h"
#include "core/media/video.h"
#include "core/rpc/blob_transfer.h"
#include "core/rpc/channel.h"
#include "core/rpc/video_messages.h"
#include "tests/fakes/worker_fixture.h"
#include "tests/unit/random_packs.h"
#include "worker/range_source.h"

namespace nsic {
namespace {

struct Film {
  std::string path;
  VideoProbe probe;
  VideoIndex index;
  EncodePlan plan;
};

class VideoWorkerTest : public WorkerTest {
 protected:
  // `arguments` of ffmpeg between its input and the output's name. 60 frames of 96x64 that are all different, unless they say otherwise.
  std::string MakeFile(const std::string& name, const std::string& arguments,
                       const std::string& input = "testsrc2=size=96x64:rate=25:duration=2.4") {
    const std::string command = "ffmpeg -v error -nostdin -y -f lavfi -i '" + input + "' " + arguments + " '" + Path(name) + "' 2>&1";
    FILE* const pipe = ::popen(command.c_str(), "r");
    std::string said;
    char buffer[512];
    while (pipe != nullptr && std::fgets(buffer, sizeof buffer, pipe) != nullptr) said += buffer;
    EXPECT_EQ(::pclose(pipe), 0) << command << "\n" << said;
    return Path(name);
  }
  Film Examine(const std::string& path, const std::string& codec = "ffv1", int scale = 1) {
    Film film;
    film.path = path;
    const Result<VideoProbe> probe = ProbeVideo(path);
    EXPECT_TRUE(probe.ok()) << probe.status();
    if (!probe.ok()) return film;
    film.probe = *probe;
    const Result<VideoIndex> index = IndexVideo(path, probe->info, true, CancelToken(), [](double) {});
    EXPECT_TRUE(index.ok()) << index.status();
    if (index.ok()) film.index = *index;
    EncodeOptions options;
    options.codec = codec;
    const Result<EncodePlan> plan = PlanEncode(*probe, options, scale);
    EXPECT_TRUE(plan.ok()) << plan.status();
    if (plan.ok()) film.plan = *plan;
    return film;
  }
  Film Make(const std::string& name, const std::string& arguments, const std::string& codec = "ffv1") {
    return Examine(MakeFile(name, arguments), codec);
  }

  // A lease on `count` frames from number `first` on, the file uploaded.
  v1::LeasedTask Lease(const std::string& token, const Film& film, int first, int count) {
    const std::string bytes = Slurp(film.path);
    v1::LeasedTask task = IdentityTask(&coordinator_, token, bytes, 1, 1);
    ToMessage(film.probe.info, film.plan, task.mutable_source()->mutable_video());
    task.mutable_source()->set_path("album/" + std::filesystem::path(film.path).filename().string());
    Segment segment;
    segment.first = first;
    segment.pts.assign(film.index.pts.begin() + first, film.index.pts.begin() + first + count);
    for (auto key = film.index.key_frames.rbegin(); key != film.index.key_frames.rend(); ++key) {
      const bool very_first = key->frame == 0;
      if (key->frame <= first && (segment.starts.size() < 4 || very_first)) {
        segment.starts.push_back({film.index.pts[static_cast<size_t>(key->frame)], key->position});
      }
    }
    ToMessage(segment, task.mutable_segment());
    return task;
  }
  v1::LeasedTask LeaseInPlace(const std::string& token, const Film& film, const std::string& name) {
    v1::LeasedTask task = Lease(token, film, 0, static_cast<int>(film.index.pts.size()));
    Spill(Path("root/" + name), Slurp(film.path));
    task.mutable_source()->mutable_in_place()->set_root_id("home");
    task.mutable_source()->mutable_in_place()->set_path(name);
    coordinator_.blobs.stored.erase(task.source().content().sha256());
    return task;
  }

  // A hash of each decoded frame's samples.
  std::vector<std::string> Frames(const std::string& path) {
    std::vector<std::string> hashes;
    FILE* const pipe =
        ::popen(("ffmpeg -v error -nostdin -i '" + path + "' -map 0:v:0 -fps_mode passthrough -f framemd5 - 2>&1").c_str(), "r");
    char line[512];
    while (pipe != nullptr && std::fgets(line, sizeof line, pipe) != nullptr) {
      const std::string text(line);
      if (text[0] != '#') hashes.push_back(text.substr(text.rfind(' ') + 1));
    }
    EXPECT_EQ(::pclose(pipe), 0) << path;
    return hashes;
  }
  std::vector<std::string> OutputFrames(const std::string& token) {
    Spill(Path("output.nut"), coordinator_.Output(token));
    return Frames(Path("output.nut"));
  }
  v1::TaskResult ResultOf(const std::string& token) {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    return coordinator_.work.completed[token];
  }
};

std::string Token(const std::string& name, int first, int count) {
  return name + " " + std::to_string(first) + "+" + std::to_string(count);
}

std::vector<std::string> Part(const std::vector<std::string>& all, int first, int count) {
  return {all.begin() + first, all.begin() + first + count};
}

TEST_F(VideoWorkerTest, TheIdentityGivesBackEverySampleOfASegmentsFrames) {
  const struct {
    const char* name;
    const char* arguments;
    std::vector<std::pair<int, int>> segments;  // first, count
  } kRows[] = {
      {"a.mp4", "-c:v libx264 -g 12 -bf 2 -pix_fmt yuv420p", {{0, 60}, {0, 1}, {17, 20}, {59, 1}}},
      {"b.mkv", "-c:v libx265 -x265-params log-level=none:keyint=20 -pix_fmt yuv420p10le", {{0, 25}, {25, 35}}},
      {"c.webm", "-c:v libvpx-vp9 -g 30 -deadline realtime -cpu-used 8 -pix_fmt yuv444p", {{10, 30}}},
      {"d.ts", "-c:v mpeg2video -g 12 -bf 2 -q:v 4", {{20, 40}}},
      {"odd.mkv", "-vf scale=85:47 -c:v ffv1 -pix_fmt yuv444p", {{3, 50}}},
      {"rgb.mkv", "-c:v ffv1 -pix_fmt gbrp", {{0, 10}}},
      {"grey.mkv", "-c:v ffv1 -pix_fmt gray", {{0, 10}}},
      {"full.mkv", "-c:v libx264 -pix_fmt yuv422p -vf scale=out_range=full -color_range pc", {{30, 30}}},
  };
  for (const auto& row : kRows) {
    const Film film = Make(row.name, row.arguments);
    ASSERT_EQ(film.index.pts.size(), 60u) << row.name;
    for (const auto& [first, count] : row.segments) {
      coordinator_.Add(Lease(Token(row.name, first, count), film, first, count));
    }
  }
  StartWorker();
  for (const auto& row : kRows) {
    const std::vector<std::string> source = Frames(Path(row.name));
    for (const auto& [first, count] : row.segments) {
      const std::string token = Token(row.name, first, count);
      ExpectDone(token);
      if (!coordinator_.Completed(token)) continue;
      EXPECT_EQ(OutputFrames(token), Part(source, first, count)) << token;
      const v1::TaskResult result = ResultOf(token);
      EXPECT_EQ(result.frames(), count) << token;
      EXPECT_EQ(result.width(), std::string(row.name) == "odd.mkv" ? 85 : 96) << token;
      EXPECT_EQ(result.frames_repeated(), 0) << token;
      EXPECT_EQ(result.precision(), "fp32") << token;
      EXPECT_GT(result.seconds(), 0) << token;
      EXPECT_GT(result.compute_seconds(), 0) << token;
    }
  }
  EXPECT_TRUE(std::filesystem::is_empty(options_.cache + "/outbox"));
}

TEST_F(VideoWorkerTest, EncodesAsThePlanSays) {
  const std::string path = MakeFile("a.mkv", "-c:v ffv1 -pix_fmt yuv420p");
  for (const char* codec : {"x264", "x265", "av1"}) coordinator_.Add(Lease(codec, Examine(path, codec), 5, 40));
  StartWorker();
  for (const char* codec : {"x264", "x265", "av1"}) {
    ExpectDone(codec);
    EXPECT_EQ(OutputFrames(codec).size(), 40u) << codec;
  }
}

TEST_F(VideoWorkerTest, EnlargesWithTheNetwork) {
  const Film film = Examine(MakeFile("a.mkv", "-c:v ffv1 -pix_fmt yuv420p"), "ffv1", 2);
  EXPECT_EQ(film.plan.size, (Size{192, 128}));
  v1::LeasedTask task = Lease("large", film, 0, 10);
  ModelPack pack = RandomSrvggPack(8, 4, 2, HaloTiles(48, 4, 1));
  pack.card.licence = "CC0-1.0";
  pack.card.description = "random";
  pack.card.card_json = "{}";
  SetModel(&coordinator_, pack, &task);
  coordinator_.Add(task);
  StartWorker();
  ExpectDone("large");
  EXPECT_EQ(ResultOf("large").width(), 192);
  EXPECT_EQ(ResultOf("large").height(), 128);
  EXPECT_EQ(OutputFrames("large").size(), 10u);
}

TEST_F(VideoWorkerTest, HeldFramesAndTilesAreTakenFromBefore) {
  // Every frame twice; and a still picture with a small square that moves.
  const std::string twice =
      MakeFile("twice.mkv", "-c:v ffv1 -pix_fmt yuv420p -vf fps=50 -frames:v 60", "testsrc2=size=96x64:rate=25:duration=2");
  const std::string square =
      MakeFile("square.mkv",
               "-c:v ffv1 -pix_fmt yuv444p -filter_complex "
               "'[0]trim=end_frame=1,loop=29:1,setpts=N/25/TB[b];color=red:s=8x8:r=25:d=1.2[s];[b][s]overlay=x=2*n:y=10:format=yuv444'",
               "testsrc2=size=320x180:rate=25:duration=1");
  const Film films[] = {Examine(twice), Examine(square)};
  coordinator_.Add(Lease("twice", films[0], 0, 60));
  ASSERT_GE(films[1].index.pts.size(), 30u);
  coordinator_.Add(Lease("square", films[1], 0, 30));
  StartWorker();
  ExpectDone("twice");
  ExpectDone("square");
  EXPECT_EQ(ResultOf("twice").frames_repeated(), 30);
  EXPECT_EQ(OutputFrames("twice"), Frames(twice));
  EXPECT_EQ(ResultOf("square").frames_repeated(), 0);
  // 28 tiles a frame; the square touches at most four tiles' inputs where it was and where it is.
  EXPECT_GE(ResultOf("square").tiles_repeated(), 29 * (28 - 6));
  EXPECT_EQ(OutputFrames("square"), Part(Frames(square), 0, 30));
}

TEST_F(VideoWorkerTest, AStaticThresholdRepeatsWhatNearlyHolds) {
  // A still picture of quiet colours with a little noise.
  const std::string noisy = MakeFile(
      "noisy.mkv",
      "-c:v ffv1 -pix_fmt yuv444p -vf trim=end_frame=1,loop=29:1,setpts=N/25/TB,eq=saturation=0.3:contrast=0.5,noise=alls=2:allf=t",
      "testsrc2=size=96x64:rate=25:duration=1");
  const Film film = Examine(noisy);
  for (const int threshold : {0, 24}) {
    v1::LeasedTask task = Lease("t" + std::to_string(threshold), film, 0, 30);
    task.mutable_options()->set_static_threshold(threshold);
    coordinator_.Add(task);
  }
  StartWorker();
  ExpectDone("t0");
  ExpectDone("t24");
  EXPECT_EQ(ResultOf("t0").tiles_repeated(), 0);
  EXPECT_EQ(ResultOf("t24").tiles_repeated(), 29 * 4) << "all tiles of all frames but the first";
  const std::vector<std::string> frames = OutputFrames("t24");
  EXPECT_EQ(std::set<std::string>(frames.begin(), frames.end()).size(), 1u) << "and so nothing flickers";
}

TEST_F(VideoWorkerTest, ChunksThatOthersRestoredBecomeTheSegmentBitByBit) {
  for (const char* codec : {"x264", "ffv1"}) {
    const Film film = Make(std::string(codec) + ".mp4", "-c:v libx264 -g 12 -pix_fmt yuv420p", codec);
    const std::string name = codec;
    coordinator_.Add(Lease(name + " whole", film, 10, 40));
    for (const auto& [first, count] : {std::pair{10, 13}, std::pair{23, 27}}) {
      v1::LeasedTask chunk = Lease(name + " chunk " + std::to_string(first), film, first, count);
      chunk.mutable_segment()->set_step(v1::SEGMENT_STEP_RESTORE);
      coordinator_.Add(chunk);
    }
  }
  StartWorker();
  for (const char* codec : {"x264", "ffv1"}) {
    const std::string name = codec;
    for (const char* part : {" whole", " chunk 10", " chunk 23"}) ExpectDone(name + part);
    EXPECT_EQ(ResultOf(name + " chunk 10").frames(), 13);
    v1::LeasedTask encode = Lease(name + " encode", Examine(Path(name + ".mp4"), codec), 10, 40);
    coordinator_.blobs.stored.erase(encode.source().content().sha256());  // the source is not read
    encode.clear_model_blob();
    encode.mutable_segment()->set_step(v1::SEGMENT_STEP_ENCODE);
    for (const auto& [first, count] : {std::pair{10, 13}, std::pair{23, 27}}) {
      v1::Chunk* const chunk = encode.mutable_segment()->add_chunks();
      chunk->mutable_frames()->set_first(first);
      chunk->mutable_frames()->set_count(count);
      *chunk->mutable_output() = ResultOf(name + " chunk " + std::to_string(first)).output();
    }
    coordinator_.Add(encode);
    ExpectDone(name + " encode");
    EXPECT_TRUE(coordinator_.Output(name + " encode") == coordinator_.Output(name + " whole")) << codec;
    EXPECT_EQ(ResultOf(name + " encode").frames(), 40);

    // A chunk with other frames than it should have.
    encode.set_token(name + " short");
    encode.mutable_segment()->mutable_chunks(0)->mutable_frames()->set_count(12);
    encode.mutable_segment()->mutable_chunks(1)->mutable_frames()->set_count(28);
    coordinator_.Add(encode);
    EXPECT_TRUE(WaitUntil([&] { return coordinator_.Failed(name + " short"); }));
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    EXPECT_EQ(coordinator_.work.failed[name + " short"].failure_class(), v1::FAILURE_CLASS_WORKER_FAULT);
  }
}

TEST_F(VideoWorkerTest, FilesAreReadInPlace) {
  const Film film = Make("a.mp4", "-c:v libx264 -pix_fmt yuv420p");
  coordinator_.Add(LeaseInPlace("in place", film, "a.mp4"));
  StartWorker();
  ExpectDone("in place");
  EXPECT_EQ(OutputFrames("in place"), Frames(film.path));
}

TEST_F(VideoWorkerTest, OnlyTheRangesOfTheSegmentAreFetched) {
  const Film film = Make("big.mkv", "-vf scale=640:480,noise=alls=100:allf=t -c:v mjpeg -q:v 1 -pix_fmt yuvj444p");
  ASSERT_GT(std::filesystem::file_size(film.path), 8u * kBlobPartBytes);
  coordinator_.Add(Lease("part", film, 30, 2));
  StartWorker();
  ExpectDone("part");
  EXPECT_EQ(OutputFrames("part"), Part(Frames(film.path), 30, 2));
  std::lock_guard<std::mutex> lock(coordinator_.blobs.mutex);
  EXPECT_LE(coordinator_.blobs.downloaded, 6 * kBlobPartBytes) << "of " << std::filesystem::file_size(film.path);
}

TEST_F(VideoWorkerTest, EachFailureHasItsClassAndMessageAndStopsNothing) {
  const Film good = Make("good.mp4", "-c:v libx264 -g 12 -pix_fmt yuv420p -movflags +faststart");
  const Film other = Make("other.mkv", "-c:v ffv1 -pix_fmt yuv444p");
  struct Row {
    std::string name;
    v1::LeasedTask task;
    v1::FailureClass failure_class;
    std::string message;
  };
  std::vector<Row> rows;
  const auto add = [&](v1::LeasedTask task, v1::FailureClass failure_class, const std::string& message) {
    rows.push_back({task.token(), std::move(task), failure_class, message});
  };
  const auto with_bytes = [&](const std::string& token, const std::string& bytes) {
    v1::LeasedTask task = Lease(token, good, 0, 60);
    task.mutable_source()->mutable_content()->set_sha256(coordinator_.blobs.Store(bytes));
    task.mutable_source()->mutable_content()->set_size(static_cast<int64_t>(bytes.size()));
    return task;
  };
  const std::string bytes = Slurp(good.path);
  add(with_bytes("text", "this is no video"), v1::FAILURE_CLASS_BAD_INPUT, "album/good.mp4");
  add(with_bytes("empty", ""), v1::FAILURE_CLASS_BAD_INPUT, "album/good.mp4");
  add(with_bytes("half", bytes.substr(0, bytes.size() / 2)), v1::FAILURE_CLASS_BAD_INPUT, "album/good.mp4");
  add(with_bytes("other video", Slurp(MakeFile("another.mkv", "-c:v libx265 -x265-params log-level=none"))), v1::FAILURE_CLASS_BAD_INPUT,
      "album/good.mp4");
  {
    v1::LeasedTask task = Lease("no such frame", good, 0, 60);
    task.mutable_segment()->set_pts_deltas(30, task.segment().pts_deltas(30) + 1);
    add(task, v1::FAILURE_CLASS_BAD_INPUT, "album/good.mp4");
  }
  {
    v1::LeasedTask task = Lease("no encoder", good, 0, 60);
    task.mutable_source()->mutable_video()->mutable_encode()->set_encoder("libmagic");
    add(task, v1::FAILURE_CLASS_BAD_INPUT, "submit it again");
  }
  {
    v1::LeasedTask task = Lease("no frames", good, 0, 60);
    task.mutable_segment()->clear_pts_deltas();
    add(task, v1::FAILURE_CLASS_BAD_INPUT, "submit it again");
  }
  {
    v1::LeasedTask task = with_bytes("no blob", "gone");
    coordinator_.blobs.stored.erase(Sha256Hex("gone"));
    add(task, v1::FAILURE_CLASS_TRANSIENT, "album/good.mp4");
  }
  {
    v1::LeasedTask task = Lease("no hash", good, 0, 60);
    task.mutable_source()->mutable_content()->set_sha256("../../etc/passwd");
    add(task, v1::FAILURE_CLASS_WORKER_FAULT, "does not name a blob");
  }
  {
    // The coordinator sends other bytes than it says: no fault of the file's.
    v1::LeasedTask task = Lease("lies", other, 0, 60);
    const std::string hash = Sha256Hex("what it says");
    coordinator_.blobs.stored[hash] = Slurp(other.path);
    coordinator_.blobs.lying.insert(hash);
    task.mutable_source()->mutable_content()->set_sha256(hash);
    add(task, v1::FAILURE_CLASS_TRANSIENT, "album/other.mkv");
  }
  {
    v1::LeasedTask task = LeaseInPlace("changed", other, "changed.mkv");
    Spill(Path("root/changed.mkv"), Slurp(other.path) + "x");
    add(task, v1::FAILURE_CLASS_BAD_INPUT, "has changed");
  }
  {
    v1::LeasedTask task = LeaseInPlace("missing", other, "missing.mkv");
    std::filesystem::remove(Path("root/missing.mkv"));
    add(task, v1::FAILURE_CLASS_BAD_INPUT, "missing.mkv");
  }
  {
    v1::LeasedTask task = LeaseInPlace("no root", other, "a.mkv");
    task.mutable_source()->mutable_in_place()->set_root_id("elsewhere");
    add(task, v1::FAILURE_CLASS_WORKER_FAULT, "elsewhere");
  }
  {
    v1::LeasedTask task = Lease("too large", good, 0, 60);
    task.mutable_source()->mutable_video()->set_width(16'000);
    task.mutable_source()->mutable_video()->set_height(16'000);
    task.mutable_source()->mutable_video()->mutable_encode()->set_width(16'000);
    task.mutable_source()->mutable_video()->mutable_encode()->set_height(16'000);
    add(task, v1::FAILURE_CLASS_WORKER_FAULT, "--max-memory");
  }
  for (const Row& row : rows) coordinator_.Add(row.task);
  coordinator_.Add(Lease("good", good, 0, 60));
  StartWorker();
  ExpectDone("good");
  for (const Row& row : rows) {
    EXPECT_TRUE(WaitUntil([&] { return coordinator_.Failed(row.name) || coordinator_.Completed(row.name); })) << row.name;
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    const v1::FailedItem& item = coordinator_.work.failed[row.name];
    EXPECT_EQ(item.failure_class(), row.failure_class) << row.name << ": " << item.message();
    EXPECT_NE(item.message().find(row.message), std::string::npos) << row.name << ": " << item.message();
    EXPECT_EQ(item.message().find("cache/blobs"), std::string::npos) << row.name << ": " << item.message();
  }
}

TEST_F(VideoWorkerTest, EngineErrorsAreThisWorkersFaultAndAStopStops) {
  const Film film = Make("a.mp4", "-c:v libx264 -pix_fmt yuv420p");
  coordinator_.Add(Lease("first", film, 0, 20));
  StartWorker();
  ExpectDone("first");
  script_.not_a_number = true;
  coordinator_.Add(Lease("nan", film, 0, 20));
  EXPECT_TRUE(WaitUntil([&] { return coordinator_.Failed("nan"); }));
  script_.not_a_number = false;
  script_.out_of_memory = true;
  coordinator_.Add(Lease("memory", film, 0, 20));
  EXPECT_TRUE(WaitUntil([&] { return coordinator_.Failed("memory"); }));
  script_.out_of_memory = false;
  EXPECT_EQ(coordinator_.work.failed["nan"].failure_class(), v1::FAILURE_CLASS_WORKER_FAULT);
  EXPECT_EQ(coordinator_.work.failed["memory"].failure_class(), v1::FAILURE_CLASS_WORKER_FAULT);

  const int before = script_.computing;
  script_.blocked = true;
  coordinator_.Add(Lease("stopped", film, 0, 20));
  EXPECT_TRUE(WaitUntil([&] { return script_.computing > before; }));
  {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    coordinator_.work.stop = {"stopped"};
  }
  EXPECT_TRUE(WaitUntil([&] { return script_.cancelled == 1; }));
  script_.blocked = false;
  coordinator_.Add(Lease("last", film, 0, 20));
  ExpectDone("last");
  EXPECT_FALSE(coordinator_.Completed("stopped") || coordinator_.Failed("stopped"));
  StopWorker();
  EXPECT_TRUE(std::filesystem::is_empty(options_.cache + "/outbox"));
}

TEST_F(VideoWorkerTest, AFileThatChangesWhileItIsRestoredGivesNoResult) {
  const Film film = Make("a.mp4", "-c:v libx264 -pix_fmt yuv420p");
  coordinator_.Add(Lease("warm up", film, 0, 1));
  StartWorker();
  ExpectDone("warm up");
  const int before = script_.computing;
  script_.blocked = true;
  coordinator_.Add(LeaseInPlace("changed", film, "a.mp4"));
  EXPECT_TRUE(WaitUntil([&] { return script_.computing > before; }));
  Spill(Path("root/a.mp4"), Slurp(film.path) + "more");
  script_.blocked = false;
  EXPECT_TRUE(WaitUntil([&] { return coordinator_.Failed("changed") || coordinator_.Completed("changed"); }));
  EXPECT_EQ(coordinator_.work.failed["changed"].failure_class(), v1::FAILURE_CLASS_BAD_INPUT);
  EXPECT_NE(coordinator_.work.failed["changed"].message().find("has changed"), std::string::npos);
}

TEST_F(VideoWorkerTest, DamagedFramesFailTheTaskOrAreConcealed) {
  const std::string path = MakeFile("a.mkv", "-c:v ffv1 -slices 4 -slicecrc 1 -pix_fmt yuv420p");
  std::string bytes = Slurp(path);
  const Film film = Examine(path);
  for (size_t at = bytes.size() / 2; at < bytes.size() / 2 + 200; ++at) bytes[at] = static_cast<char>(bytes[at] ^ 0x55);
  for (const bool tolerate : {false, true}) {
    v1::LeasedTask task = Lease(tolerate ? "concealed" : "refused", film, 0, 60);
    task.mutable_source()->mutable_content()->set_sha256(coordinator_.blobs.Store(bytes));
    task.mutable_options()->set_tolerate(tolerate);
    coordinator_.Add(task);
  }
  StartWorker();
  ExpectDone("concealed");
  EXPECT_TRUE(WaitUntil([&] { return coordinator_.Failed("refused"); }));
  EXPECT_EQ(coordinator_.work.failed["refused"].failure_class(), v1::FAILURE_CLASS_BAD_INPUT);
  EXPECT_GE(ResultOf("concealed").frames_concealed_size(), 1);
  EXPECT_LE(ResultOf("concealed").frames_concealed_size(), 12);
  EXPECT_EQ(ResultOf("concealed").frames(), 60);
  const std::vector<std::string> frames = OutputFrames("concealed");
  ASSERT_EQ(frames.size(), 60u);
  const int lost = ResultOf("concealed").frames_concealed(0);
  EXPECT_EQ(frames[static_cast<size_t>(lost)], frames[static_cast<size_t>(lost) - 1]);
}

// A worker's view of a real coordinator that holds a blob.
class RealCoordinatorTest : public PictureTest {
 protected:
  ~RealCoordinatorTest() override {
    if (child_ > 0) End();
  }
  void Launch(const std::string& listen) {
    const std::string address_file = Path("address");
    std::filesystem::remove(address_file);
    std::filesystem::create_directories(Path("models"));
    child_ = ::fork();
    ASSERT_GE(child_, 0);
    if (child_ == 0) {
      const int log = ::open(Path("log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
      ::dup2(log, 2);
      ::execl(NSIC_BIN "/nsic-coordinator", "nsic-coordinator", "serve", "--state", Path("state").c_str(), "--listen", listen.c_str(),
              "--models", Path("models").c_str(), "--address-file", address_file.c_str(), nullptr);
      ::_exit(127);
    }
    while (!std::filesystem::exists(address_file)) {
      int status = 0;
      ASSERT_EQ(::waitpid(child_, &status, WNOHANG), 0) << "it did not start:\n" << Slurp(Path("log"));
      std::this_thread::sleep_for(milliseconds(5));
    }
    address_ = Slurp(address_file);
  }
  void End() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = -1;
  }
  // Files of the cache, by name.
  std::set<std::string> Cached() const {
    std::set<std::string> names;
    for (const auto& file : std::filesystem::directory_iterator(Path("cache/blobs"))) names.insert(file.path().filename());
    return names;
  }

  pid_t child_ = -1;
  std::string address_;
  CancelToken cancel_;
};

TEST_F(RealCoordinatorTest, RangesOfABlobSurviveARestartAndADamagedPartIsRefused) {
  ::unsetenv("http_proxy");
  Launch("127.0.0.1:0");
  constexpr int64_t kParts = 6;
  std::string bytes(static_cast<size_t>(kParts * kBlobPartBytes + 99), '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i ^ (i >> 8) ^ (i >> 16) * 7 ^ (i >> 22) * 31);
  const std::string hash = Sha256Hex(bytes);
  RetryPolicy policy;
  policy.max_attempts = 0;
  policy.max_delay = milliseconds(200);
  BlobTransfer transfer(OpenChannel(address_, ""), policy);
  ASSERT_TRUE(transfer.UploadBytes(bytes, hash, cancel_).ok());

  std::unique_ptr<BlobCache> cache = *BlobCache::Open(Path("cache"), int64_t{1} << 30, &transfer);
  RangeReader reader(cache.get(), &transfer);
  const auto read = [&](ByteSource* source, int64_t offset) {
    std::string got(1000, '\0');
    const Result<size_t> count = source->Read(offset, got.data(), got.size());
    if (!count.ok()) return count.status();
    got.resize(*count);
    return bytes.compare(static_cast<size_t>(offset), *count, got) == 0 ? OkStatus() : InternalError("other bytes");
  };
  {
    const auto source = reader.Open(hash, static_cast<int64_t>(bytes.size()), "film.mkv", cancel_);
    ASSERT_TRUE(source.ok()) << source.status();
    for (const int64_t offset : {int64_t{0}, kParts * kBlobPartBytes + 5, 3 * kBlobPartBytes + 77}) {
      EXPECT_EQ(read(source->get(), offset).code(), StatusCode::kOk) << offset;
    }
    EXPECT_EQ(Cached().size(), 3u) << "a blob of seven parts";

    // Killed in the middle: the next part is asked for until it is back.
    End();
    std::thread later([&] { Launch(address_); });
    EXPECT_EQ(read(source->get(), kBlobPartBytes).code(), StatusCode::kOk);
    later.join();
    EXPECT_EQ(Cached().size(), 4u);
  }

  // A byte of the fifth part rots on the coordinator's disk.
  std::string stored;
  for (const auto& file : std::filesystem::recursive_directory_iterator(Path("state"))) {
    if (file.path().filename() == hash) stored = file.path();
  }
  ASSERT_FALSE(stored.empty());
  std::filesystem::permissions(stored, std::filesystem::perms::owner_all);
  const UniqueFd fd(::open(stored.c_str(), O_WRONLY | O_CLOEXEC));
  const char wrong = static_cast<char>(bytes[static_cast<size_t>(4 * kBlobPartBytes + 1000)] ^ 1);
  ASSERT_EQ(::pwrite(fd.get(), &wrong, 1, 4 * kBlobPartBytes + 1000), 1);
  const auto source = reader.Open(hash, static_cast<int64_t>(bytes.size()), "film.mkv", cancel_);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(read(source->get(), 4 * kBlobPartBytes).code(), StatusCode::kDataLoss);
  EXPECT_EQ(read(source->get(), 5 * kBlobPartBytes).code(), StatusCode::kOk) << "the others are as good as ever";
}

}  // namespace
}  // namespace nsic

int main(int argc, char** argv) {
  const nsic::MediaLibrary media(2);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
