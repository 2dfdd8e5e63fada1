#include "client/extract_frames.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "core/media/byte_source.h"
#include "core/media/convert_frame.h"
#include "core/media/picture.h"
#include "core/media/read_video.h"

namespace nsic {
namespace {

// FFmpeg's formats of more than 8 bits a sample have their byte order in the name.
int DepthOf(const std::string& pixel_format) {
  const std::string end = pixel_format.size() > 2 ? pixel_format.substr(pixel_format.size() - 2) : "";
  return end == "le" || end == "be" ? 16 : 8;
}

}  // namespace

Status ExtractFrames(const std::string& path, const VideoInfo& info, const VideoIndex& index, const std::vector<int>& frames, bool tolerate,
                     const std::function<std::string(int frame)>& output_path, const CancelToken& cancel) {
  NSIC_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> source, OpenFileSource(path));
  ReadVideoOptions options;
  options.tolerate = tolerate;
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<VideoReader> reader, VideoReader::Open(std::move(source), info, options));
  EncodePlan plan;  // as the source is: only the way to RGB is taken
  plan.pixel_format = info.pixel_format;
  plan.size = info.size;
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<FrameConverter> converter, FrameConverter::Make(info, plan, FrameOptions()));
  WorkingPicture picture({0, 0, info.size.width, info.size.height});
  std::vector<float> planar(static_cast<size_t>(info.size.area()) * 3);
  for (const int frame : frames) {
    NSIC_RETURN_IF_ERROR(cancel.Check());
    NSIC_RETURN_IF_ERROR(reader->Seek(SegmentOfFrame(index, frame), cancel));
    NSIC_ASSIGN_OR_RETURN(const std::optional<VideoFrame> decoded, reader->Next(cancel));
    if (!decoded) return DataLossError(path + ": frame " + std::to_string(frame + 1) + " cannot be decoded");
    NSIC_RETURN_IF_ERROR(converter->ToRgb(*decoded, planar.data()));
    picture.Write(picture.rect(), planar.data());
    NSIC_RETURN_IF_ERROR(picture.SavePng(DepthOf(info.pixel_format), output_path(frame)));
  }
  return OkStatus();
}

}  // namespace nsic
