// How the client plans videos: containers, ranges, probing, frames as pictures. Files are made by the ffmpeg command line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "client/extract_frames.h"
#include "client/plan_video.h"
#include "client/probe_inputs.h"
#include "core/base/files.h"
#include "core/media/picture.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// libvips starts once in a process and lives as long as all tests.
class MediaEnvironment : public testing::Environment {
  MediaLibrary library_{2};
};
const testing::Environment* const kEnvironment = testing::AddGlobalTestEnvironment(new MediaEnvironment);

// A 64x48 H.264 video in MP4 with these other streams.
VideoProbe Probe(const std::string& container, const std::vector<StreamFacts>& others) {
  VideoProbe probe;
  probe.info.size = {64, 48};
  probe.info.codec = "h264";
  probe.info.pixel_format = "yuv420p";
  probe.info.time_base = {1, 1000};
  probe.info.frame_rate = {25, 1};
  probe.info.field_order = FieldOrder::kProgressive;
  probe.container = container;
  probe.streams = {{0, "video", "h264", "", "", false}};
  probe.streams.insert(probe.streams.end(), others.begin(), others.end());
  return probe;
}

TEST(PlanVideo, KeepsWhatFitsAndSaysWhatDoesNot) {
  const StreamFacts aac{1, "audio", "aac", "eng", "", false};
  const StreamFacts pcm{1, "audio", "pcm_s16le", "", "", false};
  const StreamFacts ass{2, "subtitle", "ass", "", "", false};
  const StreamFacts data{3, "data", "gpmd", "", "", false};
  VideoProbe turned = Probe("mp4", {});
  turned.turned = true;
  const struct {
    const char* name;
    VideoProbe probe;
    std::string container;
    bool drop;
    std::string codec;
    std::string expected;  // container; empty: refused
    std::vector<int> dropped;
    std::vector<std::string> words;  // of the notice or the refusal
  } rows[] = {
      {"mp4 stays", Probe("mp4", {aac}), "keep", false, "", "mp4", {}, {}},
      {"mkv stays", Probe("mkv", {aac, ass}), "keep", false, "", "mkv", {}, {}},
      {"avi becomes mkv", Probe("avi", {pcm}), "keep", false, "", "mkv", {}, {"v.x", "MKV", "avi"}},
      {"mp4 with pcm becomes mkv", Probe("mp4", {pcm}), "keep", false, "", "mkv", {}, {"v.x", "MKV", "pcm_s16le"}},
      {"webm with x264 becomes mkv", Probe("webm", {}), "keep", false, "x264", "mkv", {}, {"v.x", "MKV", "h264"}},
      {"webm with x264, whatever may be dropped", Probe("webm", {}), "keep", true, "x264", "mkv", {}, {"MKV", "h264"}},
      {"mp4 with pcm, dropped", Probe("mp4", {pcm}), "keep", true, "", "mp4", {1}, {"v.x", "left out", "pcm_s16le"}},
      {"nothing holds it", Probe("mp4", {aac, data}), "keep", false, "", "", {}, {"/in/v.x", "gpmd", "--drop-streams"}},
      {"mkv without it", Probe("avi", {aac, data}), "keep", true, "", "mkv", {3}, {"avi", "left out", "gpmd"}},
      {"mp4 asked, ass",
       Probe("mkv", {aac, ass}),
       "mp4",
       false,
       "",
       "",
       {},
       {"/in/v.x", "stream 2 (ass)", "--container mkv", "--drop-streams"}},
      {"mp4 asked, ass dropped", Probe("mkv", {aac, ass}), "mp4", true, "", "mp4", {2}, {"ass"}},
      {"mkv asked, turned", turned, "mkv", false, "", "", {}, {"turn", "--container mp4", "--drop-streams"}},
      {"mkv asked, turned, dropped", turned, "mkv", true, "", "mkv", {0}, {"left out", "turn"}},
      {"turned stays mp4", turned, "keep", false, "", "mp4", {}, {}},
      {"webm asked, x264", Probe("mkv", {}), "webm", true, "x264", "", {}, {"h264", "webm", "--container mkv"}},
  };
  for (const auto& row : rows) {
    VideoOptions options;
    options.encode.container = row.container;
    options.encode.codec = row.codec;
    options.drop_streams = row.drop;
    const Result<VideoPlan> plan = PlanVideo("/in/v.x", row.probe, options, 1);
    std::string said;
    if (row.expected.empty()) {
      EXPECT_EQ(plan.status().code(), StatusCode::kFailedPrecondition) << row.name << ": " << plan.status();
      said = plan.status().message();
    } else {
      ASSERT_TRUE(plan.ok()) << row.name << ": " << plan.status();
      EXPECT_EQ(plan->encode.container, row.expected) << row.name;
      EXPECT_EQ(plan->dropped_streams, row.dropped) << row.name;
      said = plan->notice;
    }
    EXPECT_EQ(said.empty(), row.words.empty()) << row.name << ": " << said;
    for (const std::string& word : row.words) EXPECT_THAT(said, HasSubstr(word)) << row.name;
  }
}

TEST(PlanVideo, NamesTheFileThatCannotBeEncodedSo) {
  VideoOptions options;
  options.encode.preset = "leisurely";
  const Result<VideoPlan> plan = PlanVideo("/in/v.mp4", Probe("mp4", {}), options, 1);
  EXPECT_EQ(plan.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(plan.status().message(), AllOf(HasSubstr("/in/v.mp4"), HasSubstr("leisurely")));
}

TEST(PlanVideo, DeinterlacesUnlessToldNotTo) {
  for (const FieldOrder order : {FieldOrder::kProgressive, FieldOrder::kTopFirst, FieldOrder::kBottomFirst}) {
    for (const bool automatic : {true, false}) {
      VideoProbe probe = Probe("mp4", {});
      probe.info.field_order = order;
      VideoOptions options;
      options.deinterlace = automatic;
      const Result<VideoPlan> plan = PlanVideo("v.mp4", probe, options, 1);
      ASSERT_TRUE(plan.ok()) << plan.status();
      EXPECT_EQ(plan->info.deinterlace, automatic && order != FieldOrder::kProgressive) << static_cast<int>(order) << automatic;
    }
  }
}

TEST(ChooseRange, IsCheckedAgainstTheFrames) {
  VideoIndex index;
  index.pts = {0, 40, 80, 120};
  index.key_frames = {{0, -1}};
  const struct {
    std::optional<FrameNumbers> frames;
    int first, count;
  } rows[] = {{std::nullopt, 0, 4}, {FrameNumbers{1, 4}, 0, 4}, {FrameNumbers{2, 3}, 1, 2}, {FrameNumbers{4, 4}, 3, 1}};
  for (const auto& row : rows) {
    const Result<v1::FrameRange> range = ChooseRange("a.mp4", index, row.frames);
    ASSERT_TRUE(range.ok()) << row.first << ": " << range.status();
    EXPECT_EQ(range->first(), row.first);
    EXPECT_EQ(range->count(), row.count);
  }
  const Status beyond = ChooseRange("a.mp4", index, FrameNumbers{4, 5}).status();
  EXPECT_EQ(beyond.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(beyond.message(), AllOf(HasSubstr("a.mp4"), HasSubstr("4 frames"), HasSubstr("--frames 4-5")));
}

TEST(SpreadFrames, AreEvenlySpread) {
  const auto spread = [](int first, int count, int frames) {
    v1::FrameRange range;
    range.set_first(first);
    range.set_count(count);
    return SpreadFrames(range, frames);
  };
  EXPECT_THAT(spread(0, 100, 4), ElementsAre(12, 37, 62, 87));
  EXPECT_THAT(spread(50, 10, 1), ElementsAre(55));
  EXPECT_THAT(spread(7, 3, 100), ElementsAre(7, 8, 9)) << "no more than there are";
  EXPECT_THAT(spread(0, 2'000'000'000, 2), ElementsAre(500'000'000, 1'500'000'000));
}

class VideoFiles : public testing::Test {
 protected:
  VideoFiles() {
    std::string pattern = (fs::temp_directory_path() / "nsic-video-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    folder_ = pattern;
  }
  ~VideoFiles() override { fs::remove_all(folder_); }

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  std::string Make(const std::string& arguments, const std::string& name) {
    const std::string command = "ffmpeg -v error -nostdin -y " + arguments + " '" + Path(name) + "'";
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    return Path(name);
  }

  const CancelToken cancel_;
  std::string folder_;
};

TEST_F(VideoFiles, AreToldFromEverythingElse) {
  const std::string source = "-f lavfi -i testsrc2=size=64x48:rate=10 -frames:v 5 ";
  Make(source + "-c:v libx264", "a.mp4");
  Make(source + "-c:v libx264 -f matroska", "no-extension");
  Make(source + "-c:v mpeg2video -f mpegts", "b.ts");
  Make("-f lavfi -i sine=duration=0.2 -c:a flac", "song.mka");
  Make("-f lavfi -i sine=duration=0.2 -c:a aac", "sound.mp4");
  Make("-f lavfi -i testsrc2=size=64x48 -frames:v 1 -f mjpeg", "picture.mkv");
  Make("-f lavfi -i testsrc2=size=64x48 -frames:v 1", "picture.jpg");
  ASSERT_TRUE(WriteFileAtomically(Path("notes.txt"), "notes").ok());
  ASSERT_TRUE(WriteFileAtomically(Path("module.ts"), "export const a = 1;").ok());
  ASSERT_TRUE(WriteFileAtomically(Path("text.mp4"), "notes").ok());
  ASSERT_TRUE(WriteFileAtomically(Path("empty.mkv"), "").ok());
  const struct {
    const char* name;
    ProbeState state;
    const char* reason;
  } rows[] = {{"a.mp4", ProbeState::kVideo, ""},
              {"no-extension", ProbeState::kVideo, ""},
              {"b.ts", ProbeState::kVideo, ""},
              {"song.mka", ProbeState::kSkipped, "sound"},
              {"sound.mp4", ProbeState::kFailed, "sound.mp4"},
              {"picture.mkv", ProbeState::kFailed, "named like a video"},
              {"picture.jpg", ProbeState::kPicture, ""},
              {"notes.txt", ProbeState::kSkipped, "neither"},
              {"module.ts", ProbeState::kSkipped, "neither"},
              {"text.mp4", ProbeState::kFailed, "text.mp4"},
              {"empty.mkv", ProbeState::kFailed, "empty.mkv"}};
  std::vector<FoundFile> files;
  for (const auto& row : rows) files.push_back({0, row.name, Path(row.name)});
  Result<std::vector<ProbedFile>> probed = ProbeFiles(files, cancel_, [](size_t) {});
  ASSERT_TRUE(probed.ok()) << probed.status();
  for (size_t i = 0; i < std::size(rows); ++i) {
    EXPECT_EQ((*probed)[i].state, rows[i].state) << rows[i].name << ": " << (*probed)[i].reason;
    EXPECT_THAT((*probed)[i].reason, HasSubstr(rows[i].reason)) << rows[i].name;
  }
  EXPECT_EQ((*probed)[0].video.info.size, (Size{64, 48}));
  EXPECT_EQ((*probed)[0].bytes, static_cast<int64_t>(fs::file_size(Path("a.mp4"))));
  ASSERT_TRUE(HashFiles(&*probed, cancel_, [](int64_t) {}).ok());
  for (const size_t i : {0, 6}) EXPECT_EQ((*probed)[i].sha256.size(), 64u) << rows[i].name;
  EXPECT_THAT((*probed)[3].sha256, IsEmpty());
}

TEST_F(VideoFiles, AreIndexedTogetherAndFailAlone) {
  const std::string good = Make("-f lavfi -i testsrc2=size=64x48:rate=10 -frames:v 30 -c:v libx264 -bf 2", "good.mkv");
  const std::string other = Make("-f lavfi -i testsrc2=size=64x48:rate=10 -frames:v 12 -c:v libvpx-vp9 -b:v 100k", "other.webm");
  std::vector<IndexJob> jobs;
  for (const std::string& path : {good, other}) {
    const Result<VideoProbe> probe = ProbeVideo(path);
    ASSERT_TRUE(probe.ok()) << probe.status();
    jobs.push_back({path, static_cast<int64_t>(fs::file_size(path)), probe->info});
  }
  jobs.push_back(jobs[0]);
  jobs[2].path = Path("gone.mkv");
  double share = 0;
  size_t videos = 0;
  const auto indexes = IndexVideos(jobs, false, cancel_, [&](double part, size_t done) {
    EXPECT_GE(part, 0);
    EXPECT_LE(part, 1 + 1e-9);
    share = part;
    videos = done;
  });
  ASSERT_TRUE(indexes.ok()) << indexes.status();
  ASSERT_TRUE((*indexes)[0].ok()) << (*indexes)[0].status();
  EXPECT_EQ((*indexes)[0]->pts.size(), 30u);
  ASSERT_TRUE((*indexes)[1].ok()) << (*indexes)[1].status();
  EXPECT_EQ((*indexes)[1]->pts.size(), 12u);
  EXPECT_FALSE((*indexes)[2].ok());
  EXPECT_DOUBLE_EQ(share, 1);
  EXPECT_EQ(videos, 3u);
}

TEST_F(VideoFiles, GiveTheirFramesAsPictures) {
  // Frame n has the grey level 16 + 8 n.
  const struct {
    const char* name;
    const char* encode;
    int depth;
  } rows[] = {{"a.mkv", "-pix_fmt yuv444p -c:v libx264 -qp 0 -g 8 -bf 2", 8}, {"b.mkv", "-pix_fmt yuv420p10le -c:v ffv1", 16}};
  for (const auto& row : rows) {
    const std::string path =
        Make(std::string("-f lavfi -i color=black:size=64x48:rate=10,format=gray,geq=lum='16+8*N' -frames:v 20 ") + row.encode, row.name);
    const Result<VideoProbe> probe = ProbeVideo(path);
    ASSERT_TRUE(probe.ok()) << probe.status();
    const Result<VideoIndex> index = IndexVideo(path, probe->info, false, cancel_, [](double) {});
    ASSERT_TRUE(index.ok()) << index.status();
    const auto at = [&](int frame) { return Path(std::string(row.name) + std::to_string(frame) + ".png"); };
    const Status status = ExtractFrames(path, probe->info, *index, {3, 11, 19}, false, at, cancel_);
    ASSERT_TRUE(status.ok()) << row.name << ": " << status;
    for (const int frame : {3, 11, 19}) {
      const Result<std::unique_ptr<PictureReader>> picture = PictureReader::Open(at(frame));
      ASSERT_TRUE(picture.ok()) << row.name << ": " << picture.status();
      EXPECT_EQ((*picture)->info().size, (Size{64, 48})) << row.name;
      EXPECT_EQ((*picture)->info().depth, row.depth) << row.name;
      std::vector<float> planar(64 * 48 * 3);
      ASSERT_TRUE((*picture)->Read({0, 0, 64, 48}, planar.data()).ok());
      // ffmpeg takes grey for full range, and videos for limited.
      for (const float sample : {planar.front(), planar[64 * 48], planar.back()}) {
        EXPECT_NEAR(sample, (16.0 + 8 * frame) / 255, 2.5 / 255) << row.name << " frame " << frame;
      }
    }
  }
}

}  // namespace
}  // namespace nsic
