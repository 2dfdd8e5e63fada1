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

struct PacketPlace {
  int64_t pts = 0;
  int64_t position = 0;
  int64_t size = 0;
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

  // Where a Matroska file's packets lie, in the order of decoding.
  std::vector<PacketPlace> Packets(const std::string& name) {
    EXPECT_TRUE(Try("ffprobe -v error -select_streams v -show_entries packet=pts,pos,size -of csv=p=0 " + name)) << said_;
    std::vector<PacketPlace> packets;
    std::istringstream lines(said_);
    for (std::string line; std::getline(lines, line);) {
      std::replace(line.begin(), line.end(), ',', ' ');
      std::istringstream fields(line);
      PacketPlace packet;
      fields >> packet.pts >> packet.size >> packet.position;
      packets.push_back(packet);
    }
    return packets;
  }

  // One transport stream after the other, as if sent without a break: each packet carries the next number of its stream.
  std::string Joined(const std::string& first, const std::string& second) {
    std::string bytes = Slurp(Path(first)) + Slurp(Path(second));
    std::map<int, int> counters;
    for (size_t at = 0; at + 188 <= bytes.size(); at += 188) {
      const int pid = (static_cast<uint8_t>(bytes[at + 1]) & 31) << 8 | static_cast<uint8_t>(bytes[at + 2]);
      const bool payload = (bytes[at + 3] & 0x10) != 0;
      int& counter = counters.emplace(pid, 15).first->second;
      if (payload) counter = (counter + 1) & 15;
      bytes[at + 3] = static_cast<char>((bytes[at + 3] & 0xF0) | counter);
    }
    return bytes;
  }
  std::string Later(const std::string& name) {
    Make("-i " + name + " -c copy -output_ts_offset 1 -f mpegts later");
    return "later";
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

struct Damage {
  const char* coding;
  int filler;  // a byte, or -1: noise
};

// What these decoders cannot notice (arithmetic codes without a checksum: VP9, most of HEVC and H.264's CABAC in the middle of a slice) is
// not claimed here.
TEST_F(VideoTest, DamageIsNotPassedOn) {
  const std::vector<Damage> rows{{"-c:v libx264 -g 12 -bf 2", 255},
                                 {"-c:v libx264 -g 12 -bf 0 -x264-params slices=4", -1},
                                 {"-c:v libx264 -g 12 -coder vlc", 0},
                                 {"-c:v mpeg2video -g 12 -bf 2", -1},
                                 {"-c:v mpeg4 -g 12 -bf 2", 0},
                                 {"-c:v ffv1 -level 3 -g 1 -slicecrc 1", -1},
                                 {"-c:v mjpeg -q:v 3", -1},
                                 {"-c:v prores_ks -pix_fmt yuv422p10le", -1}};
  for (const Damage& row : rows) {
    SCOPED_TRACE(row.coding);
    Make("-f lavfi -i testsrc2=size=160x96:rate=25:duration=2 -vf noise=alls=10:allf=t " + std::string(row.coding) + " base.mkv");
    VideoProbe probe;
    VideoIndex index;
    const Status status = ProbeAndIndex("base.mkv", &probe, &index);
    ASSERT_TRUE(status.ok()) << status;
    const std::vector<Shown> expected = Decoded("base.mkv");
    const std::vector<PacketPlace> packets = Packets("base.mkv");
    const std::string bytes = Slurp(Path("base.mkv"));
    for (const size_t which : {24u, 27u, 30u}) {
      std::string damaged = bytes;
      const PacketPlace& packet = packets[which];
      uint32_t state = static_cast<uint32_t>(which);
      for (int64_t at = packet.position + packet.size / 3; at < packet.position + packet.size * 2 / 3; ++at) {
        state = state * 1664525u + 1013904223u;
        damaged[static_cast<size_t>(at)] = static_cast<char>(row.filler < 0 ? state >> 24 : static_cast<uint32_t>(row.filler));
      }
      Spill(Path("damaged.mkv"), damaged);
      const Segment segment = CutOne(index, 6, 38);

      std::vector<Shown> got;
      const Status strict = ReadSegment(*Open("damaged.mkv", probe.info), segment, &got);
      EXPECT_EQ(strict.code(), StatusCode::kDataLoss) << strict;
      EXPECT_THAT(strict.message(), HasSubstr(" s cannot be decoded whole"));
      EXPECT_THAT(strict.message(), HasSubstr("--tolerate"));
      EXPECT_TRUE(std::equal(got.begin(), got.end(), expected.begin() + 6)) << "packet " << which;

      got.clear();
      const auto reader = Open("damaged.mkv", probe.info, {true, 2});
      const Status tolerant = ReadSegment(*reader, segment, &got);
      EXPECT_TRUE(tolerant.ok()) << tolerant;
      ASSERT_EQ(got.size(), segment.pts.size());
      const std::set<int> concealed(reader->concealed().begin(), reader->concealed().end());
      EXPECT_FALSE(concealed.empty());
      EXPECT_LE(concealed.size(), 14u) << "no more than to the next key frame";
      for (int i = 0; i < static_cast<int>(got.size()); ++i) {
        const int number = segment.first + i;
        EXPECT_EQ(got[static_cast<size_t>(i)].pts, index.pts[static_cast<size_t>(number)]);
        const bool stands_in = concealed.count(number) > 0;
        EXPECT_EQ(got[static_cast<size_t>(i)].hash,
                  stands_in ? got[static_cast<size_t>(i) - 1].hash : expected[static_cast<size_t>(number)].hash)
            << "packet " << which << " frame " << number << (stands_in ? " concealed" : "");
      }
    }
  }
}

TEST_F(VideoTest, ASegmentReadsLittleMoreThanItsBytes) {
  for (const char* const container : {"mp4", "mkv", "ts"}) {
    SCOPED_TRACE(container);
    const std::string name = std::string("long.") + container;
    Make("-f lavfi -i testsrc2=size=320x180:rate=25:duration=60 -vf noise=alls=25:allf=t -c:v libx264 -preset ultrafast -crf 18 -g 50 " +
         name);
    VideoProbe probe;
    VideoIndex index;
    const Status status = ProbeAndIndex(name, &probe, &index);
    ASSERT_TRUE(status.ok()) << status;
    const auto size = static_cast<int64_t>(std::filesystem::file_size(Path(name)));
    ASSERT_GT(size, 20'000'000);
    std::set<int64_t> blocks;
    auto reader = VideoReader::Open(std::make_unique<CountingSource>(Path(name), &blocks), probe.info, {false, 2});
    ASSERT_TRUE(reader.ok()) << reader.status();
    const int64_t opening = static_cast<int64_t>(blocks.size()) * CountingSource::kBlock;
    blocks.clear();
    std::vector<Shown> got;
    const Status read = ReadSegment(**reader, CutOne(index, 1010, 100), &got);
    ASSERT_TRUE(read.ok()) << read;
    ASSERT_EQ(got.size(), 100u);
    const int64_t segment = static_cast<int64_t>(blocks.size()) * CountingSource::kBlock;
    const int64_t needed = size * 110 / 1500;  // from the key frame at 1000 on
    std::printf("%s: %lld bytes, opening read %lld, a segment of %lld read %lld\n", container, static_cast<long long>(size),
                static_cast<long long>(opening), static_cast<long long>(needed), static_cast<long long>(segment));
    EXPECT_LT(opening, 6'000'000);
    EXPECT_LT(segment, needed * 3 / 2 + 1'000'000);
  }
}

TEST_F(VideoTest, DeinterlacedFramesDoNotDependOnTheCut) {
  // Interlaced, progressive and mixed programmes, by frame flags and by the container's word.
  const std::vector<std::pair<const char*, const char*>> rows{
      {"-vf tinterlace=mode=interleave_top -c:v libx264 -flags +ildct+ilme -x264-params tff=1:keyint=12:open-gop=1", "fields.mkv"},
      {"-vf tinterlace=mode=interleave_bottom,fieldorder=bff -c:v mpeg2video -g 12 -bf 2 -flags +ildct+ilme -top 0", "fields.ts"},
      {"-vf tinterlace=mode=interleave_top,setfield=tff -c:v mjpeg -q:v 3 -field_order tt", "fields.mov"},
  };
  for (const auto& [arguments, name] : rows) {
    SCOPED_TRACE(arguments);
    Make("-f lavfi -i testsrc2=size=96x64:rate=50:duration=2 " + std::string(arguments) + " " + name);
    VideoProbe probe;
    VideoIndex index;
    const Status status = ProbeAndIndex(name, &probe, &index);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_TRUE(IsInterlaced(probe.info));
    probe.info.deinterlace = true;
    const auto reader = Open(name, probe.info);
    std::vector<Shown> whole;
    const Status read = ReadSegment(*reader, CutOne(index, 0, static_cast<int>(index.pts.size())), &whole);
    ASSERT_TRUE(read.ok()) << read;
    ASSERT_EQ(whole.size(), index.pts.size());
    // The frames inside are what ffmpeg's own filter makes of them.
    const std::vector<Shown> plain = Decoded(name, "-vf bwdif=mode=send_frame:parity=auto:deint=all");
    ASSERT_EQ(plain.size(), whole.size());
    for (size_t i = 1; i + 1 < whole.size(); ++i) EXPECT_EQ(whole[i].hash, plain[i].hash) << "frame " << i;
    for (const auto& lengths : std::vector<std::vector<int>>{{1}, {5, 12, 7}}) {
      std::vector<Shown> parts;
      for (const Segment& segment : Cut(index, lengths)) {
        const Status part = ReadSegment(*reader, segment, &parts);
        ASSERT_TRUE(part.ok()) << part;
      }
      EXPECT_TRUE(parts == whole);
    }
  }
}

TEST_F(VideoTest, RefusesBadFilesWithTheCure) {
  Make(kSource + std::string("-f lavfi -i sine=duration=2 -c:v libx264 -g 12 -c:a aac base.mp4"));
  Make(kSource + std::string("-c:v libx264 -g 12 base.mkv"));
  Make(kSource + std::string("-c:v libx264 -g 12 base.ts"));
  Make(kSource + std::string("-c:v mpeg4 -g 12 base.avi"));
  Make("-f lavfi -i testsrc2=size=96x64:rate=25:duration=1 -c:v libx264 -g 12 other.ts");
  Make("-f lavfi -i testsrc2=size=64x64:rate=25:duration=1 -c:v libx264 -g 12 small.ts");
  Make("-f lavfi -i testsrc2=size=96x64:rate=25:duration=1 -pix_fmt yuv444p -c:v libx264 -g 12 deep.ts");
  Make("-f lavfi -i color=red:size=64x64 -frames:v 1 cover.png");
  const std::string mp4 = Slurp(Path("base.mp4"));
  const std::string mkv = Slurp(Path("base.mkv"));
  const std::string avi = Slurp(Path("base.avi"));
  const std::string ts = Slurp(Path("base.ts"));
  const auto spill = [this](const std::string& bytes) { Spill(Path("bad"), bytes); };
  const auto make = [this](const std::string& arguments) { Make(arguments + " bad"); };
  struct Row {
    const char* name;
    std::function<void()> make;
    StatusCode code;
    std::vector<const char*> says;
  };
  const std::vector<Row> rows{
      {"empty", [&] { spill(""); }, StatusCode::kInvalidArgument, {"not a video"}},
      {"text", [&] { spill("not a film, but a text about one\n"); }, StatusCode::kInvalidArgument, {"not a video"}},
      {"noise", [&] { spill(std::string(100'000, '\x5a')); }, StatusCode::kInvalidArgument, {"not a video"}},
      {"picture", [&] { spill(Slurp(Path("cover.png"))); }, StatusCode::kInvalidArgument, {"not a video"}},
      {"playlist",
       [&] { spill("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nbase.ts\n#EXT-X-ENDLIST\n"); },
       StatusCode::kInvalidArgument,
       {"playlist"}},
      {"mp4 without its end", [&] { spill(mp4.substr(0, mp4.size() / 2)); }, StatusCode::kDataLoss, {"moov", "download"}},
      {"mp4 of a few bytes", [&] { spill(mp4.substr(0, 40)); }, StatusCode::kDataLoss, {"moov"}},
      {"mp4 cut off, header first",
       [&] {
         Make("-i base.mp4 -c copy -movflags +faststart -f mp4 bad");
         const std::string whole = Slurp(Path("bad"));
         spill(whole.substr(0, whole.size() - 10'000));
       },
       StatusCode::kDataLoss,
       {"cut off", " s", "--tolerate"}},
      {"mkv cut off", [&] { spill(mkv.substr(0, mkv.size() * 2 / 3)); }, StatusCode::kDataLoss, {"cut off", " s", "--tolerate"}},
      {"mkv header alone", [&] { spill(mkv.substr(0, 60)); }, StatusCode::kDataLoss, {"cut off"}},
      {"avi cut off", [&] { spill(avi.substr(0, avi.size() * 2 / 3)); }, StatusCode::kDataLoss, {"cut off", " s", "--tolerate"}},
      {"sound alone", [&] { make("-i base.mp4 -vn -c copy -f mp4"); }, StatusCode::kInvalidArgument, {"sound", "no video"}},
      {"sound with a cover",
       [&] { make("-i base.mp4 -i cover.png -map 0:a -map 1:v -c:a copy -c:v copy -disposition:v attached_pic -f mp4"); },
       StatusCode::kInvalidArgument,
       {"cover", "no video"}},
      {"a cover alone",
       [&] { make("-i base.mkv -i cover.png -map 1:v -c copy -disposition:v attached_pic -f mp4"); },
       StatusCode::kInvalidArgument,
       {"no video"}},
      {"encrypted",
       [&] {
         make(
             "-i base.mp4 -c copy -encryption_scheme cenc-aes-ctr -encryption_key 76a6c65c5ea762046bd749a2e632ccbb -encryption_kid "
             "a7e61c373e219033c21091fa607bf3b8 -f mp4");
       },
       StatusCode::kInvalidArgument,
       {"encrypted"}},
      {"Dolby Vision",
       [&] {
         // The box that tells bit rates becomes the one that tells of Dolby Vision: version 1.0, profile 5.
         make("-f lavfi -i testsrc2=size=96x64:rate=25:duration=1 -c:v libx265 -x265-params log-level=none -f mp4");
         std::string bytes = Slurp(Path("bad"));
         const size_t at = bytes.find("btrt");
         ASSERT_NE(at, std::string::npos);
         bytes.replace(at, 9, std::string("dvcC\x01\x00\x0a\x0d\x00", 9));
         spill(bytes);
       },
       StatusCode::kInvalidArgument,
       {"Dolby Vision", "HDR10"}},
      {"another size in the middle",
       [&] { spill(Joined("other.ts", Later("small.ts"))); },
       StatusCode::kInvalidArgument,
       {"64x64", "at 2.", "cut it there"}},
      {"another format in the middle",
       [&] { spill(Joined("other.ts", Later("deep.ts"))); },
       StatusCode::kInvalidArgument,
       {"yuv444p", "at 2.", "cut it there"}},
      {"times that go back",
       [&] { spill(Joined("other.ts", "other.ts")); },
       StatusCode::kInvalidArgument,
       {"no increasing time stamps", " s", "ffmpeg -fflags +genpts"}},
      {"times that repeat",
       [&] { make("-i base.mkv -c copy -bsf:v setts=pts='floor(PTS/80)*80':dts=DTS -f matroska"); },
       StatusCode::kInvalidArgument,
       {"no increasing time stamps", "ffmpeg -fflags +genpts"}},
      {"no times", [&] { make("-i base.mkv -c copy -f h264"); }, StatusCode::kInvalidArgument, {"no time stamps", "ffmpeg -i"}},
      {"a hole in mkv",
       [&] {
         const std::vector<PacketPlace> packets = Packets("base.mkv");
         std::string damaged = mkv;
         damaged.replace(static_cast<size_t>(packets[20].position) - 2, 40, std::string(40, '\0'));
         spill(damaged);
       },
       StatusCode::kDataLoss,
       {"damaged", " s", "--tolerate"}},
      {"packets lost in transmission",
       [&] {
         std::string damaged = ts;
         damaged.erase(188 * (ts.size() / 188 / 2), 188 * 5);
         spill(damaged);
       },
       StatusCode::kDataLoss,
       {"damaged at", " s", "--tolerate"}},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    row.make();
    VideoProbe probe;
    VideoIndex index;
    const Status status = ProbeAndIndex("bad", &probe, &index);
    EXPECT_EQ(status.code(), row.code) << status;
    EXPECT_THAT(status.message(), HasSubstr(Path("bad")));
    for (const char* const part : row.says) EXPECT_THAT(status.message(), HasSubstr(part));
    std::printf("%-32s %s\n", row.name, status.ToString().c_str());
  }
}

// The facts that files tell of themselves, and whether their frames come out all the same.
TEST_F(VideoTest, TellsWhatAVideoIs) {
  Make(
      "-f lavfi -i testsrc2=size=854x480:rate=24000/1001:duration=1 -f lavfi -i sine=duration=1 "
      "-c:v libx265 -pix_fmt yuv420p10le -aspect 16:9 -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc -color_range tv "
      "-x265-params log-level=none:master-display='G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)':max-cll=1000,400 "
      "-c:a aac -metadata:s:a language=fra -metadata:s:a title=voix hdr.mkv");
  const auto probe = ProbeVideo(Path("hdr.mkv"));
  ASSERT_TRUE(probe.ok()) << probe.status();
  const VideoInfo& info = probe->info;
  EXPECT_EQ(info.size, (Size{854, 480}));
  EXPECT_EQ(info.codec, "hevc");
  EXPECT_EQ(info.pixel_format, "yuv420p10le");
  EXPECT_NEAR(info.frame_rate.value(), 24000.0 / 1001, 0.001);
  EXPECT_EQ(info.time_base.den, 1000);
  EXPECT_NEAR(info.sample_aspect.value() * 854 / 480, 16.0 / 9, 0.001);
  EXPECT_EQ(info.colour.matrix, 9);
  EXPECT_EQ(info.colour.primaries, 9);
  EXPECT_EQ(info.colour.transfer, 16);
  EXPECT_FALSE(info.colour.full_range);
  EXPECT_EQ(info.hdr.primaries, (std::vector<int>{34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450}));
  EXPECT_EQ(info.hdr.max_luminance, 10'000'000);
  EXPECT_EQ(info.hdr.min_luminance, 50);
  EXPECT_EQ(info.hdr.max_content_light, 1000);
  EXPECT_EQ(info.hdr.max_frame_average_light, 400);
  EXPECT_FALSE(IsInterlaced(info));
  EXPECT_FALSE(probe->turned);
  EXPECT_EQ(probe->container, "mkv");
  ASSERT_EQ(probe->streams.size(), 2u);
  EXPECT_EQ(probe->streams[1].kind, "audio");
  EXPECT_EQ(probe->streams[1].codec, "aac");
  EXPECT_EQ(probe->streams[1].language, "fra");
  EXPECT_EQ(probe->streams[1].title, "voix");
  Compare("hdr.mkv");

  Make(kSource + std::string("-pix_fmt yuvj420p -c:v libx264 -g 12 full.mp4"));
  Make("-i full.mp4 -c copy -metadata:s:v rotate=90 turned.mp4");
  const auto turned = ProbeVideo(Path("turned.mp4"));
  ASSERT_TRUE(turned.ok()) << turned.status();
  EXPECT_TRUE(turned->turned);
  EXPECT_EQ(turned->container, "mp4");
  EXPECT_EQ(turned->info.size, (Size{96, 64}));
  EXPECT_EQ(turned->info.pixel_format, "yuv420p");
  EXPECT_TRUE(turned->info.colour.full_range);

  for (const auto& [container, name] : std::map<std::string, std::string>{{"webm", "webm"}, {"mpegts", "mpegts"}, {"avi", "avi"}}) {
    Make(kSource + std::string(container == "webm" ? "-c:v libvpx -deadline realtime" : "-c:v mpeg2video") + " -f " + container + " x");
    const auto other = ProbeVideo(Path("x"));
    ASSERT_TRUE(other.ok()) << other.status();
    EXPECT_EQ(other->container, name);
  }
}

TEST_F(VideoTest, OnlyTheFramesThemselvesCount) {
  Make("-f lavfi -i testsrc2=size=96x64:rate=25:duration=1 -frames:v 1 -c:v libx264 one.mp4");
  Compare("one.mp4");
  Make("-f lavfi -i testsrc2=size=96x64:rate=25:duration=1 -frames:v 1 -c:v ffv1 one.mkv");
  Compare("one.mkv");

  for (const char* const coding :
       {"-c:v ffv1 -pix_fmt yuv420p odd.mkv", "-c:v libvpx-vp9 -cpu-used 8 -pix_fmt yuv420p odd.webm", "-c:v mjpeg odd.mov"}) {
    Make("-f lavfi -i testsrc2=size=854x480:rate=25:duration=1 -frames:v 9 -vf scale=853:479 " + std::string(coding));
    const std::string name = std::string(coding).substr(std::string(coding).rfind(' ') + 1);
    EXPECT_EQ(ProbeVideo(Path(name))->info.size, (Size{853, 479})) << name;
    Compare(name);
  }

  // A name that says something else.
  Make(kSource + std::string("-c:v libx264 -g 12 -f matroska film.jpg"));
  Compare("film.jpg");

  // A picture before the video among the streams.
  Make("-f lavfi -i color=red:size=640x640 -frames:v 1 cover.png");
  Make("-i cover.png -i film.jpg -map 0:v -map 1:v -c copy -disposition:v:0 attached_pic covered.mp4");
  VideoProbe probe;
  VideoIndex index;
  Status status = ProbeAndIndex("covered.mp4", &probe, &index);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(index.pts.size(), 50u);
  EXPECT_EQ(probe.info.size, (Size{96, 64}));

  // Headers that lie about durations and counts.
  Make("-i film.jpg -c copy plain.mp4");
  std::string bytes = Slurp(Path("plain.mp4"));
  for (const char* const atom : {"mvhd", "mdhd"}) {
    const size_t at = bytes.find(atom);
    ASSERT_NE(at, std::string::npos);
    bytes.replace(at + 20, 4, std::string("\x00\x7f\xff\xff", 4));
  }
  Spill(Path("long.mp4"), bytes);
  Compare("long.mp4");
  Make("-i film.jpg -c copy plain.mkv");
  bytes = Slurp(Path("plain.mkv"));
  const size_t duration = bytes.find("\x44\x89\x88");
  ASSERT_NE(duration, std::string::npos);
  bytes.replace(duration + 3, 8, std::string("\x41\x4f\xff\xff\xff\xff\xff\xff", 8));
  Spill(Path("long.mkv"), bytes);
  Compare("long.mkv");
  Make(kSource + std::string("-c:v mjpeg short.avi"));
  bytes = Slurp(Path("short.avi"));
  const size_t header = bytes.find("avih");
  ASSERT_NE(header, std::string::npos);
  bytes.replace(header + 8 + 16, 4, std::string("\x03\x00\x00\x00", 4));
  Spill(Path("short.avi"), bytes);
  Compare("short.avi");
}

TEST_F(VideoTest, TakesWhatIsThereOfACutFileWhenTold) {
  Make(kSource + std::string("-c:v libx264 -g 12 whole.mkv"));
  Make("-i whole.mkv -c copy -movflags +faststart whole.mp4");
  for (const char* const name : {"whole.mkv", "whole.mp4"}) {
    SCOPED_TRACE(name);
    const std::string bytes = Slurp(Path(name));
    const std::vector<Shown> expected = Decoded(name);
    Spill(Path("cut"), bytes.substr(0, bytes.size() * 3 / 4));
    VideoProbe probe;
    VideoIndex index;
    const Status status = ProbeAndIndex("cut", &probe, &index, true);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_GT(index.pts.size(), 20u);
    EXPECT_LT(index.pts.size(), 50u);
    const auto reader = Open("cut", probe.info, {true, 2});
    std::vector<Shown> got;
    for (const Segment& segment : Cut(index, {9})) {
      const Status read = ReadSegment(*reader, segment, &got);
      ASSERT_TRUE(read.ok()) << read;
    }
    ASSERT_EQ(got.size(), index.pts.size());
    for (size_t i = 0; i < 15; ++i) EXPECT_TRUE(got[i] == expected[i]) << "frame " << i;
  }
}

TEST_F(VideoTest, NoticesAnotherFile) {
  Make(kSource + std::string("-c:v libx264 -g 12 first.mkv"));
  Make("-f lavfi -i testsrc2=size=96x64:rate=25:duration=1 -c:v libx264 -g 7 second.mkv");
  Make("-f lavfi -i testsrc2=size=64x64:rate=25:duration=2 -c:v libx264 -g 12 small.mkv");
  Make("-f lavfi -i testsrc2=size=96x64:rate=25:duration=2 -c:v ffv1 codec.mkv");
  VideoProbe probe;
  VideoIndex index;
  const Status status = ProbeAndIndex("first.mkv", &probe, &index);
  ASSERT_TRUE(status.ok()) << status;
  for (const char* const name : {"second.mkv", "small.mkv", "codec.mkv"}) {
    auto source = OpenFileSource(Path(name));
    ASSERT_TRUE(source.ok());
    const auto reader = VideoReader::Open(*std::move(source), probe.info, {false, 2});
    std::vector<Shown> got;
    const Status read = reader.ok() ? ReadSegment(**reader, CutOne(index, 30, 12), &got) : reader.status();
    EXPECT_TRUE(read.code() == StatusCode::kDataLoss || read.code() == StatusCode::kInvalidArgument) << name << ": " << read;
    EXPECT_THAT(read.message(), HasSubstr(name));
    std::printf("%s: %s\n", name, read.ToString().c_str());
  }
}

// A source that fails in the middle, as one over the network does.
class FailingSource : public ByteSource {
 public:
  explicit FailingSource(const std::string& path) : source_(*OpenFileSource(path)) {}
  int64_t size() const override { return source_->size(); }
  const std::string& display() const override { return source_->display(); }
  Result<size_t> Read(int64_t offset, char* buffer, size_t bytes) override {
    if (offset > size() / 2) return UnavailableError("the coordinator is away");
    return source_->Read(offset, buffer, std::min<size_t>(bytes, 10'000));
  }

 private:
  std::unique_ptr<ByteSource> source_;
};

TEST_F(VideoTest, ErrorsOfTheSourceArriveUnchanged) {
  for (const char* const name : {"film.mkv", "film.ts", "film.mp4"}) {
    Make(
        "-f lavfi -i testsrc2=size=320x180:rate=25:duration=8 -vf noise=alls=20:allf=t -c:v libx264 -preset ultrafast -crf 20 -g 50 "
        "-movflags +faststart " +
        std::string(name));
    VideoProbe probe;
    VideoIndex index;
    const Status status = ProbeAndIndex(name, &probe, &index);
    ASSERT_TRUE(status.ok()) << status;
    const auto reader = VideoReader::Open(std::make_unique<FailingSource>(Path(name)), probe.info, {true, 2});
    std::vector<Shown> got;
    const Status read = reader.ok() ? ReadSegment(**reader, CutOne(index, 150, 12), &got) : reader.status();
    EXPECT_EQ(read.code(), StatusCode::kUnavailable) << name << ": " << read;
    EXPECT_THAT(read.message(), HasSubstr("the coordinator is away"));
  }
}

// H.264 whose fields are pictures of their own, as broadcasts and camcorders have it and no encoder here makes it: 16x32 pixels, each field
// one macroblock of raw samples.
class FieldStream {
 public:
  static std::string Make(int frames) {
    FieldStream stream;
    for (int i = 0; i < frames; ++i) {
      stream.Header();
      stream.Field(i, false);
      stream.Field(i, true);
    }
    return stream.bytes_;
  }

 private:
  void Bits(uint32_t value, int count) {
    for (int i = count - 1; i >= 0; --i) bits_.push_back((value >> i & 1) != 0);
  }
  void Golomb(uint32_t value) {
    int length = 0;
    while ((value + 1) >> (length + 1) != 0) ++length;
    Bits(0, length);
    Bits(value + 1, length + 1);
  }
  void Align(bool value) {
    while (bits_.size() % 8 != 0) bits_.push_back(value);
  }
  void Unit(int type, int reference) {
    Bits(1, 1);
    Align(false);
    bytes_ += std::string("\0\0\0\1", 4) + static_cast<char>(reference << 5 | type);
    int zeros = 0;
    for (size_t at = 0; at < bits_.size(); at += 8) {
      int byte = 0;
      for (size_t i = 0; i < 8; ++i) byte = byte << 1 | static_cast<int>(bits_[at + i]);
      if (zeros >= 2 && byte <= 3) {
        bytes_ += '\3';
        zeros = 0;
      }
      bytes_ += static_cast<char>(byte);
      zeros = byte == 0 ? zeros + 1 : 0;
    }
    bits_.clear();
  }
  void Header() {
    Bits(0, 3);  // access unit delimiter: I pictures
    Unit(9, 0);
    Bits(77, 8);
    Bits(0, 8);
    Bits(30, 8);
    for (const uint32_t value : {0u, 0u, 0u, 2u, 1u}) Golomb(value);  // ids, 4 bits of frame number, 6 of order, one reference
    Bits(0, 1);
    Golomb(0);   // a macroblock wide
    Golomb(0);   // and high, a field
    Bits(0, 2);  // fields, each picture wholly
    Bits(4, 3);  // direct 8x8; neither cropping nor usability information
    Unit(7, 3);
    Golomb(0);
    Golomb(0);
    Bits(0, 2);
    for (int i = 0; i < 3; ++i) Golomb(0);
    Bits(0, 3);
    for (int i = 0; i < 3; ++i) Golomb(0);
    Bits(4, 3);  // deblocking is controlled
    Unit(8, 3);
  }
  void Field(int frame, bool bottom) {
    if (bottom) {
      Bits(0, 3);
      Unit(9, 0);
    }
    Golomb(0);
    Golomb(7);
    Golomb(0);
    Bits(0, 4);
    Bits(bottom ? 3 : 2, 2);
    if (!bottom) Golomb(static_cast<uint32_t>(frame % 2));
    Bits(bottom ? 1 : 0, 6);
    Bits(0, bottom ? 1 : 2);
    Golomb(0);
    Golomb(1);
    Golomb(25);
    Align(false);
    for (int i = 0; i < 384; ++i) Bits(static_cast<uint32_t>(16 + (i * 7 + frame * 31 + (bottom ? 99 : 0)) % 200), 8);
    Unit(bottom ? 1 : 5, 1);
  }

  std::vector<bool> bits_;
  std::string bytes_;
};

TEST_F(VideoTest, FieldsThatArePicturesMakeFrames) {
  Spill(Path("fields.h264"), FieldStream::Make(40));
  for (const char* const name : {"fields.ts", "fields.mkv", "fields.mp4"}) {
    SCOPED_TRACE(name);
    Make("-f h264 -i fields.h264 -c copy -bsf:v setts=pts=N/25/TB:dts=N/25/TB " + std::string(name));
    Compare(name);
    const auto probe = ProbeVideo(Path(name));
    ASSERT_TRUE(probe.ok()) << probe.status();
    EXPECT_EQ(probe->info.field_order, FieldOrder::kTopFirst);
    EXPECT_EQ(probe->info.size, (Size{16, 32}));
    std::printf("%s: %zu key frames\n", name, keys_);
  }
}

// Whatever the bytes, an answer comes.
TEST_F(VideoTest, SurvivesGarbage) {
  Make(kSource + std::string("-c:v libx264 -g 12 base.mp4"));
  Make(kSource + std::string("-c:v libx265 -x265-params log-level=none:keyint=12 base.mkv"));
  Make(kSource + std::string("-c:v mpeg2video -g 12 -bf 2 base.ts"));
  Make(kSource + std::string("-c:v mpeg4 -g 12 -bf 2 base.avi"));
  Make(kSource + std::string("-c:v libvpx-vp9 -cpu-used 8 -deadline realtime base.webm"));
  uint32_t state = 1;
  const auto random = [&state](size_t below) {
    state = state * 1664525u + 1013904223u;
    return static_cast<size_t>(state >> 8) % below;
  };
  int read = 0;
  for (const char* const name : {"base.mp4", "base.mkv", "base.ts", "base.avi", "base.webm"}) {
    const std::string whole = Slurp(Path(name));
    for (int round = 0; round < 60; ++round) {
      std::string bytes = whole;
      const size_t area = round % 2 == 0 ? std::min<size_t>(bytes.size(), 3000) : bytes.size();
      for (int i = 0; i < 1 + round / 4; ++i) bytes[random(area)] = static_cast<char>(random(256));
      if (round % 5 == 0) bytes.resize(bytes.size() - random(bytes.size()));
      Spill(Path("garbage"), bytes);
      VideoProbe probe;
      VideoIndex index;
      const bool tolerate = round % 3 == 0;
      if (!ProbeAndIndex("garbage", &probe, &index, tolerate).ok()) continue;
      auto source = OpenFileSource(Path("garbage"));
      const auto reader = VideoReader::Open(*std::move(source), probe.info, {tolerate, 2});
      if (!reader.ok()) continue;
      for (const Segment& segment : Cut(index, {13})) {
        std::vector<Shown> got;
        const Status status = ReadSegment(**reader, segment, &got);
        if (!status.ok()) break;
        ASSERT_EQ(got.size(), segment.pts.size());
        ++read;
      }
    }
  }
  std::printf("%d segments came out all the same\n", read);
}

}  // namespace
}  // namespace nsic
