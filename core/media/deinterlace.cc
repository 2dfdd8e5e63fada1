#include "core/media/deinterlace.h"

extern "C" {
#include <libavfilter/avfilter.h>
#include <libavfilter/buffersink.h>
#include <libavfilter/buffersrc.h>
#include <libavutil/pixdesc.h>
}

#include <algorithm>
#include <array>
#include <cstdio>

namespace nsic {
namespace {

// Codecs that say of each frame whether it is interlaced: telecined and mixed programmes keep their progressive frames as they are. Of
// others only the container knows, for all frames.
bool FramesTell(const std::string& codec) {
  static constexpr const char* kCodecs[] = {"mpeg1video", "mpeg2video", "mpeg4",  "h264",    "hevc",
                                            "vc1",        "wmv3",       "prores", "dvvideo", "ffv1"};
  return std::any_of(std::begin(kCodecs), std::end(kCodecs), [&codec](const char* known) { return codec == known; });
}

}  // namespace

Result<std::unique_ptr<Deinterlacer>> Deinterlacer::Make(const VideoInfo& info, const AVFrame& sample, int threads,
                                                         const std::string& display) {
  std::unique_ptr<Deinterlacer> self(new Deinterlacer());
  self->all_ = !FramesTell(info.codec);
  self->top_first_ = info.field_order != FieldOrder::kBottomFirst;
  self->display_ = display;
  self->graph_ = avfilter_graph_alloc();
  if (self->graph_ == nullptr) return ResourceExhaustedError("no memory to deinterlace " + display);
  self->graph_->nb_threads = threads;
  // A conversion that nobody asked for would change the samples.
  avfilter_graph_set_auto_convert(self->graph_, AVFILTER_AUTO_CONVERT_NONE);
  std::array<char, 128> arguments{};
  std::snprintf(arguments.data(), arguments.size(), "video_size=%dx%d:pix_fmt=%d:time_base=1/1", sample.width, sample.height,
                sample.format);
  const char* const mode = self->all_ ? "mode=send_frame:parity=auto:deint=all" : "mode=send_frame:parity=auto:deint=interlaced";
  AVFilterContext* bwdif = nullptr;
  int done = avfilter_graph_create_filter(&self->in_, avfilter_get_by_name("buffer"), "in", arguments.data(), nullptr, self->graph_);
  if (done >= 0) done = avfilter_graph_create_filter(&bwdif, avfilter_get_by_name("bwdif"), "bwdif", mode, nullptr, self->graph_);
  if (done >= 0) {
    done = avfilter_graph_create_filter(&self->out_, avfilter_get_by_name("buffersink"), "out", nullptr, nullptr, self->graph_);
  }
  if (done >= 0) done = avfilter_link(self->in_, 0, bwdif, 0);
  if (done >= 0) done = avfilter_link(bwdif, 0, self->out_, 0);
  if (done >= 0) done = avfilter_graph_config(self->graph_, nullptr);
  if (done == AVERROR(ENOMEM)) return ResourceExhaustedError("no memory to deinterlace " + display);
  if (done < 0) {
    return UnimplementedError("cannot deinterlace " + display + ": FFmpeg's bwdif does not take " + std::to_string(sample.width) + "x" +
                              std::to_string(sample.height) + " pixels of " + info.pixel_format + "; restore it with --deinterlace off");
  }
  return self;
}

Deinterlacer::~Deinterlacer() { avfilter_graph_free(&graph_); }

Status Deinterlacer::Push(const AVFrame& frame, bool prime) {
  AvOwner<AVFrame> copy(av_frame_clone(&frame));
  if (copy == nullptr) return ResourceExhaustedError("no memory to deinterlace " + display_);
  copy->pts = pushed_++;
  if (all_ || prime) {
    copy->top_field_first = all_ ? static_cast<int>(top_first_) : frame.top_field_first;
    copy->interlaced_frame = 1;
    if (prime) copy->repeat_pict = 0;
  }
  const int done = av_buffersrc_add_frame(in_, copy.get());
  return done < 0 ? AvError(done, "cannot deinterlace " + display_) : OkStatus();
}

Result<AvOwner<AVFrame>> Deinterlacer::Pull() {
  NSIC_ASSIGN_OR_RETURN(auto frame, NewFrame());
  const int got = av_buffersink_get_frame(out_, frame.get());
  if (got < 0) return AvError(got, "cannot deinterlace " + display_);
  return frame;
}

// bwdif treats the first frame that it filters as one without neighbours, whichever that is. Three frames that it takes for interlaced
// bring it past that, so that the video's own are all treated alike.
Status Deinterlacer::Begin(const AVFrame& before) {
  NSIC_RETURN_IF_ERROR(Push(before, true));
  for (int i = 0; i < 2; ++i) {
    NSIC_RETURN_IF_ERROR(Push(before, true));
    NSIC_RETURN_IF_ERROR(Pull().status());
  }
  NSIC_RETURN_IF_ERROR(Push(before, false));
  return Pull().status();
}

Result<AvOwner<AVFrame>> Deinterlacer::Next(const AVFrame& frame) {
  NSIC_RETURN_IF_ERROR(Push(frame, false));
  return Pull();
}

}  // namespace nsic
