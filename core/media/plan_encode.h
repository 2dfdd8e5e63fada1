// Decides how a restored video is encoded, and what its container can hold of the source.
#ifndef NSIC_CORE_MEDIA_PLAN_ENCODE_H_
#define NSIC_CORE_MEDIA_PLAN_ENCODE_H_

#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/media/index_video.h"
#include "core/media/video.h"

namespace nsic {

// What the user asked for; what is empty or negative follows the source.
struct EncodeOptions {
  std::string codec;               // "x264", "x265", "av1", "ffv1"; empty: x264 for 8 bits, x265 for more, av1 for webm
  double crf = -1;                 // -1: the encoder's customary (18 x264, 20 x265, 28 av1)
  std::string preset;              // empty: "medium" (x264, x265), "8" (av1)
  std::string pixel_format;        // empty: the source's, or the next that the encoder takes without losing bits or chroma
  std::string container = "keep";  // "keep", "mkv", "mp4", "webm"
  double scale = 0;                // of the source's size; 0: the network's. A side that is even in the source stays even
  Size size;                       // in pixels; 0x0: by scale
};

// The plan for one video. INVALID_ARGUMENT names what the encoder cannot do (crf out of range, unknown preset, pixel format, size odd or
// too large) and what to choose instead; UNIMPLEMENTED a pixel format or colour matrix that is not handled. Encoders of subsampled chroma
// take no odd sizes: a 4:2:0 source of 853x479 pixels becomes 4:4:4, so that no pixel is lost.
Result<EncodePlan> PlanEncode(const VideoProbe& probe, const EncodeOptions& options, int network_scale);

// Data streams that no container needs to hold: QuickTime's chapter titles and time code, which are chapters and metadata as well.
bool IsCarriedOtherwise(const StreamFacts& stream);

// What `plan.container` cannot hold of this file. Empty: everything fits.
struct ContainerFault {
  int stream = -1;   // its index, for JoinPlan::dropped_streams; probe.info.stream_index: the restored video itself, as it is encoded
  std::string what;  // "subtitle stream 3 (ass) cannot be stored in mp4"
};
std::vector<ContainerFault> ContainerFaults(const VideoProbe& probe, const EncodePlan& plan);

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_PLAN_ENCODE_H_
