// Reads the frames of a segment back that SegmentWriter has encoded losslessly, a chunk in each file.
#ifndef NSIC_CORE_MEDIA_READ_CHUNKS_H_
#define NSIC_CORE_MEDIA_READ_CHUNKS_H_

#include <functional>
#include <memory>
#include <vector>

#include "core/base/status.h"
#include "core/media/byte_source.h"
#include "core/media/read_video.h"
#include "core/media/video.h"

namespace nsic {

struct ChunkFile {
  std::function<Result<std::unique_ptr<ByteSource>>()> open;  // called when the frames before have been read
  int frames = 0;
};

// A reader whose Next() gives the frames of all chunks in order: plan.size pixels of plan.pixel_format. DATA_LOSS when a file does not hold
// exactly its frames. It stands at the first frame from the start; Seek() is FAILED_PRECONDITION.
std::unique_ptr<VideoReader> ReadChunks(std::vector<ChunkFile> chunks, const EncodePlan& plan, int threads);

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_READ_CHUNKS_H_
