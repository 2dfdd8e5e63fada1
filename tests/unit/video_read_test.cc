// Videos made on the spot by the ffmpeg command line, which also decodes them whole for the comparison: what the index lists and what
// segments give must be exactly that, however a file was made and wherever it is cut.
extern "C" {
#include <libavutil/frame.h>
#include <libavutil/imgutils.h>
#include <libavutil/md5.h>
#include <libavutil/pixdesc.h>
}

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "core/base/digest.h"
#include "core/media/byte_source.h"
#include "core/media/index_video.h"
#include "core/media/read_video.h"

namespace nsic {
namespace {

using testing::HasSubstr;
using testing::Not;

struct Shown {
  int64_t pts = 0;
  std::string hash;
  friend bool operator==(const Shown& a, const Shown& b) { return a.pts == b.pts && a.hash == b.hash; }
};

std::string Pixels(const AVFrame& frame) {
  const auto format = static_cast<AVPixelFormat>(frame.format);
  const int size = av_image_get_buffer_size(format, frame.width, frame.height, 1);
  std::vector<uint8_t> bytes(static_cast<size_t>(std::max(size, 0)));
  av_image_copy_to_buffer(bytes.data(), size, frame.data, frame.linesize, format, frame.width, frame.height, 1);
  std::array<uint8_t, 16> digest{};
  av_md5_sum(digest.data(), bytes.data(), bytes.size());
  std::string text;
  for (const uint8_t byte : digest) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

void Spill(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

// Counts what is read from a file.
class CountingSource : public ByteSource {
 public:
  CountingSource(const std::string& path, std::set<int64_t>* blocks) : source_(*OpenFileSource(path)), blocks_(blocks) {}
  int64_t size() const override { return source_->size(); }
  const std::string& display() const override { return source_->display(); }
  Result<size_t> Read(int64_t offset, char* buffer, size_t bytes) override {
    auto got = source_->Read(offset, buffer, bytes);
    if (got.ok()) {
      for (int64_t at = offset; at < offset + static_cast<int64_t>(*got); at += kBlock) blocks_->insert(at / kBlock);
    }
    return got;
  }
  static constexpr int64_t kBlock = 4096;

 private:
  std::unique_ptr<ByteSource> source_;
  std::set<int64_t>* blocks_;
};

class VideoTest : public testing::Test {
 protected:
  VideoTest() : folder_(std::filesystem::temp_directory_path() / ("nsic-video-" + RandomHex(8))) {
    std::filesystem::create_directories(folder_);
  }
  ~VideoTest() override { std::filesystem::remove_all(folder_); }
  std::string Path(const std::string& name) const { return folder_ / name; }

  // Whether it succeeds; what it says is in `said_`.
  bool Try(const std::string& command) {
    std::FILE* const pipe = ::popen(("cd '" + folder_.string() + "' && " + command + " 2>&1").c_str(), "r");
    said_.clear();
    std::array<char, 4096> buffer{};
    while (const size_t got = std::fread(buffer.data(), 1, buffer.size(), pipe)) said_.append(buffer.data(), got);
    return ::pclose(pipe) == 0;
  }
  void Make(const std::string& arguments) { ASSERT_TRUE(Try("ffmpeg -nostdin -v error -y " + arguments)) << arguments << "\n" << said_; }

  // What ffmpeg itself presents of the first video stream.
  std::vector<Shown> Decoded(const std::string& name, const std::string& filter = "") {
    std::vector<Shown> shown;
    EXPECT_TRUE(Try("ffmpeg -nostdin -v quiet -copyts -i " + name + " -map 0:V:0 -fps_mode passthrough -enc_time_base -1 " + filter +
                    " -f framemd5 -"))
        << name << "\n"
        << said_;
    std::istringstream lines(said_);
    for (std::string line; std::getline(lines, line);) {
      if (line.empty() || line[0] == '#') continue;
      std::replace(line.begin(), line.end(), ',', ' ');
      std::istringstream fields(line);
      int stream = 0;
      int64_t dts = 0, duration = 0, size = 0;
      Shown frame;
      fields >> stream >> dts >> frame.pts >> duration >> size >> frame.hash;
      shown.push_back(frame);
    }
    return shown;
  }

  static std::vector<Segment> Cut(const VideoIndex& index, const std::vector<int>& lengths) {
    std::vector<Segment> segments;
    int first = 0;
    const int frames = static_cast<int>(index.pts.size());
    for (size_t i = 0; first < frames; ++i) {
      segments.push_back(CutOne(index, first, std::min(lengths[i % lengths.size()], frames - first)));
      first += static_cast<int>(segments.back().pts.size());
    }
    return segments;
  }

  static Segment CutOne(const VideoIndex& index, int first, int count) {
    Segment segment;
    segment.first = first;
    segment.pts.assign(index.pts.begin() + first, index.pts.begin() + first + count);
    const auto& keys = index.key_frames;
    auto key = std::upper_bound(keys.begin(), keys.end(), first, [](int frame, const auto& k) { return frame < k.frame; });
    while (key != keys.begin() && segment.starts.size() < 3) {
      --key;
      segment.starts.push_back({index.pts[static_cast<size_t>(key->frame)], key->position});
    }
    if (key != keys.begin()) segment.starts.push_back({index.pts[0], keys.front().position});
    return segment;
  }

  static Status ReadSegment(VideoReader& reader, const Segment& segment, std::vector<Shown>* shown) {
    const CancelToken cancel;
    NSIC_RETURN_IF_ERROR(reader.Seek(segment, cancel));
    while (true) {
      NSIC_ASSIGN_OR_RETURN(const auto frame, reader.Next(cancel));
      if (!frame) return OkStatus();
      shown->push_back({frame->get()->pts, Pixels(*frame->get())});
    }
  }

  Result<VideoIndex> Index(const std::string& name, const VideoInfo& info, bool tolerate = false) {
    const CancelToken cancel;
    return IndexVideo(Path(name), info, tolerate, cancel, nullptr);
  }

  Status ProbeAndIndex(const std::string& name, VideoProbe* probe, VideoIndex* index, bool tolerate = false) {
    NSIC_ASSIGN_OR_RETURN(*probe, ProbeVideo(Path(name)));
    NSIC_ASSIGN_OR_RETURN(*index, Index(name, probe->info, tolerate));
    return OkStatus();
  }

  std::unique_ptr<VideoReader> Open(const std::string& name, const VideoInfo& info, ReadVideoOptions options = {false, 2}) {
    auto source = OpenFileSource(Path(name));
    EXPECT_TRUE(source.ok()) << source.status();
    auto reader = VideoReader::Open(*std::move(source), info, options);
    EXPECT_TRUE(reader.ok()) << reader.status();
    return reader.ok() ? *std::move(reader) : nullptr;
  }

  // Index and segments of `name` against ffmpeg's decode of the whole.
  // With `decode_order`, as AVI files have it, ffmpeg stamps frames when they leave its decoder, some late and the last not at all.
  void Compare(const std::string& name, bool decode_order = false) {
    SCOPED_TRACE(name);
    VideoProbe probe;
    VideoIndex index;
    const Status indexed = ProbeAndIndex(name, &probe, &index);
    ASSERT_TRUE(indexed.ok()) << indexed;
    const std::vector<Shown> expected = Decoded(name);
    std::vector<int64_t> pts;
    for (const auto& shown : expected) pts.push_back(shown.pts);
    if (decode_order && pts.size() == index.pts.size()) pts = index.pts;
    ASSERT_EQ(index.pts, pts);
    for (const auto& lengths : std::vector<std::vector<int>>{{1000}, {7, 1, 12}}) {
      std::vector<Shown> got;
      // Each segment on its own, as workers do it, last ones first so that seeking goes both ways.
      auto segments = Cut(index, lengths);
      const auto reader = Open(name, probe.info);
      ASSERT_NE(reader, nullptr);
      std::map<int, std::vector<Shown>> parts;
      for (auto segment = segments.rbegin(); segment != segments.rend(); ++segment) {
        const Status read = ReadSegment(*reader, *segment, &parts[segment->first]);
        ASSERT_TRUE(read.ok()) << read << " in the segment from frame " << segment->first;
        ASSERT_TRUE(reader->concealed().empty());
      }
      for (const auto& [first, part] : parts) got.insert(got.end(), part.begin(), part.end());
      ASSERT_EQ(got.size(), expected.size());
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(got[i].pts, pts[i]) << "frame " << i;
        ASSERT_EQ(got[i].hash, expected[i].hash) << "frame " << i;
      }
    }
    keys_ = index.key_frames.size();
  }

  std::filesystem::path folder_;
  std::string said_;
  size_t keys_ = 0;
};

constexpr char kSource[] = "-f lavfi -i testsrc2=size=96x64:rate=25:duration=2 ";

struct Coding {
  const char* name;
  const char* arguments;
  std::vector<const char*> containers;
};

const std::vector<Coding>& Codings() {
  static const auto* const kCodings = new std::vector<Coding>{
      {"h264 closed", "-c:v libx264 -g 12 -bf 2", {"mp4", "mkv", "ts", "mov", "flv"}},
      {"h264 open pyramid", "-c:v libx264 -x264-params open-gop=1:keyint=12:bframes=4:b-pyramid=normal", {"mp4", "mkv", "ts"}},
      {"h264 long", "-c:v libx264 -g 1000 -sc_threshold 0", {"mp4", "mkv", "ts"}},
      {"h264 refresh", "-c:v libx264 -x264-params intra-refresh=1:keyint=16", {"mp4", "mkv", "ts"}},
      {"h264 mbaff", "-c:v libx264 -flags +ildct+ilme -x264-params tff=1:keyint=12", {"mp4", "mkv", "ts"}},
      {"hevc closed", "-c:v libx265 -x265-params keyint=12:open-gop=0:bframes=4:log-level=none", {"mp4", "mkv", "ts"}},
      {"hevc open", "-c:v libx265 -x265-params keyint=12:open-gop=1:bframes=4:b-pyramid=1:log-level=none", {"mp4", "mkv", "ts"}},
      {"hevc long", "-c:v libx265 -x265-params keyint=1000:scenecut=0:log-level=none", {"mp4"}},
      {"vp8", "-c:v libvpx -g 20 -auto-alt-ref 1 -lag-in-frames 10 -deadline realtime -cpu-used 8", {"webm", "mkv"}},
      {"vp9", "-c:v libvpx-vp9 -g 20 -auto-alt-ref 1 -lag-in-frames 10 -deadline good -cpu-used 8", {"webm", "mkv", "mp4"}},
      {"av1 aom", "-c:v libaom-av1 -g 20 -cpu-used 8 -lag-in-frames 10", {"webm", "mkv", "mp4"}},
      {"av1 svt", "-c:v libsvtav1 -preset 10 -g 20", {"mkv", "mp4"}},
      {"mpeg2 open", "-c:v mpeg2video -g 12 -bf 2", {"mpg", "ts", "mkv", "mp4"}},
      {"mpeg2 closed interlaced",
       "-c:v mpeg2video -g 12 -bf 2 -sc_threshold 1000000000 -flags +ildct+ilme+cgop -top 1",
       {"mpg", "ts", "mkv"}},
      {"mpeg4", "-c:v mpeg4 -g 12 -bf 2", {"avi", "mp4", "mkv"}},
      {"mpeg4 no b", "-c:v mpeg4 -g 12", {"avi", "mp4", "mkv"}},
      {"xvid packed", "-vf noise=alls=20:allf=t -c:v libxvid -g 12 -bf 2 -q:v 3", {"avi"}},
      {"ffv1 intra", "-c:v ffv1 -level 3 -g 1", {"mkv", "avi", "mov"}},
      {"ffv1 long", "-c:v ffv1 -level 3 -g 12", {"mkv", "avi"}},
      {"mjpeg", "-c:v mjpeg -q:v 3", {"avi", "mov", "mkv"}},
      {"prores", "-c:v prores_ks -pix_fmt yuv422p10le", {"mov", "mkv"}},
      {"huffyuv", "-c:v huffyuv -pix_fmt yuv422p", {"avi", "mkv"}},
      {"flv1", "-c:v flv -g 12", {"flv"}},
      {"wmv2", "-c:v wmv2 -g 12", {"asf"}},
      {"theora", "-c:v libtheora -g 12", {"ogv"}},
  };
  return *kCodings;
}

bool DecodeOrder(const std::string& arguments) { return arguments.find("-bf 2") != std::string::npos; }

TEST_F(VideoTest, EveryCodingInEveryContainerGivesItsFrames) {
  for (const Coding& coding : Codings()) {
    SCOPED_TRACE(coding.name);
    const std::string first = coding.containers.front();
    for (const std::string container : coding.containers) {
      const std::string name = "base." + container;
      // AVI and program streams keep no complete time stamps to copy.
      const bool again = container == first || first == "avi" || container == "avi" || first == "mpg";
      Make(again ? kSource + std::string(coding.arguments) + " " + name : "-i base." + first + " -c copy " + name);
      keys_ = 0;
      Compare(name, container == "avi" && DecodeOrder(coding.arguments));
      std::printf("%-24s %-5s %zu key frames\n", coding.name, container.c_str(), keys_);
    }
  }
}

struct Timing {
  const char* name;
  const char* make;  // of "base.mkv" or "base.mp4", which hold the coding
  const char* extension;
};

TEST_F(VideoTest, WhateverTheTimesAre) {
  const std::vector<const char*> codings{
      "-c:v libx264 -x264-params open-gop=1:keyint=12:bframes=3:b-pyramid=normal",
      "-c:v libx265 -x265-params keyint=12:open-gop=1:bframes=4:log-level=none",
      "-c:v libvpx-vp9 -g 20 -auto-alt-ref 1 -lag-in-frames 10 -deadline good -cpu-used 8",
      "-c:v mpeg4 -g 12 -bf 2",
      "-c:v mpeg2video -g 12 -bf 2",
      "-c:v ffv1 -level 3 -g 12",
  };
  const std::vector<Timing> timings{
      {"variable rate, mkv", "-i base.mkv -c copy -bsf:v setts=pts=PTS", "mkv"},
      {"edit list from the middle of a GOP", "-ss 0.3 -i base.mp4 -c copy", "mp4"},
      {"edit list with an end", "-ss 0.3 -i base.mp4 -t 1 -c copy", "mov"},
      {"late start", "-itsoffset 10 -i base.mkv -c copy", "mkv"},
      {"late start, mp4", "-itsoffset 1.5 -i base.mp4 -c copy", "mp4"},
      {"late start, ts", "-i base.mp4 -c copy -output_ts_offset 5", "ts"},
      {"early start", "-itsoffset -0.5 -i base.mp4 -c copy -avoid_negative_ts disabled", "mp4"},
      {"fragments", "-i base.mp4 -c copy -movflags frag_keyframe+empty_moov+default_base_moof", "mp4"},
      {"without an index", "-i base.mkv -c copy -live 1", "mkv"},
      {"cut without keys", "-ss 0.3 -i base.mkv -c copy -copyinkf", "mkv"},
      {"wrapped clock", "-i base.mp4 -c copy -output_ts_offset 95442.7 -mpegts_copyts 1", "ts"},
  };
  for (const char* const coding : codings) {
    SCOPED_TRACE(coding);
    const bool mp4 = std::string(coding).find("ffv1") == std::string::npos;
    const bool ts = std::string(coding).find("vp9") == std::string::npos && std::string(coding).find("mpeg4") == std::string::npos;
    const bool any_rate = std::string(coding).find("mpeg2") == std::string::npos;
    // Every third frame is left out, and the others come early or late.
    const std::string source =
        "-f lavfi -i testsrc2=size=96x64:rate=25:duration=2 " +
        std::string(any_rate ? "-vf \"setpts='(N+0.3*mod(N,3))/25/TB',select='not(eq(mod(n,5),2))'\" -enc_time_base 1:1000"
                             : "-vf \"select='not(eq(mod(n,5),2))'\"") +
        " -fps_mode vfr ";
    Make(source + coding + " base.mkv");
    if (mp4) Make(source + coding + " base.mp4");
    for (const Timing& timing : timings) {
      const bool from_mp4 = std::string(timing.make).find("base.mp4") != std::string::npos;
      if ((from_mp4 && !mp4) || (timing.extension == std::string("ts") && !ts)) continue;
      SCOPED_TRACE(timing.name);
      const std::string name = std::string("timed.") + timing.extension;
      if (!Try("ffmpeg -nostdin -v error -y " + std::string(timing.make) + " " + name)) {
        std::printf("left out: %s, %s: %s", coding, timing.name, said_.c_str());
        continue;
      }
      keys_ = 0;
      Compare(name);
      std::printf("%-40.40s %-36s %zu key frames\n", coding, timing.name, keys_);
    }
  }
}

struct PacketPlace {
  int64_t pts, position, size;
  bool key;
};

TEST_F(VideoTest, DamagedPacketsAreNotPassedOn) {
  const std::vector<const char*> codings{"-c:v libx264 -g 12 -bf 2",
                                         "-c:v libx264 -g 12 -bf 0 -x264-params slices=4",
                                         "-c:v libx264 -g 12 -coder vlc",
                                         "-c:v libx265 -x265-params keyint=12:bframes=3:log-level=none",
                                         "-c:v libvpx-vp9 -g 12 -deadline good -cpu-used 8",
                                         "-c:v libvpx -g 12 -deadline realtime -cpu-used 8",
                                         "-c:v libaom-av1 -g 12 -cpu-used 8",
                                         "-c:v mpeg2video -g 12 -bf 2",
                                         "-c:v mpeg4 -g 12 -bf 2",
                                         "-c:v ffv1 -level 3 -g 1 -slicecrc 1",
                                         "-c:v ffv1 -level 1 -g 1",
                                         "-c:v mjpeg -q:v 3",
                                         "-c:v prores_ks -pix_fmt yuv422p10le",
                                         "-c:v huffyuv -pix_fmt yuv422p"};
  for (const char* const coding : codings) {
    for (const char* const filler : {"zeros", "noise", "ones"}) {
      Make("-f lavfi -i testsrc2=size=160x96:rate=25:duration=2 -vf noise=alls=10:allf=t " + std::string(coding) + " base.mkv");
      ASSERT_TRUE(Try("ffprobe -v error -select_streams v -show_entries packet=pts,pos,size,flags -of csv=p=0 base.mkv"));
      std::vector<PacketPlace> packets;
      std::istringstream lines(said_);
      for (std::string line; std::getline(lines, line);) {
        PacketPlace p{};
        char flags[8] = "";
        std::sscanf(line.c_str(), "%ld,%ld,%ld,%7s", &p.pts, &p.size, &p.position, flags);
        p.key = flags[0] == 'K';
        packets.push_back(p);
      }
      VideoProbe probe;
      VideoIndex index;
      const Status status = ProbeAndIndex("base.mkv", &probe, &index);
      ASSERT_TRUE(status.ok()) << status;
      const std::vector<Shown> expected = Decoded("base.mkv");
      const std::string bytes = Slurp(Path("base.mkv"));
      int detected = 0, silent = 0, harmless = 0;
      for (const size_t which : {20u, 21u, 24u, 26u, 27u, 30u, 31u, 33u}) {
        std::string damaged = bytes;
        const PacketPlace& p = packets[which];
        uint32_t state = static_cast<uint32_t>(which);
        for (int64_t at = p.position + p.size / 3; at < p.position + p.size * 2 / 3; ++at) {
          state = state * 1664525u + 1013904223u;
          damaged[static_cast<size_t>(at)] = filler[0] == 'z' ? '\0' : filler[0] == 'o' ? '\xff' : static_cast<char>(state >> 24);
        }
        Spill(Path("damaged.mkv"), damaged);
        std::vector<Shown> got;
        const auto reader = Open("damaged.mkv", probe.info);
        const Status read = ReadSegment(*reader, CutOne(index, 12, 30), &got);
        const bool same = std::equal(got.begin(), got.end(), expected.begin() + 12);
        if (!same)
          ++silent;
        else if (read.ok())
          ++harmless;
        else
          ++detected;
      }
      std::printf("%-60s %s: detected %d, silent %d, harmless %d\n", coding, filler, detected, silent, harmless);
    }
  }
}

}  // namespace
}  // namespace nsic
