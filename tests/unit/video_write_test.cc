// Segments and their join: sources made on the spot by the ffmpeg command line, read, encoded in pieces, joined, and compared with the
// source by ffprobe, which knows nothing of our code.
extern "C" {
#include <libavutil/frame.h>
}
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/digest.h"
#include "core/media/byte_source.h"
#include "core/media/convert_frame.h"
#include "core/media/index_video.h"
#include "core/media/join_video.h"
#include "core/media/plan_encode.h"
#include "core/media/read_video.h"
#include "core/media/write_segment.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

// What the command prints; it must succeed.
std::string Shell(const std::string& command) {
  std::string text;
  FILE* const pipe = ::popen((command + " 2>&1").c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  std::array<char, 4096> buffer;
  for (size_t got = 0; (got = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) text.append(buffer.data(), got);
  EXPECT_EQ(::pclose(pipe), 0) << command << "\n" << text;
  return text;
}

void Ffmpeg(const std::string& arguments) { (void)Shell("ffmpeg -v error -y " + arguments); }
std::string Ffprobe(const std::string& arguments) { return Shell("ffprobe -v error " + arguments); }

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    if (end > at) lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void Spill(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

// Presentation times of a stream's packets, in seconds, in order.
std::vector<double> Times(const std::string& path, const std::string& stream) {
  std::vector<double> times;
  for (const std::string& line :
       Lines(Ffprobe("-select_streams " + stream + " -show_entries packet=pts_time,flags -of compact=p=0 " + path))) {
    if (line.compare(0, 9, "pts_time=") != 0) continue;                               // side data
    const bool discarded = line.find('D', line.find("flags=")) != std::string::npos;  // by an edit list: no frame, but sound to start with
    if (!discarded || stream[0] == 'a') times.push_back(std::stod(line.substr(9)));
  }
  std::sort(times.begin(), times.end());
  return times;
}

// Hashes of the bytes of a stream's packets, in order.
std::vector<std::string> PacketHashes(const std::string& path, const std::string& stream) {
  std::vector<std::string> hashes;
  const std::string entries = " -show_data_hash md5 -show_entries packet=data_hash -of default=nk=1:nw=1 ";
  for (const std::string& line : Lines(Ffprobe("-select_streams " + stream + entries + path))) {
    if (line.compare(0, 4, "MD5:") == 0) hashes.push_back(line);  // and not the side data
  }
  return hashes;
}

// Hashes of the decoded frames.
std::string FrameHashes(const std::string& path) {
  std::string text;
  for (const std::string& line : Lines(Shell("ffmpeg -v error -i " + path + " -map 0:v:0 -fps_mode passthrough -f framemd5 -"))) {
    if (line[0] != '#') text += line.substr(line.rfind(',')) + "\n";
  }
  return text;
}

class VideoWriteTest : public testing::Test {
 protected:
  VideoWriteTest() : folder_(fs::temp_directory_path() / ("nsic-video-write-" + RandomHex(8))) { fs::create_directories(folder_); }
  ~VideoWriteTest() override { fs::remove_all(folder_); }
  std::string File(const std::string& name) const { return (folder_ / name).string(); }
  std::set<std::string> Files() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_)) names.insert(entry.path().filename().string());
    return names;
  }

  // Probes, indexes and plans; then encodes the frames as they are, in `segments` pieces.
  JoinPlan Restore(const std::string& source, const EncodeOptions& options, int segments, int first = 0, int count = -1) {
    JoinPlan join;
    join.source_path = source;
    auto probe = ProbeVideo(source);
    EXPECT_TRUE(probe.ok()) << probe.status();
    if (!probe.ok()) return join;
    probe_ = *probe;
    join.info = probe->info;
    auto index = IndexVideo(source, probe->info, false, cancel_, [](double) {});
    EXPECT_TRUE(index.ok()) << index.status();
    auto plan = PlanEncode(*probe, options, 1);
    EXPECT_TRUE(plan.ok()) << plan.status();
    if (!index.ok() || !plan.ok()) return join;
    join.encode = *plan;
    const int all = static_cast<int>(index->pts.size());
    const int frames = count < 0 ? all : count;
    join.excerpt = frames != all;
    join.pts.assign(index->pts.begin() + first, index->pts.begin() + first + frames);
    for (int i = 0; i < segments; ++i) {
      const int from = first + frames * i / segments, to = first + frames * (i + 1) / segments;
      join.segments.push_back(File("segment" + std::to_string(i) + ".nut"));
      join.segment_frames.push_back(to - from);
      EncodeSegment(join, *index, from, to, join.segments.back());
    }
    return join;
  }

  void EncodeSegment(const JoinPlan& join, const VideoIndex& index, int from, int to, const std::string& path) {
    Segment segment;
    segment.first = from;
    segment.pts.assign(index.pts.begin() + from, index.pts.begin() + to);
    for (auto key = index.key_frames.rbegin(); key != index.key_frames.rend(); ++key) {
      if (key->frame <= from) segment.starts.push_back({index.pts[static_cast<size_t>(key->frame)], key->position});
    }
    auto source = OpenFileSource(join.source_path);
    ASSERT_TRUE(source.ok()) << source.status();
    auto reader = VideoReader::Open(*std::move(source), join.info, {});
    ASSERT_TRUE(reader.ok()) << reader.status();
    Status status = (*reader)->Seek(segment, cancel_);
    ASSERT_TRUE(status.ok()) << status;
    auto converter = FrameConverter::Make(join.info, join.encode, {});
    ASSERT_TRUE(converter.ok()) << converter.status();
    auto writer = SegmentWriter::Open(path, join.info, join.encode);
    ASSERT_TRUE(writer.ok()) << writer.status();
    std::vector<float> rgb(static_cast<size_t>(join.info.size.area()) * 3);
    while (true) {
      auto frame = (*reader)->Next(cancel_);
      ASSERT_TRUE(frame.ok()) << frame.status();
      if (!frame->has_value()) break;
      status = (*converter)->ToRgb(**frame, rgb.data());
      ASSERT_TRUE(status.ok()) << status;
      auto out = (*converter)->Finish(**frame, rgb.data(), rgb.data());
      ASSERT_TRUE(out.ok()) << out.status();
      status = (*writer)->Write(*out);
      ASSERT_TRUE(status.ok()) << status;
    }
    status = (*writer)->Finish();
    ASSERT_TRUE(status.ok()) << status;
  }

  Result<JoinedVideo> Join(const JoinPlan& join, const std::string& output) {
    return JoinVideo(join, output, cancel_, [this](double share) {
      EXPECT_GE(share, share_);
      EXPECT_LE(share, 1);
      share_ = share;
    });
  }

  // Every frame at the time of the source's, to the container's rounding.
  void ExpectSameTimes(const std::string& source, const std::string& output, const std::string& container) {
    const std::vector<double> before = Times(source, "v:0"), after = Times(output, "v:0");
    ASSERT_EQ(before.size(), after.size());
    const double slack = container == "mp4" ? 2e-6 : 0.00051;
    for (size_t i = 0; i < before.size(); ++i) ASSERT_NEAR(before[i], after[i], slack) << "frame " << i;
  }

  fs::path folder_;
  CancelToken cancel_;
  VideoProbe probe_;
  double share_ = 0;
};

EncodeOptions Codec(const std::string& codec, const std::string& container = "keep") {
  EncodeOptions options;
  options.codec = codec;
  options.container = container;
  if (codec == "x264" || codec == "x265") options.preset = "veryfast";
  if (codec == "av1") options.preset = "12";
  return options;
}

// ---- Segments

VideoInfo SegmentInfo(const std::string& format) {
  VideoInfo info;
  info.size = {96, 64};
  info.pixel_format = format;
  info.time_base = {1, 25};
  info.frame_rate = {25, 1};
  info.colour.matrix = 1;
  return info;
}

VideoFrame Moving(const std::string& format, Size size, int number) {
  VideoInfo info = SegmentInfo(format);
  EncodePlan plan;
  info.size = plan.size = size;
  plan.pixel_format = info.pixel_format = format;
  // Made through the converter from a picture in RGB, over a black frame.
  AVFrame* const black = av_frame_alloc();
  black->format = AV_PIX_FMT_GRAY8;
  black->width = size.width;
  black->height = size.height;
  EXPECT_GE(av_frame_get_buffer(black, 0), 0);
  std::memset(black->buf[0]->data, 16, black->buf[0]->size);
  const VideoFrame source(std::shared_ptr<const AVFrame>(black, [](AVFrame* f) { av_frame_free(&f); }));
  info.pixel_format = "gray";
  auto converter = FrameConverter::Make(info, plan, {});
  EXPECT_TRUE(converter.ok()) << converter.status();
  std::vector<float> before(static_cast<size_t>(size.area()) * 3, 0.0f), after = before;
  for (size_t i = 0; i < after.size(); ++i) {
    const int x = static_cast<int>(i) % size.width, y = static_cast<int>(i) / size.width % size.height;
    after[i] = static_cast<float>((x * 3 + y * 5 + number * 7) % 97) / 97;
  }
  return *(*converter)->Finish(source, before.data(), after.data());
}

TEST_F(VideoWriteTest, EveryEncoderKeepsEveryFrameAndGivesTheSameBytesAgain) {
  const struct {
    const char* encoder;
    const char* format;
    const char* codec;
    const char* preset;
    double crf;
    Size size;
  } rows[] = {{"libx264", "yuv420p", "h264", "medium", 18, {96, 64}},
              {"libx264", "yuv444p", "h264", "veryfast", 18, {85, 47}},
              {"libx264", "yuv422p10le", "h264", "fast", 10, {96, 47}},
              {"libx265", "yuv420p10le", "hevc", "fast", 20, {96, 64}},
              {"libx265", "yuv444p12le", "hevc", "ultrafast", 20, {85, 47}},
              {"libsvtav1", "yuv420p10le", "av1", "10", 30, {96, 64}},
              {"libsvtav1", "yuv420p", "av1", "12", 30, {64, 64}},
              {"ffv1", "yuv420p", "ffv1", "", 0, {85, 47}},
              {"ffv1", "yuv422p10le", "ffv1", "", 0, {96, 64}},
              {"ffv1", "bgr0", "ffv1", "", 0, {96, 64}}};
  for (const auto& row : rows) {
    for (const int frames : {1, 2, 70}) {
      SCOPED_TRACE(std::string(row.encoder) + " " + row.format + " " + std::to_string(frames) + " frames");
      VideoInfo info = SegmentInfo(row.format);
      info.size = row.size;
      info.frame_rate = {10, 1};
      EncodePlan plan;
      plan.encoder = row.encoder;
      plan.pixel_format = row.format;
      plan.preset = row.preset;
      plan.crf = row.crf;
      plan.size = row.size;
      for (const char* const name : {"a.nut", "b.nut"}) {
        auto writer = SegmentWriter::Open(File(name), info, plan);
        ASSERT_TRUE(writer.ok()) << writer.status();
        for (int i = 0; i < frames; ++i) {
          const Status status = (*writer)->Write(Moving(row.format, row.size, i));
          ASSERT_TRUE(status.ok()) << status;
        }
        const Status status = (*writer)->Finish();
        ASSERT_TRUE(status.ok()) << status;
      }
      // x265 sometimes reads memory that nobody wrote (one encode in fifty, when other encoders ran before).
      if (plan.encoder != "libx265") {
        EXPECT_TRUE(Slurp(File("a.nut")) == Slurp(File("b.nut")));
      }
      const std::string facts =
          Ffprobe("-count_frames -show_entries stream=codec_name,nb_read_frames,width,height -of csv=p=0 " + File("a.nut"));
      EXPECT_EQ(facts, std::string(row.codec) + "," + std::to_string(row.size.width) + "," + std::to_string(row.size.height) + "," +
                           std::to_string(frames) + "\n");
      // A key frame begins it, and another comes within five seconds.
      const auto flags = Lines(Ffprobe("-show_entries packet=flags -of csv=p=0 " + File("a.nut")));
      ASSERT_EQ(flags.size(), static_cast<size_t>(frames));
      EXPECT_EQ(flags[0][0], 'K');
      EXPECT_GE(std::count_if(flags.begin(), flags.end(), [](const std::string& f) { return f[0] == 'K'; }), frames > 51 ? 2 : 1);
    }
  }
}

TEST_F(VideoWriteTest, LosslessSegmentsAreLossless) {
  EncodePlan plan;
  plan.encoder = "ffv1";
  plan.pixel_format = "yuv420p";
  plan.size = {96, 64};
  auto writer = SegmentWriter::Open(File("a.nut"), SegmentInfo("yuv420p"), plan);
  ASSERT_TRUE(writer.ok()) << writer.status();
  std::string raw;
  for (int i = 0; i < 5; ++i) {
    const VideoFrame frame = Moving("yuv420p", plan.size, i);
    for (int plane = 0; plane < 3; ++plane) {
      for (int y = 0; y < (plane == 0 ? 64 : 32); ++y) {
        raw.append(reinterpret_cast<const char*>(frame.get()->data[plane] + y * frame.get()->linesize[plane]), plane == 0 ? 96 : 48);
      }
    }
    ASSERT_TRUE((*writer)->Write(frame).ok());
  }
  ASSERT_TRUE((*writer)->Finish().ok());
  Ffmpeg("-i " + File("a.nut") + " -f rawvideo " + File("a.raw"));
  EXPECT_TRUE(Slurp(File("a.raw")) == raw);
}

TEST_F(VideoWriteTest, ColourAndHdrAreInTheBitstream) {
  const struct {
    const char* encoder;
    const char* format;
    const char* preset;
    bool hdr;
  } rows[] = {{"libx264", "yuv420p", "fast", false},
              {"libx264", "yuv420p10le", "fast", true},
              {"libx265", "yuv420p10le", "fast", true},
              {"libsvtav1", "yuv420p10le", "12", true}};
  for (const auto& row : rows) {
    for (const bool full : {false, true}) {
      SCOPED_TRACE(std::string(row.encoder) + " " + row.format + (full ? " full" : " limited"));
      VideoInfo info = SegmentInfo(row.format);
      info.colour = {9, 9, 16, full, 1};
      info.sample_aspect = {16, 15};
      if (row.hdr) {
        info.hdr.primaries = {34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450};
        info.hdr.max_luminance = 10'000'000;
        info.hdr.min_luminance = 50;
        info.hdr.max_content_light = 1000;
        info.hdr.max_frame_average_light = 400;
      }
      EncodePlan plan;
      plan.encoder = row.encoder;
      plan.pixel_format = row.format;
      plan.preset = row.preset;
      plan.crf = 20;
      plan.size = info.size;
      auto writer = SegmentWriter::Open(File("a.nut"), info, plan);
      ASSERT_TRUE(writer.ok()) << writer.status();
      for (int i = 0; i < 3; ++i) ASSERT_TRUE((*writer)->Write(Moving(row.format, plan.size, i)).ok());
      const Status status = (*writer)->Finish();
      ASSERT_TRUE(status.ok()) << status;
      const std::string facts = Ffprobe(
          "-show_entries stream=color_range,color_space,color_transfer,color_primaries,chroma_location,"
          "sample_aspect_ratio:frame=side_data_list -read_intervals %+#1 -show_frames " +
          File("a.nut"));
      EXPECT_THAT(facts, HasSubstr(full ? "color_range=pc" : "color_range=tv"));
      for (const char* const fact : {"color_space=bt2020nc", "color_transfer=smpte2084", "color_primaries=bt2020"})
        EXPECT_THAT(facts, HasSubstr(fact));
      const bool av1 = plan.encoder == "libsvtav1";
      if (!av1) {
        EXPECT_THAT(facts, HasSubstr("sample_aspect_ratio=16:15"));
      }
      if (!row.hdr) continue;
      // AV1 has other fractions; FFmpeg's decoder of H.264 does not tell.
      const std::string all =
          plan.encoder == "libx264" ? Shell("ffmpeg -v info -i " + File("a.nut") + " -c copy -bsf:v trace_headers -f null -") : facts;
      const std::vector<std::string> hdr =
          av1 ? std::vector<std::string>{"Mastering display metadata", "max_content=1000", "max_average=400"}
          : plan.encoder == "libx264"
              ? std::vector<std::string>{"= 34500", "max_display_mastering_luminance", "= 10000000", "Content Light Level", "= 1000\n",
                                         "= 400\n"}
              : std::vector<std::string>{"Mastering display metadata", "red_x=34000/50000", "max_luminance=10000000/10000",
                                         "max_content=1000", "max_average=400"};
      for (const std::string& fact : hdr) EXPECT_THAT(all, HasSubstr(fact));
    }
  }
}

TEST_F(VideoWriteTest, ASegmentIsWholeOrNotThere) {
  EncodePlan plan;
  plan.encoder = "libx264";
  plan.pixel_format = "yuv420p";
  plan.preset = "fast";
  plan.crf = 18;
  plan.size = {96, 64};
  const VideoInfo info = SegmentInfo("yuv420p");
  {
    auto writer = SegmentWriter::Open(File("a.nut"), info, plan);
    ASSERT_TRUE(writer.ok()) << writer.status();
    EXPECT_EQ((*writer)->Write(Moving("yuv420p", {64, 64}, 0)).code(), StatusCode::kInvalidArgument);
    EXPECT_EQ((*writer)->Write(Moving("yuv422p", {96, 64}, 0)).code(), StatusCode::kInvalidArgument);
    ASSERT_TRUE((*writer)->Write(Moving("yuv420p", {96, 64}, 0)).ok());
    EXPECT_TRUE(fs::exists(File("a.nut")));
  }
  EXPECT_TRUE(Files().empty());
  {
    auto writer = SegmentWriter::Open(File("a.nut"), info, plan);
    ASSERT_TRUE(writer.ok()) << writer.status();
    EXPECT_EQ((*writer)->Finish().code(), StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(Files().empty());
  EXPECT_EQ(SegmentWriter::Open(File("none/a.nut"), info, plan).status().code(), StatusCode::kNotFound);
  plan.preset = "turbo";
  EXPECT_THAT(SegmentWriter::Open(File("a.nut"), info, plan).status().message(), HasSubstr("turbo"));
  EXPECT_TRUE(Files().empty());
}

// ---- Joins

TEST_F(VideoWriteTest, EveryFrameKeepsItsTimeAndEveryStreamItsPackets) {
  const std::string video = "-f lavfi -i testsrc2=s=96x64:r=25:d=2 ";
  const std::string tone = "-f lavfi -i sine=f=440:d=2 -f lavfi -i sine=f=880:r=48000:d=2 ";
  const std::string both = "-map 0 -map 1 -map 2 -metadata:s:a:0 language=ger -metadata:s:a:1 language=jpn -metadata title=Zwei ";
  const std::string h264 = "-c:v libx264 -preset veryfast -bf 3 ";
  const struct {
    const char* source;
    std::string arguments;
    EncodeOptions options;
    int segments;
  } rows[] = {
      {"a.mp4", video + tone + both + h264 + "-c:a aac", Codec("x264"), 3},
      {"a.mkv", video + tone + both + h264 + "-c:a:0 libopus -c:a:1 flac", Codec("x264"), 2},
      {"a.webm", video + tone + both + "-c:v libvpx-vp9 -cpu-used 8 -deadline realtime -c:a libopus", Codec("av1"), 2},
      {"b.mp4", video + tone + both + h264 + "-c:a aac", Codec("x265"), 4},
      {"b.mp4", video + tone + both + h264 + "-c:a aac", Codec("ffv1", "mkv"), 17},
      {"c.mp4", video + tone + both + h264 + "-c:a libopus", Codec("av1", "mkv"), 2},
      {"c.mkv", video + tone + both + h264 + "-c:a:0 aac -c:a:1 libmp3lame", Codec("x264", "mp4"), 3},
      {"d.mkv", video + tone + both + h264 + "-c:a:0 ac3 -c:a:1 libvorbis", Codec("x265"), 1},
      {"e.ts", video + tone + both + h264 + "-c:a:0 aac -c:a:1 mp2", Codec("x264"), 3},
      {"f.ts", video + tone + both + h264 + "-c:a:0 aac -c:a:1 ac3", Codec("x264", "mp4"), 3},
      {"g.mov", video + tone + both + h264 + "-c:a pcm_s16le", Codec("x264", "mkv"), 2},
      // Uneven frames.
      {"h.mkv", video + tone + both + h264 + "-vf \"select='not(mod(n,3)*mod(n,7))+eq(n,4)'\" -fps_mode vfr -c:a aac", Codec("x264"), 3},
      {"h.mp4", video + tone + both + h264 + "-vf \"select='not(mod(n,3)*mod(n,7))+eq(n,4)'\" -fps_mode vfr -c:a aac", Codec("x265"), 3},
      // Video and sound that do not begin together, nor at 0.
      {"i.mkv", "-itsoffset 0.7 " + video + tone + both + h264 + "-c:a aac", Codec("x264"), 2},
      {"i.mp4", "-itsoffset 0.7 " + video + tone + both + h264 + "-c:a aac", Codec("x264"), 2},
      {"j.mp4", video + "-itsoffset 0.31 " + tone + both + h264 + "-c:a aac", Codec("x264"), 2},
      {"j.mkv", video + "-itsoffset 0.31 " + tone + both + h264 + "-c:a libopus", Codec("x264", "mp4"), 2},
      {"k.mkv", video + tone + both + h264 + "-c:a aac -output_ts_offset 100", Codec("x264"), 2},
      // An edit list in the middle of a GOP.
      {"l.mp4", "-ss 0.5 -i " + File("b.mp4") + " -map 0 -c copy", Codec("x264"), 2},
      {"m.mp4", "-ss 0.5 -i " + File("b.mp4") + " -map 0 -c copy", Codec("x264", "mkv"), 2},
      {"n.mkv", "-f lavfi -i testsrc2=s=128x96:r=30000/1001:d=2 " + h264, Codec("x264"), 3},
      {"o.mp4", "-f lavfi -i testsrc2=s=128x96:r=24000/1001:d=2 " + h264, Codec("x264"), 3},
      {"p.mkv", "-f lavfi -i testsrc2=s=128x96:r=25:d=0.04 -c:v ffv1", Codec("x264", "mp4"), 1},
      {"q.mkv", "-f lavfi -i testsrc2=s=128x96:r=25:d=1 -vf scale=85:47 -pix_fmt yuv420p -c:v ffv1", Codec("x264", "mp4"), 2},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(std::string(row.source) + " to " + row.options.codec + " in " + row.options.container);
    share_ = 0;
    const std::string source = File(row.source), output = File("out");
    Ffmpeg(row.arguments + " " + source);
    const JoinPlan plan = Restore(source, row.options, row.segments);
    ASSERT_FALSE(plan.segments.empty());
    const Result<JoinedVideo> joined = Join(plan, output);
    ASSERT_TRUE(joined.ok()) << joined.status();
    EXPECT_EQ(joined->frames, static_cast<int64_t>(plan.pts.size()));
    EXPECT_EQ(joined->size, plan.encode.size);
    EXPECT_EQ(joined->bytes, static_cast<int64_t>(fs::file_size(output)));
    EXPECT_TRUE(joined->notes.empty());
    EXPECT_EQ(share_, 1);

    ExpectSameTimes(source, output, plan.encode.container);
    const auto decoded = Lines(FrameHashes(output));
    EXPECT_EQ(decoded.size(), plan.pts.size());
    if (plan.encode.encoder == "ffv1") {
      EXPECT_EQ(FrameHashes(output), FrameHashes(source));
    }
    const bool adts = source.substr(source.size() - 2) == "ts";
    for (size_t i = 0; i + 1 < probe_.streams.size(); ++i) {
      SCOPED_TRACE("audio " + std::to_string(i));
      const std::string stream = "a:" + std::to_string(i);
      std::vector<std::string> before = PacketHashes(source, stream), after = PacketHashes(output, stream);
      // Both containers drop the headers of AAC in transport streams; what is decoded tells whether the rest is there.
      if (adts && i == 0) {
        const auto sound = [&](const std::string& path) { return Shell("ffmpeg -v error -i " + path + " -map 0:a:0 -f md5 -"); };
        EXPECT_EQ(sound(source), sound(output));
        EXPECT_EQ(before.size(), after.size());
      } else {
        EXPECT_EQ(before, after);
      }
      const auto facts = [&](const std::string& path) {
        std::set<std::string> lines;  // transport streams tell them twice, for their programme too
        for (const std::string& line :
             Lines(Ffprobe("-select_streams " + stream +
                           " -show_entries stream=codec_name,sample_rate,channels:stream_tags=language -of default=nw=1 " + path))) {
          if (line.find("side_data") == std::string::npos) lines.insert(line);
        }
        return lines;
      };
      EXPECT_EQ(facts(source), facts(output));
      const std::vector<double> times = Times(source, stream), moved = Times(output, stream);
      ASSERT_EQ(times.size(), moved.size());
      EXPECT_NEAR(times.front(), moved.front(), 0.0011);
      EXPECT_NEAR(times.back(), moved.back(), 0.0011);
    }
  }
}

TEST_F(VideoWriteTest, UnevenFramesStayUneven) {
  Ffmpeg("-f lavfi -i testsrc2=s=64x48:r=25:d=2 -vf \"select='not(mod(n,4))+eq(n,5)'\" -fps_mode vfr -c:v libx264 " + File("a.mkv"));
  const JoinPlan plan = Restore(File("a.mkv"), Codec("x264"), 2);
  const auto joined = Join(plan, File("out"));
  ASSERT_TRUE(joined.ok()) << joined.status();
  const std::set<std::string> gaps = [&] {
    std::set<std::string> set;
    const std::vector<double> times = Times(File("out"), "v:0");
    for (size_t i = 1; i < times.size(); ++i) set.insert(std::to_string(std::lround((times[i] - times[i - 1]) * 1000)));
    return set;
  }();
  EXPECT_EQ(gaps, (std::set<std::string>{"160", "40", "120"}));
}

TEST_F(VideoWriteTest, SubtitlesChaptersAttachmentsAndMetadata) {
  Spill(File("s.srt"), "1\n00:00:00,200 --> 00:00:00,900\nHello <i>there</i>\n\n2\n00:00:01,100 --> 00:00:01,900\nZweite Zeile\n");
  Spill(File("meta.txt"),
        ";FFMETADATA1\ntitle=A film\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=One\n[CHAPTER]\nTIMEBASE=1/1000\n"
        "START=1000\nEND=2000\ntitle=Two\n");
  Spill(File("font.ttf"), std::string(3000, 'f'));
  Ffmpeg("-f lavfi -i color=red:s=32x32:d=0.04 -frames:v 1 " + File("cover.png"));
  const std::string inputs =
      "-f lavfi -i testsrc2=s=64x48:r=25:d=2 -f lavfi -i sine=d=2 -i " + File("s.srt") + " -i " + File("meta.txt") + " ";
  Ffmpeg(inputs + "-map 0 -map 1 -map 2 -map 2 -map_metadata 3 -c:v libx264 -c:a aac -c:s:0 srt -c:s:1 ass -attach " + File("font.ttf") +
         " -metadata:s:t:0 mimetype=application/x-truetype-font -attach " + File("cover.png") +
         " -metadata:s:t:1 mimetype=image/png -metadata:s:s:0 language=eng -metadata:s:s:1 language=ger -metadata:s:s:1 title=Signs "
         "-disposition:s:0 0 -disposition:s:1 default+forced -metadata:s:a:0 title=Sound " +
         File("a.mkv"));
  Ffmpeg(inputs + "-i " + File("cover.png") +
         " -map 0 -map 1 -map 2 -map 4 -map_metadata 3 -c:v:0 libx264 -c:a aac -c:s mov_text -c:v:1 png "
         "-disposition:v:1 attached_pic -metadata:s:s:0 language=eng -timecode 01:02:03:04 " +
         File("a.mp4"));
  const std::string entries =
      "-show_entries stream=codec_type,codec_name:stream_disposition=default,forced,attached_pic:"
      "stream_tags=language,title,filename,mimetype:chapter=start_time,end_time:chapter_tags=title:format_tags=title -of compact ";
  {
    SCOPED_TRACE("mkv to mkv");
    const JoinPlan plan = Restore(File("a.mkv"), Codec("x264"), 2);
    EXPECT_TRUE(ContainerFaults(probe_, plan.encode).empty());
    const auto joined = Join(plan, File("out.mkv"));
    ASSERT_TRUE(joined.ok()) << joined.status();
    EXPECT_EQ(Ffprobe(entries + File("a.mkv")), Ffprobe(entries + File("out.mkv")));
    EXPECT_EQ(PacketHashes(File("a.mkv"), "s:0"), PacketHashes(File("out.mkv"), "s:0"));
    EXPECT_EQ(PacketHashes(File("a.mkv"), "s:1"), PacketHashes(File("out.mkv"), "s:1"));
    EXPECT_EQ(Times(File("a.mkv"), "s:1"), Times(File("out.mkv"), "s:1"));
    Ffmpeg("-dump_attachment:t:0 " + File("font.back") + " -i " + File("out.mkv") + " -t 0 -f null -");
    EXPECT_EQ(Slurp(File("font.back")), std::string(3000, 'f'));
    EXPECT_EQ(PacketHashes(File("a.mkv"), "v:1"), PacketHashes(File("out.mkv"), "v:1")) << "the cover";
  }
  {
    SCOPED_TRACE("mp4 to mp4");
    share_ = 0;
    const JoinPlan plan = Restore(File("a.mp4"), Codec("x265"), 2);
    EXPECT_TRUE(ContainerFaults(probe_, plan.encode).empty());
    const auto joined = Join(plan, File("out.mp4"));
    ASSERT_TRUE(joined.ok()) << joined.status();
    const auto without_video = [&](const std::string& path) {
      std::string text;
      for (const std::string& line : Lines(Ffprobe(entries + path))) {
        // ffmpeg writes the time code once for each video stream, pictures too.
        const bool left_out = line.find("codec_name=h264") != std::string::npos || line.find("codec_name=hevc") != std::string::npos ||
                              line.find("codec_type=data") != std::string::npos;
        if (!left_out) text += line + "\n";
      }
      return text;
    };
    EXPECT_EQ(without_video(File("a.mp4")), without_video(File("out.mp4")));
    EXPECT_EQ(PacketHashes(File("a.mp4"), "v:1"), PacketHashes(File("out.mp4"), "v:1")) << "the cover";
    const auto text = [&](const std::string& path) { return Shell("ffmpeg -v error -copyts -i " + path + " -map 0:s:0 -f srt -"); };
    EXPECT_EQ(text(File("a.mp4")), text(File("out.mp4")));
    EXPECT_THAT(Ffprobe("-show_entries stream_tags=timecode -of csv=p=0 " + File("out.mp4")), HasSubstr("01:02:03:04"));
    EXPECT_THAT(Ffprobe("-select_streams v:0 -show_entries stream=codec_tag_string -of csv=p=0 " + File("out.mp4")), HasSubstr("hvc1"));
  }
  {
    SCOPED_TRACE("mp4 to mkv");
    share_ = 0;
    const JoinPlan plan = Restore(File("a.mp4"), Codec("ffv1", "mkv"), 2);
    EXPECT_TRUE(ContainerFaults(probe_, plan.encode).empty());
    const auto joined = Join(plan, File("out2.mkv"));
    ASSERT_TRUE(joined.ok()) << joined.status();
    const std::string facts = Ffprobe(entries + File("out2.mkv"));
    for (const char* const fact :
         {"codec_name=subrip", "codec_name=png", "tag:mimetype=image/png", "tag:title=Two", "tag:language=eng", "tag:title=A film"}) {
      EXPECT_THAT(facts, HasSubstr(fact));
    }
    EXPECT_THAT(facts, Not(HasSubstr("codec_type=data")));
    const std::string text = Shell("ffmpeg -v error -copyts -i " + File("out2.mkv") + " -map 0:s:0 -f srt -");
    EXPECT_THAT(text, HasSubstr("00:00:00,200 --> 00:00:00,900\n"));
    EXPECT_THAT(text, HasSubstr("<i>there</i>"));
    EXPECT_THAT(text, HasSubstr("Zweite Zeile"));
    EXPECT_EQ(PacketHashes(File("a.mp4"), "v:1"), PacketHashes(File("out2.mkv"), "v:1"));
  }
  {
    SCOPED_TRACE("mkv to mp4: only without what it cannot hold");
    share_ = 0;
    JoinPlan plan = Restore(File("a.mkv"), Codec("x264", "mp4"), 2);
    const auto faults = ContainerFaults(probe_, plan.encode);
    ASSERT_EQ(faults.size(), 3u);
    auto joined = Join(plan, File("out3.mp4"));
    ASSERT_FALSE(joined.ok());
    EXPECT_EQ(joined.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(joined.status().message(), HasSubstr(faults[0].what));
    EXPECT_FALSE(fs::exists(File("out3.mp4")));
    for (const ContainerFault& fault : faults) plan.dropped_streams.push_back(fault.stream);
    joined = Join(plan, File("out3.mp4"));
    ASSERT_TRUE(joined.ok()) << joined.status();
    EXPECT_EQ(PacketHashes(File("a.mkv"), "a:0"), PacketHashes(File("out3.mp4"), "a:0"));
    EXPECT_THAT(Ffprobe(entries + File("out3.mp4")), HasSubstr("codec_name=png"));
  }
}

TEST_F(VideoWriteTest, TurningAspectColourAndHdrAreCarriedOnce) {
  Ffmpeg(
      "-f lavfi -i testsrc2=s=64x48:r=25:d=1 -vf setsar=16/15 -c:v libx265 -x265-params log-level=none:colorprim=bt2020:transfer=smpte2084:"
      "colormatrix=bt2020nc:range=limited:chromaloc=2:master-display=\"G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,"
      "50)\":"
      "max-cll=1000,400 -pix_fmt yuv420p10le -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc " +
      File("hdr.mp4"));
  Ffmpeg("-i " + File("hdr.mp4") + " -c copy -metadata:s:v:0 rotate=90 " + File("a.mp4"));
  const auto facts = [&](const std::string& path) {
    return Ffprobe(
        "-select_streams v:0 -show_entries stream=sample_aspect_ratio,color_range,color_space,color_transfer,color_primaries,"
        "chroma_location,pix_fmt:stream_side_data_list -of default " +
        path);
  };
  ASSERT_THAT(facts(File("a.mp4")), HasSubstr("rotation="));
  JoinPlan plan = Restore(File("a.mp4"), Codec("x265"), 2);
  EXPECT_TRUE(probe_.turned);
  auto joined = Join(plan, File("out.mp4"));
  ASSERT_TRUE(joined.ok()) << joined.status();
  const auto rotation = [](const std::string& path) {
    return Lines(Ffprobe("-select_streams v:0 -show_entries stream_side_data=rotation:stream_tags=rotate -of default=nw=1 " + path));
  };
  EXPECT_EQ(rotation(File("a.mp4")), rotation(File("out.mp4")));
  for (const char* const fact : {"sample_aspect_ratio=16:15", "color_space=bt2020nc", "color_transfer=smpte2084", "chroma_location=topleft",
                                 "pix_fmt=yuv420p10le", "Mastering display metadata", "max_content=1000", "max_average=400"}) {
    EXPECT_THAT(facts(File("out.mp4")), HasSubstr(fact));
  }
  // Matroska cannot say that the picture is turned: only when the user gives that up.
  plan = Restore(File("a.mp4"), Codec("x265", "mkv"), 2);
  joined = Join(plan, File("out.mkv"));
  ASSERT_FALSE(joined.ok());
  EXPECT_THAT(joined.status().message(), HasSubstr("players turn"));
  share_ = 0;
  plan.dropped_streams = {plan.info.stream_index};
  joined = Join(plan, File("out.mkv"));
  ASSERT_TRUE(joined.ok()) << joined.status();
  for (const char* const fact : {"sample_aspect_ratio=16:15", "color_space=bt2020nc", "color_transfer=smpte2084",
                                 "Mastering display metadata", "max_content=1000"}) {
    EXPECT_THAT(facts(File("out.mkv")), HasSubstr(fact));
  }
}

TEST_F(VideoWriteTest, AnExcerptTakesItsPartOfEverything) {
  Spill(
      File("s.srt"),
      "1\n00:00:00,200 --> 00:00:00,900\nbefore\n\n2\n00:00:01,500 --> 00:00:01,900\ninside\n\n3\n00:00:02,500 --> 00:00:02,900\nafter\n");
  Spill(File("meta.txt"),
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1500\ntitle=One\n[CHAPTER]\nTIMEBASE=1/"
        "1000\nSTART=1500\nEND=3000\ntitle=Two\n");
  Ffmpeg("-f lavfi -i testsrc2=s=64x48:r=25:d=3 -f lavfi -i sine=r=48000:d=3 -i " + File("s.srt") + " -i " + File("meta.txt") +
         " -map 0 -map 1 -map 2 -map_metadata 3 -c:v libx264 -g 12 -c:a flac -c:s srt " + File("a.mkv"));
  const JoinPlan plan = Restore(File("a.mkv"), Codec("ffv1"), 2, 30, 25);  // from 1.2 to 2.2 s
  ASSERT_TRUE(plan.excerpt);
  const auto joined = Join(plan, File("out.mkv"));
  ASSERT_TRUE(joined.ok()) << joined.status();
  const std::vector<double> video = Times(File("out.mkv"), "v:0"), audio = Times(File("out.mkv"), "a:0");
  ASSERT_EQ(video.size(), 25u);
  EXPECT_EQ(video.front(), 0);
  EXPECT_NEAR(video.back(), 0.96, 0.001);
  EXPECT_GE(audio.front(), 0);
  EXPECT_LT(audio.front(), 0.1);
  EXPECT_LT(audio.back(), 1);
  EXPECT_GT(audio.back(), 0.85);
  const std::string text = Shell("ffmpeg -v error -copyts -i " + File("out.mkv") + " -map 0:s:0 -f srt -");
  EXPECT_THAT(text, HasSubstr("00:00:00,300 --> 00:00:00,700\ninside"));
  EXPECT_THAT(text, Not(HasSubstr("before")));
  EXPECT_THAT(text, Not(HasSubstr("after")));
  EXPECT_EQ(Ffprobe("-show_entries chapter=start_time,end_time:chapter_tags=title -of csv=p=0 " + File("out.mkv")),
            "0.000000,0.300000,One\n0.300000,1.000000,Two\n");
  const auto hashes = Lines(FrameHashes(File("a.mkv"))), kept = Lines(FrameHashes(File("out.mkv")));
  EXPECT_EQ(kept, std::vector<std::string>(hashes.begin() + 30, hashes.begin() + 55));
}

TEST_F(VideoWriteTest, NothingIsLeftOfAJoinThatFails) {
  Ffmpeg("-f lavfi -i testsrc2=s=64x48:r=25:d=2 -f lavfi -i sine=d=2 -c:v libx264 -c:a aac " + File("a.mkv"));
  const JoinPlan good = Restore(File("a.mkv"), Codec("x264"), 3);
  const std::string original = Slurp(File("a.mkv"));
  // One frame less than it should have.
  JoinPlan lacking = Restore(File("a.mkv"), Codec("x264"), 3);
  auto index = IndexVideo(File("a.mkv"), good.info, false, cancel_, [](double) {});
  ASSERT_TRUE(index.ok());
  lacking.segments[1] = File("lacking.nut");
  EncodeSegment(good, *index, 16, 32, lacking.segments[1]);  // of 16 to 33
  JoinPlan surplus = good;
  surplus.segments[1] = File("surplus.nut");
  EncodeSegment(good, *index, 16, 34, surplus.segments[1]);
  JoinPlan foreign = good;
  foreign.segments[1] = File("foreign.nut");
  JoinPlan other = good;
  other.encode.preset = "ultrafast";  // without CABAC: other parameters
  EncodeSegment(other, *index, 16, 33, foreign.segments[1]);
  JoinPlan truncated = good;
  truncated.segments[2] = File("truncated.nut");
  const std::string whole = Slurp(good.segments[2]);
  Spill(truncated.segments[2], whole.substr(0, whole.size() * 2 / 3));
  JoinPlan missing = good;
  missing.segments[0] = File("missing.nut");
  JoinPlan garbage = good;
  garbage.segments[0] = File("a.mkv");
  JoinPlan unequal = good;
  unequal.pts.pop_back();
  JoinPlan backwards = good;
  std::swap(backwards.pts[3], backwards.pts[4]);
  JoinPlan unstorable = good;
  unstorable.encode.container = "webm";
  JoinPlan no_video = good;
  no_video.info.stream_index = 1;
  JoinPlan damaged = good;  // the bytes of a frame: only decoding can tell
  damaged.segments[1] = File("damaged.nut");
  std::string bytes = Slurp(good.segments[1]);
  for (size_t i = bytes.size() / 2; i < bytes.size() / 2 + 200 && i < bytes.size(); ++i) bytes[i] = static_cast<char>(bytes[i] ^ 0x5a);
  Spill(damaged.segments[1], bytes);
  const std::set<std::string> before = Files();

  const struct {
    const char* name;
    const JoinPlan* plan;
    StatusCode code;
    const char* message;
  } rows[] = {{"a frame is missing", &lacking, StatusCode::kDataLoss, "holds 16 instead of 17 frames"},
              {"a frame too many", &surplus, StatusCode::kDataLoss, "more than its 17 frames"},
              {"another encoder", &foreign, StatusCode::kDataLoss, "different encoders"},
              {"cut off", &truncated, StatusCode::kDataLoss, "truncated.nut"},
              {"not there", &missing, StatusCode::kDataLoss, "missing.nut"},
              {"no segment", &garbage, StatusCode::kDataLoss, "a.mkv"},
              {"counts differ", &unequal, StatusCode::kInvalidArgument, "50 frames instead of 49"},
              {"times go back", &backwards, StatusCode::kInvalidArgument, "not later"},
              {"wrong container", &unstorable, StatusCode::kInvalidArgument, "cannot be stored in webm"},
              {"another stream", &no_video, StatusCode::kDataLoss, "has changed"},
              {"damaged", &damaged, StatusCode::kDataLoss, ""}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    share_ = 0;
    const auto joined = Join(*row.plan, File("out.mkv"));
    ASSERT_FALSE(joined.ok());
    EXPECT_EQ(joined.status().code(), row.code) << joined.status();
    EXPECT_THAT(joined.status().message(), HasSubstr(row.message));
    EXPECT_EQ(Files(), before);
  }
  share_ = 0;
  EXPECT_EQ(Join(good, File("none/out.mkv")).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Join(good, File("a.mkv")).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Slurp(File("a.mkv")), original) << "the source is never written";
  CancelToken cancelled;
  cancelled.Cancel();
  EXPECT_EQ(JoinVideo(good, File("out.mkv"), cancelled, [](double) {}).status().code(), StatusCode::kCancelled);
  EXPECT_EQ(Files(), before);
  EXPECT_TRUE(Join(good, File("out.mkv")).ok());
}

}  // namespace
}  // namespace nsic
