#include "core/media/index_video.h"

extern "C" {
#include <libavutil/pixdesc.h>
}

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "core/media/byte_source.h"
#include "core/media/decode_pictures.h"
#include "core/media/describe_stream.h"
#include "core/media/inspect_packet.h"
#include "core/media/open_video.h"

namespace nsic {
namespace {

using Frames = PacketFacts::Frames;

constexpr int kProbeFrames = 16;      // whose field flags are looked at: programmes often begin with a progressive title
constexpr int kProbePackets = 2'000;  // without one frame among them, there is none
constexpr size_t kHeadFrames = 48;    // decoded to see that packets are frames, more than any decoder delays

std::string Fixed(const std::string& display) {
  const size_t dot = display.rfind('.');
  const size_t slash = display.rfind('/');
  return (dot == std::string::npos || (slash != std::string::npos && dot < slash) ? display : display.substr(0, dot)) + ".fixed.mkv";
}

std::string RemuxCure(const std::string& display) {
  return "remux it first: ffmpeg -fflags +genpts -i " + display + " -c copy " + Fixed(display) +
         "; where that does not help, stamp its frames anew: ffmpeg -i " + display + " -fps_mode cfr -c:v ffv1 -c:a copy " + Fixed(display);
}

std::string ConvertCure(const std::string& display) {
  return "stamp its frames first: ffmpeg -i " + display + " -c:v ffv1 -c:a copy " + Fixed(display);
}

// WebM is a Matroska whose header says so.
Result<std::string> ContainerName(VideoFile& file) {
  const std::string name = file.FormatName();
  if (name == "mov") return std::string("mp4");
  if (name != "matroska") return name;
  std::string head(128, '\0');
  NSIC_ASSIGN_OR_RETURN(const size_t got, file.source().Read(0, head.data(), head.size()));
  head.resize(got);
  return std::string(head.find("\x42\x82\x84webm") != std::string::npos ? "webm" : "mkv");
}

// The stream to restore: the one that is marked as default, then the largest, then the first.
Result<int> ChooseStream(VideoFile& file) {
  const AVFormatContext& format = *file.format();
  int best = -1;
  bool audio = false;
  bool picture = false;
  const auto rank = [&format](int index) {
    const AVStream& stream = *format.streams[index];
    return std::make_pair((stream.disposition & AV_DISPOSITION_DEFAULT) != 0, int64_t{stream.codecpar->width} * stream.codecpar->height);
  };
  for (unsigned i = 0; i < format.nb_streams; ++i) {
    const AVStream& stream = *format.streams[i];
    audio = audio || stream.codecpar->codec_type == AVMEDIA_TYPE_AUDIO;
    if (stream.codecpar->codec_type != AVMEDIA_TYPE_VIDEO) continue;
    if ((stream.disposition & (AV_DISPOSITION_ATTACHED_PIC | AV_DISPOSITION_TIMED_THUMBNAILS)) != 0) {
      picture = true;
      continue;
    }
    if (best < 0 || rank(static_cast<int>(i)) > rank(best)) best = static_cast<int>(i);
  }
  if (best >= 0) return best;
  const std::string& name = file.display();
  if (audio) return InvalidArgumentError(name + " holds sound" + (picture ? " with a cover picture" : "") + " but no video; leave it out");
  if (picture) return InvalidArgumentError(name + " holds an attached picture but no video; leave it out");
  return InvalidArgumentError(name + " holds no video; leave it out");
}

bool HasSideData(const AVStream& stream, AVPacketSideDataType type) { return av_stream_get_side_data(&stream, type, nullptr) != nullptr; }

Status RefuseEncrypted(const std::string& display) {
  return InvalidArgumentError(display + " is encrypted; decrypt it first with the keys of whoever protected it");
}

Status RefuseDolbyVision(const std::string& display) {
  return InvalidArgumentError(
      display +
      " is Dolby Vision, whose metadata belongs to the very pixels that a restoration changes; make an HDR10 or SDR "
      "version of it first");
}

FieldOrder FromAv(AVFieldOrder order) {
  switch (order) {  // the second letter is the field that is shown first
    case AV_FIELD_PROGRESSIVE: return FieldOrder::kProgressive;
    case AV_FIELD_TT:
    case AV_FIELD_BT: return FieldOrder::kTopFirst;
    case AV_FIELD_BB:
    case AV_FIELD_TB: return FieldOrder::kBottomFirst;
    default: return FieldOrder::kUnspecified;
  }
}

// What a pass over the packets gathers.
struct Survey {
  struct Key {
    int64_t key;
    int64_t position;
  };
  std::vector<int64_t> frames;  // keys of the presented frames: by demuxing in the order of decoding, by decoding in that of presentation
  std::vector<Key> keys;        // of packets with which decoding can start, in the order of decoding
  bool certain = true;          // packets told everything
  size_t packets = 0;           // that present something, as far as is known
};

class Indexer {
 public:
  Indexer(VideoFile& file, const VideoInfo& info, bool tolerate, const CancelToken& cancel, const std::function<void(double)>& progress)
      : file_(file), info_(info), tolerate_(tolerate), cancel_(cancel), progress_(progress) {}

  // Packets alone, to the end or until one is uncertain.
  Result<Survey> Demux() {
    NSIC_ASSIGN_OR_RETURN(PacketInspector inspector, PacketInspector::Make(*file_.parameters()));
    NSIC_ASSIGN_OR_RETURN(const auto packet, NewPacket());
    Survey survey;
    // Files of which packets only tell the order of decoding do not tell which frame a key frame is.
    survey.certain = !file_.decode_order();
    int64_t last_dts = INT64_MIN;
    int64_t largest = INT64_MIN;
    for (int unreadable = 0; survey.certain;) {
      NSIC_RETURN_IF_ERROR(cancel_.Check());
      const Result<bool> more = file_.Read(packet.get());
      if (!more.ok()) {
        if (!tolerate_ || more.status().code() != StatusCode::kDataLoss) return AtLast(more.status());
        if (++unreadable < 64) continue;
        break;
      }
      if (!*more) {
        if (file_.damaged() && !tolerate_) return AtLast(DataLossError(file_.display() + " is damaged"));
        break;
      }
      unreadable = 0;
      const PacketFacts facts = inspector.Inspect(*packet);
      NSIC_RETURN_IF_ERROR(Check(*packet, facts));
      const int64_t pts = packet->pts;
      const int64_t dts = packet->dts;
      const int64_t position = packet->pos;
      av_packet_unref(packet.get());
      if (dts != AV_NOPTS_VALUE) {
        if (dts < last_dts) survey.certain = false;
        last_dts = dts;
      }
      if (facts.frames == Frames::kNone) continue;
      if (facts.frames == Frames::kUnknown || pts == AV_NOPTS_VALUE || (dts != AV_NOPTS_VALUE && pts < dts)) {
        survey.certain = false;
        continue;
      }
      // Where frames that are decoded before a key frame would be presented after it, time stamps go back.
      if (facts.key && pts <= largest) survey.certain = false;
      largest = std::max(largest, pts);
      survey.frames.push_back(pts);
      if (facts.key) survey.keys.push_back({pts, position});
    }
    return survey;
  }

  // What the decoder presents, all of it or the first `most` frames. Damage is looked for frame by frame once there is some.
  Result<Survey> Decode(size_t most, bool exact = false) {
    NSIC_RETURN_IF_ERROR(file_.Rewind());
    Survey survey;
    NSIC_ASSIGN_OR_RETURN(
        auto pictures, PictureStream::Make(file_, 0, tolerate_, exact, [this, &survey](const AVPacket& packet, const PacketFacts& facts) {
          return Gather(packet, facts, &survey);
        }));
    while (survey.frames.size() < most) {
      auto picture = pictures->Next(cancel_);
      if (!picture.ok()) return AtLast(picture.status());
      if (pictures->damaged() && !exact && !tolerate_) return Decode(most, true);
      const AVFrame* const frame = picture->get();
      if (frame == nullptr) break;
      NSIC_RETURN_IF_ERROR(CheckPicture(*frame));
      survey.frames.push_back(frame->pts);
    }
    return survey;
  }

  Status CheckIncreasing(const std::vector<int64_t>& pts) const {
    for (size_t i = 1; i < pts.size(); ++i) {
      if (pts[i] <= pts[i - 1]) return NotIncreasing(pts[i]);
    }
    return OkStatus();
  }

  Status NotIncreasing(int64_t pts) const {
    return InvalidArgumentError(file_.display() + ": frames at " + TimeText(pts, file_.time_base()) + " have no increasing time stamps; " +
                                RemuxCure(file_.display()));
  }

  std::string last_time() const { return TimeText(last_ == INT64_MIN ? 0 : last_, file_.time_base()); }

 private:
  Status AtLast(const Status& status) const {
    if (status.code() != StatusCode::kDataLoss) return status;
    return DataLossError(status.message() + " after " + last_time() +
                         "; copy or download it again, or restore what can be read with --tolerate");
  }

  // What holds for packets whichever pass reads them.
  Status Check(const AVPacket& packet, const PacketFacts& facts) {
    const int64_t key = file_.Key(packet);
    if (key != AV_NOPTS_VALUE) last_ = std::max(last_, key);
    if (((packet.flags & AV_PKT_FLAG_CORRUPT) != 0 || file_.damaged()) && !tolerate_) {
      return DataLossError(file_.display() + ": the video is damaged at " + last_time() +
                           "; copy or download it again, or let the frame before stand in for what is damaged with --tolerate");
    }
    if (facts.size.area() > 0) {
      if (size_.area() == 0) size_ = facts.size;
      if (facts.size != size_) return Changes(std::to_string(facts.size.width) + "x" + std::to_string(facts.size.height) + " pixels");
    }
    if (facts.pixel_format >= 0) {
      if (format_ < 0) format_ = facts.pixel_format;
      const char* const name = av_get_pix_fmt_name(static_cast<AVPixelFormat>(facts.pixel_format));
      if (facts.pixel_format != format_) return Changes("the pixel format " + std::string(name == nullptr ? "?" : name));
    }
    if (packet.pos >= 0 && progress_ != nullptr) {
      const double share =
          std::min(1.0, static_cast<double>(packet.pos) / static_cast<double>(std::max<int64_t>(file_.source().size(), 1)));
      // A second pass begins anew, which nobody wants to see.
      if (share >= reported_ + 0.001) progress_(reported_ = share);
    }
    return OkStatus();
  }

  Status Changes(const std::string& to) const {
    return InvalidArgumentError(file_.display() + " changes to " + to + " at " + last_time() +
                                "; cut it there (ffmpeg -ss, -t) and submit the parts");
  }

  Status CheckPicture(const AVFrame& frame) {
    if (!IsWhole(frame) && !tolerate_) {
      return DataLossError(file_.display() + ": the frame at " + TimeText(frame.pts, file_.time_base()) +
                           " is damaged; copy or download the file again, or let the frame before stand in for it with --tolerate");
    }
    bool full_range = false;
    const char* const name = av_get_pix_fmt_name(PlainFormat(frame.format, &full_range));
    if (Size{frame.width, frame.height} != info_.size || name == nullptr || info_.pixel_format != name) {
      last_ = frame.pts;
      return Changes(std::to_string(frame.width) + "x" + std::to_string(frame.height) + " pixels of " + (name == nullptr ? "?" : name));
    }
    if (frame.pts == AV_NOPTS_VALUE) {
      return InvalidArgumentError(file_.display() + ": frames after " + last_time() + " have no time stamps; " +
                                  ConvertCure(file_.display()));
    }
    return OkStatus();
  }

  Result<bool> Gather(const AVPacket& packet, const PacketFacts& facts, Survey* survey) {
    NSIC_RETURN_IF_ERROR(Check(packet, facts));
    const int64_t key = file_.Key(packet);
    if (key == AV_NOPTS_VALUE || facts.frames == Frames::kNone) return true;
    ++survey->packets;
    if (facts.key) survey->keys.push_back({key, packet.pos});
    return true;
  }

  VideoFile& file_;
  const VideoInfo& info_;
  const bool tolerate_;
  const CancelToken& cancel_;
  const std::function<void(double)>& progress_;
  int64_t last_ = INT64_MIN;  // the largest key so far
  double reported_ = 0;       // share
  Size size_;                 // of the first packet that tells one
  int format_ = -1;
};

// Puts frames, in the order of presentation, and key frames together.
VideoIndex Combine(std::vector<int64_t> frames, std::vector<Survey::Key> keys, bool decode_order) {
  VideoIndex index;
  std::stable_sort(keys.begin(), keys.end(), [](const auto& a, const auto& b) { return a.key < b.key; });
  const auto position = [&keys](int64_t key) {
    const auto found = std::lower_bound(keys.begin(), keys.end(), key, [](const auto& a, int64_t b) { return a.key < b; });
    return found != keys.end() && found->key == key ? std::optional<int64_t>(found->position) : std::nullopt;
  };
  for (size_t i = 0; i < frames.size(); ++i) {
    const auto at = position(frames[i]);
    // The first frame may need a packet that an edit list hides; decoding then starts where the file does.
    if (at || i == 0) index.key_frames.push_back({static_cast<int>(i), at.value_or(-1)});
  }
  if (decode_order) std::sort(frames.begin(), frames.end());
  index.pts = std::move(frames);
  return index;
}

}  // namespace

bool IsInterlaced(const VideoInfo& info) {
  return info.field_order == FieldOrder::kTopFirst || info.field_order == FieldOrder::kBottomFirst;
}

Result<VideoProbe> ProbeVideo(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(auto source, OpenFileSource(path));
  NSIC_ASSIGN_OR_RETURN(const auto file, VideoFile::Open(std::move(source)));
  const AVFormatContext& format = *file->format();
  VideoProbe probe;
  for (unsigned i = 0; i < format.nb_streams; ++i) probe.streams.push_back(DescribeStream(*format.streams[i]));
  NSIC_ASSIGN_OR_RETURN(probe.container, ContainerName(*file));
  if (format.duration != AV_NOPTS_VALUE) probe.duration_us = std::max<int64_t>(format.duration, 0);
  NSIC_ASSIGN_OR_RETURN(const int chosen, ChooseStream(*file));
  const AVStream& stream = *format.streams[chosen];
  if (HasSideData(stream, AV_PKT_DATA_ENCRYPTION_INIT_INFO)) return RefuseEncrypted(path);
  if (HasSideData(stream, AV_PKT_DATA_DOVI_CONF)) return RefuseDolbyVision(path);
  probe.turned = IsTurned(stream);

  NSIC_RETURN_IF_ERROR(file->Select(chosen));
  int packets = 0;
  const auto accept = [&packets, &path](const AVPacket& packet, const PacketFacts& /*facts*/) -> Result<bool> {
    if (av_packet_get_side_data(&packet, AV_PKT_DATA_ENCRYPTION_INFO, nullptr) != nullptr) return RefuseEncrypted(path);
    if (++packets > kProbePackets) return DataLossError(path + ": none of its first " + std::to_string(kProbePackets) + " packets decodes");
    return true;
  };
  NSIC_ASSIGN_OR_RETURN(auto pictures, PictureStream::Make(*file, 0, true, false, accept));
  const CancelToken never;
  AvOwner<AVFrame> first;
  FieldOrder fields = FieldOrder::kUnspecified;
  for (int i = 0; i < kProbeFrames && fields == FieldOrder::kUnspecified; ++i) {
    NSIC_ASSIGN_OR_RETURN(auto frame, pictures->Next(never));
    if (frame == nullptr) break;
    if (frame->interlaced_frame != 0) fields = frame->top_field_first != 0 ? FieldOrder::kTopFirst : FieldOrder::kBottomFirst;
    if (first == nullptr) first = std::move(frame);
  }
  if (first == nullptr) {
    const auto opened = OpenFileSource(path);
    if (opened.ok()) NSIC_RETURN_IF_ERROR(CheckContainerLength(**opened));
    return DataLossError(path + ": no frame of its video can be decoded; it is damaged, or not the " +
                         std::string(avcodec_get_name(stream.codecpar->codec_id)) + " video that it claims to hold");
  }
  if (av_frame_get_side_data(first.get(), AV_FRAME_DATA_DOVI_RPU_BUFFER) != nullptr ||
      av_frame_get_side_data(first.get(), AV_FRAME_DATA_DOVI_METADATA) != nullptr) {
    return RefuseDolbyVision(path);
  }
  probe.info = DescribeVideo(*file, *first);
  const AVPixFmtDescriptor* const descriptor = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(first->format));
  if (descriptor == nullptr || (descriptor->flags & (AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_BAYER)) != 0) {
    return InvalidArgumentError(path + ": its pixel format " + probe.info.pixel_format + " is not handled; convert it first");
  }
  if (stream.codecpar->codec_id == AV_CODEC_ID_HEVC && fields != FieldOrder::kUnspecified) {
    return InvalidArgumentError(path +
                                " holds each field as a picture of half the height, which is not handled; convert it first: ffmpeg -i " +
                                path + " -vf weave -c:v ffv1 -c:a copy " + Fixed(path));
  }
  probe.info.field_order = fields != FieldOrder::kUnspecified ? fields : FromAv(stream.codecpar->field_order);
  return probe;
}

Result<VideoIndex> IndexVideo(const std::string& path, const VideoInfo& info, bool tolerate, const CancelToken& cancel,
                              const std::function<void(double share)>& progress) {
  NSIC_ASSIGN_OR_RETURN(auto source, OpenFileSource(path));
  const Status length = CheckContainerLength(*source);
  NSIC_ASSIGN_OR_RETURN(const auto file, VideoFile::Open(std::move(source)));
  NSIC_RETURN_IF_ERROR(file->Select(info.stream_index));
  const bool decode_order = file->decode_order();

  Indexer indexer(*file, info, tolerate, cancel, progress);
  auto demuxed = indexer.Demux();
  if (!length.ok() && !tolerate && (demuxed.ok() || demuxed.status().code() == StatusCode::kDataLoss)) {
    return Status(length.code(), length.message() + "; what is there ends after " + indexer.last_time());
  }
  NSIC_ASSIGN_OR_RETURN(Survey survey, std::move(demuxed));
  if (survey.certain) {
    std::sort(survey.frames.begin(), survey.frames.end());
    // How a file begins is seen only by decoding: leading pictures without the ones they refer to are not presented, and a surprise among
    // the first frames means that packets are no frames here.
    NSIC_ASSIGN_OR_RETURN(const Survey head, indexer.Decode(kHeadFrames));
    const auto begin =
        head.frames.empty() ? survey.frames.end() : std::find(survey.frames.begin(), survey.frames.end(), head.frames.front());
    const auto left = static_cast<size_t>(survey.frames.end() - begin);
    survey.certain = std::adjacent_find(survey.frames.begin(), survey.frames.end()) == survey.frames.end() && !head.frames.empty() &&
                     left >= head.frames.size() && std::equal(head.frames.begin(), head.frames.end(), begin) &&
                     (head.frames.size() == kHeadFrames || left == head.frames.size());
    if (survey.certain) survey.frames.erase(survey.frames.begin(), begin);
  }
  if (!survey.certain) {
    NSIC_ASSIGN_OR_RETURN(survey, indexer.Decode(SIZE_MAX));
    if (decode_order && survey.frames.size() != survey.packets) {
      return InvalidArgumentError(path + ": which of its frames is shown when cannot be told (" + std::to_string(survey.packets) +
                                  " packets, " + std::to_string(survey.frames.size()) + " frames, no time stamps); " + ConvertCure(path));
    }
    if (!decode_order) NSIC_RETURN_IF_ERROR(indexer.CheckIncreasing(survey.frames));
  }
  if (survey.frames.empty()) return DataLossError(path + ": no frame of its video can be decoded; it is damaged");
  VideoIndex index = Combine(std::move(survey.frames), std::move(survey.keys), decode_order);
  NSIC_RETURN_IF_ERROR(indexer.CheckIncreasing(index.pts));
  if (progress != nullptr) progress(1);
  return index;
}

}  // namespace nsic
