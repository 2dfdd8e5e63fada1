// Decodes exactly the frames of a segment, from wherever decoding can start.
#ifndef NSIC_CORE_MEDIA_READ_VIDEO_H_
#define NSIC_CORE_MEDIA_READ_VIDEO_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/cancel.h"
#include "core/base/status.h"
#include "core/media/byte_source.h"
#include "core/media/video.h"
#include "core/media/video_frame.h"

namespace nsic {

struct ReadVideoOptions {
  bool tolerate = false;
  int threads = 0;  // of the decoder; 0: all cores
};

// Reads little more than the bytes of the frames that are asked for. One thread at a time.
//
// Whole is a frame of which FFmpeg's decoder has nothing bad to say, nor of those that it was made from: after a damaged reference frame
// none is whole up to the next key frame. Decoders of arithmetic codes without checksums (VP8, VP9, much of HEVC) may not notice damage.
class VideoReader {
 public:
  // `info` is what the index says: a file that is another has changed (DATA_LOSS).
  static Result<std::unique_ptr<VideoReader>> Open(std::unique_ptr<ByteSource> source, const VideoInfo& info,
                                                   const ReadVideoOptions& options);
  virtual ~VideoReader() = default;

  // Goes to the first of `segment.starts` from which the segment's first frame comes out whole; each fails over to the one before.
  virtual Status Seek(const Segment& segment, const CancelToken& cancel) = 0;
  // The segment's frames one by one, matched by pts, deinterlaced if info.deinterlace says so (with the same result however the video is
  // cut); nothing after the last. INVALID_ARGUMENT or DATA_LOSS, with the time in the video, when one does not come out whole, or changes
  // its size or format; with `tolerate` the last good one stands in for it, and its number is in concealed().
  virtual Result<std::optional<VideoFrame>> Next(const CancelToken& cancel) = 0;
  virtual const std::vector<int>& concealed() const = 0;  // numbers in the video
};

// One frame as a segment, for those who want no others: from the last key frame before it, else from one of a few earlier ones, at last
// from the first. `frame` is one of the index's.
Segment SegmentOfFrame(const VideoIndex& index, int frame);

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_READ_VIDEO_H_
