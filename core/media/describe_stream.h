// Streams as the rest of the program knows them. For the .cc files of this folder alone: FFmpeg's types are seen here.
#ifndef NSIC_CORE_MEDIA_DESCRIBE_STREAM_H_
#define NSIC_CORE_MEDIA_DESCRIBE_STREAM_H_

extern "C" {
#include <libavformat/avformat.h>
}

#include "core/media/index_video.h"

namespace nsic {

StreamFacts DescribeStream(const AVStream& stream);

// Whether the stream says that players turn or mirror its pictures.
bool IsTurned(const AVStream& stream);

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_DESCRIBE_STREAM_H_
