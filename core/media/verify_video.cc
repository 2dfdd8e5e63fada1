#include "core/media/verify_video.h"

extern "C" {
#include <libavutil/mathematics.h>
#include <libavutil/pixdesc.h>
}

#include <algorithm>
#include <cmath>
#include <set>

namespace nsic {
namespace {

constexpr int kMostJoins = 12;        // that are decoded
constexpr int kFramesAfterJoin = 3;   // decoded of the segment that begins there
constexpr double kTimeSlack = 0.002;  // seconds: containers round to 1 ms, some start times twice

bool IsAttachment(const AVStream& stream) {
  return stream.codecpar->codec_type == AVMEDIA_TYPE_ATTACHMENT || (stream.disposition & AV_DISPOSITION_ATTACHED_PIC) != 0;
}

Status Differs(const std::string& path, const std::string& what) {
  return DataLossError("the verification of " + path + " failed: " + what);
}

// QuickTime fills the gaps between subtitles with empty ones, which say nothing.
bool SaysNothing(const AVStream& stream, const AVPacket& packet) {
  return packet.size == 0 || (stream.codecpar->codec_id == AV_CODEC_ID_MOV_TEXT && packet.size <= 2);
}

class Verifier {
 public:
  Verifier(const std::string& path, const ExpectedVideo& expected, const CancelToken& cancel,
           const std::function<void(double share)>& progress)
      : path_(path), expected_(expected), cancel_(cancel), progress_(progress) {}

  Status Run() {
    NSIC_RETURN_IF_ERROR(Open());
    NSIC_RETURN_IF_ERROR(CompareStreams());
    NSIC_RETURN_IF_ERROR(ComparePackets());
    return DecodeJoins();
  }

 private:
  Status Open() {
    NSIC_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> source, OpenFileSource(path_));
    Result<std::unique_ptr<VideoFile>> file = VideoFile::Open(std::move(source));
    if (!file.ok()) return Differs(path_, file.status().message());
    file_ = *std::move(file);
    return OkStatus();
  }

  Status CompareStreams() {
    AVFormatContext& format = *file_->format();
    size_t found = 0;
    number_.assign(format.nb_streams, -1);
    for (unsigned i = 0; i < format.nb_streams; ++i) {
      const AVStream& stream = *format.streams[i];
      if (stream.codecpar->codec_type == AVMEDIA_TYPE_DATA) continue;
      if (found == expected_.streams.size()) return Differs(path_, "it has more streams than were written");
      const ExpectedStream& expected = expected_.streams[found];
      const AVMediaType type = IsAttachment(stream) ? AVMEDIA_TYPE_ATTACHMENT : stream.codecpar->codec_type;
      const std::string name = "stream " + std::to_string(i);
      if (type != expected.type || (type != AVMEDIA_TYPE_ATTACHMENT && stream.codecpar->codec_id != expected.codec)) {
        return Differs(path_,
                       name + " is " + avcodec_get_name(stream.codecpar->codec_id) + " instead of " + avcodec_get_name(expected.codec));
      }
      const AVDictionaryEntry* const language = av_dict_get(stream.metadata, "language", nullptr, 0);
      if (expected.language.size() == 3 && expected.language != "und" && (language == nullptr || expected.language != language->value)) {
        return Differs(path_, name + " has lost its language " + expected.language);
      }
      if (static_cast<int>(found) == expected_.restored) video_ = static_cast<int>(i);
      number_[i] = static_cast<int>(found++);
    }
    if (found != expected_.streams.size()) {
      return Differs(path_, "it has " + std::to_string(found) + " instead of " + std::to_string(expected_.streams.size()) + " streams");
    }
    if (format.nb_chapters != expected_.chapters) {
      return Differs(path_,
                     "it has " + std::to_string(format.nb_chapters) + " instead of " + std::to_string(expected_.chapters) + " chapters");
    }
    const AVCodecParameters& video = *format.streams[video_]->codecpar;
    if (Size{video.width, video.height} != expected_.size) return Differs(path_, "the video has another size");
    return OkStatus();
  }

  Status ComparePackets() {
    struct Seen {
      int64_t packets = 0;
      double first = 0, last = 0, end = 0;
    };
    AVFormatContext& format = *file_->format();
    std::vector<Seen> seen(expected_.streams.size());
    std::vector<int64_t> pts;
    pts.reserve(expected_.pts.size());
    NSIC_ASSIGN_OR_RETURN(const AvOwner<AVPacket> packet, NewPacket());
    double start = 1e18, end = -1e18;
    while (true) {
      NSIC_RETURN_IF_ERROR(cancel_.Check());
      av_packet_unref(packet.get());
      const int error = av_read_frame(&format, packet.get());
      if (error == AVERROR_EOF && format.pb->error >= 0) break;
      if (error < 0) return Differs(path_, AvError(error == AVERROR_EOF ? format.pb->error : error, "cannot read it back").message());
      const AVStream& stream = *format.streams[packet->stream_index];
      const int number = packet->stream_index < static_cast<int>(number_.size()) ? number_[static_cast<size_t>(packet->stream_index)] : -1;
      if (number < 0 || IsAttachment(stream) || SaysNothing(stream, *packet)) continue;
      if (packet->stream_index == video_) {
        pts.push_back(packet->pts);
        if (pts.size() % 256 == 0) progress_(0.5 * static_cast<double>(pts.size()) / static_cast<double>(expected_.pts.size()));
      }
      const int64_t stamp = packet->pts != AV_NOPTS_VALUE ? packet->pts : packet->dts;
      const double time = static_cast<double>(stamp) * av_q2d(stream.time_base);
      Seen& now = seen[static_cast<size_t>(number)];
      if (now.packets++ == 0) now.first = now.last = time;
      now.first = std::min(now.first, time);
      now.last = std::max(now.last, time);
      start = std::min(start, time);
      end = std::max(end, time + static_cast<double>(packet->duration) * av_q2d(stream.time_base));
    }
    NSIC_RETURN_IF_ERROR(CompareTimes(&pts));
    for (size_t i = 0; i < seen.size(); ++i) {
      const ExpectedStream& expected = expected_.streams[i];
      const std::string name = "stream " + std::to_string(i);
      if (expected.type == AVMEDIA_TYPE_ATTACHMENT) continue;
      if (seen[i].packets != expected.packets) {
        return Differs(path_,
                       name + " has " + std::to_string(seen[i].packets) + " instead of " + std::to_string(expected.packets) + " packets");
      }
      if (expected.packets == 0) continue;
      if (std::abs(seen[i].first - expected.first) > kTimeSlack || std::abs(seen[i].last - expected.last) > kTimeSlack) {
        return Differs(path_, name + " goes from " + std::to_string(seen[i].first) + " to " + std::to_string(seen[i].last) +
                                  " s instead of from " + std::to_string(expected.first) + " to " + std::to_string(expected.last) + " s");
      }
    }
    // Containers count their duration from 0 or from the first packet.
    constexpr double kDurationSlack = 0.5;  // seconds: the last packet of each stream may have no duration
    const double duration = static_cast<double>(format.duration) / AV_TIME_BASE;
    if (std::abs(duration - end) > kDurationSlack && std::abs(duration - (end - start)) > kDurationSlack) {
      return Differs(path_, "its header says " + std::to_string(duration) + " s, and its packets end at " + std::to_string(end) + " s");
    }
    return OkStatus();
  }

  Status CompareTimes(std::vector<int64_t>* pts) {
    std::sort(pts->begin(), pts->end());
    if (pts->size() != expected_.pts.size()) {
      return Differs(path_, "it has " + std::to_string(pts->size()) + " instead of " + std::to_string(expected_.pts.size()) + " frames");
    }
    for (size_t i = 0; i < pts->size(); ++i) {
      if ((*pts)[i] == Rounded(i)) continue;
      const AVRational time_base = file_->format()->streams[video_]->time_base;
      return Differs(path_, "frame " + std::to_string(i) + " is at " + TimeText((*pts)[i], time_base) + " instead of " +
                                TimeText(Rounded(i), time_base));
    }
    return OkStatus();
  }

  // A frame's pts in the time base of the file.
  int64_t Rounded(size_t frame) const {
    return av_rescale_q(expected_.pts[frame], expected_.time_base, file_->format()->streams[video_]->time_base);
  }

  Status DecodeJoins() {
    const int frames = static_cast<int>(expected_.pts.size());
    std::set<std::pair<int, int>> spans = {{0, std::min(frames, kFramesAfterJoin)}, {std::max(0, frames - 1), frames}};
    const size_t joins = expected_.joins.size(), tried = std::min<size_t>(joins, kMostJoins);
    for (size_t i = 0; i < tried; ++i) {
      const int join = expected_.joins[i * joins / tried];
      spans.insert({std::max(0, join - 1), std::min(frames, join + kFramesAfterJoin)});
    }
    NSIC_RETURN_IF_ERROR(file_->Select(video_));
    NSIC_ASSIGN_OR_RETURN(const AvOwner<AVCodecContext> decoder, OpenDecoder(*file_, 0, false, &damage_));
    size_t done = 0;
    for (const auto& [first, end] : spans) {
      NSIC_RETURN_IF_ERROR(DecodeSpan(decoder.get(), static_cast<size_t>(first), static_cast<size_t>(end)));
      progress_(0.5 + 0.5 * static_cast<double>(++done) / static_cast<double>(spans.size()));
    }
    return OkStatus();
  }

  // Frames [first, end) come out whole when the file is played from the key frame before.
  Status DecodeSpan(AVCodecContext* decoder, size_t first, size_t end) {
    const AVRational time_base = file_->time_base();
    if (first == 0) {
      NSIC_RETURN_IF_ERROR(file_->Rewind());
    } else if (!file_->SeekTime(Rounded(first))) {
      return Differs(path_, "it cannot be played from " + TimeText(Rounded(first), time_base));
    }
    avcodec_flush_buffers(decoder);
    NSIC_ASSIGN_OR_RETURN(const AvOwner<AVPacket> packet, NewPacket());
    NSIC_ASSIGN_OR_RETURN(const AvOwner<AVFrame> frame, NewFrame());
    const auto broken = [&](size_t number) {
      return Differs(path_, "frame " + std::to_string(number) + " at " + TimeText(Rounded(number), time_base) + " does not decode");
    };
    // The decoder of H.264 makes colour frames of grey ones.
    const bool grey = av_pix_fmt_count_planes(expected_.pixel_format) == 1;
    size_t next = first;
    bool draining = false;
    while (next < end) {
      NSIC_RETURN_IF_ERROR(cancel_.Check());
      const int got = avcodec_receive_frame(decoder, frame.get());
      if (got == AVERROR(EAGAIN) && !draining) {
        NSIC_ASSIGN_OR_RETURN(const bool more, file_->Read(packet.get()));
        draining = !more;
        // On the way there, what no other frame needs is skipped, and so is what only smooths: whether frames come out whole is the same.
        const bool on_the_way = more && packet->pts != AV_NOPTS_VALUE && packet->pts < Rounded(first);
        decoder->skip_frame = on_the_way ? AVDISCARD_NONREF : AVDISCARD_DEFAULT;
        decoder->skip_loop_filter = on_the_way ? AVDISCARD_ALL : AVDISCARD_DEFAULT;
        if (avcodec_send_packet(decoder, more ? packet.get() : nullptr) < 0) return broken(next);
        av_packet_unref(packet.get());
        continue;
      }
      if (got < 0 || !IsWhole(*frame) || damage_ > 0) return broken(next);
      if (frame->pts < Rounded(next)) continue;  // on the way from the key frame
      bool full_range = false;
      const bool fits = frame->width == expected_.size.width && frame->height == expected_.size.height &&
                        (grey || PlainFormat(frame->format, &full_range) == expected_.pixel_format);
      if (frame->pts != Rounded(next) || !fits) return broken(next);
      ++next;
    }
    return OkStatus();
  }

  const std::string& path_;
  const ExpectedVideo& expected_;
  const CancelToken& cancel_;
  const std::function<void(double)>& progress_;
  std::unique_ptr<VideoFile> file_;
  DamageReports damage_{0};
  int video_ = 0;            // its stream
  std::vector<int> number_;  // of each stream in expected_.streams, or -1
};

}  // namespace

Status VerifyVideo(const std::string& path, const ExpectedVideo& expected, const CancelToken& cancel,
                   const std::function<void(double share)>& progress) {
  return Verifier(path, expected, cancel, progress).Run();
}

}  // namespace nsic
