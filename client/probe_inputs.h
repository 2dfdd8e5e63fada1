// Looks into the files that a scan found: which are pictures and videos, how large, and what their bytes hash to. On all cores.
#ifndef NSIC_CLIENT_PROBE_INPUTS_H_
#define NSIC_CLIENT_PROBE_INPUTS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "client/scan_inputs.h"
#include "core/base/cancel.h"
#include "core/base/status.h"
#include "core/media/index_video.h"
#include "core/media/picture.h"

namespace nsic {

enum class ProbeState { kPicture, kVideo, kSkipped, kFailed };

struct ProbedFile {
  FoundFile file;
  ProbeState state = ProbeState::kPicture;
  std::string reason;  // one sentence, when skipped or failed
  PictureInfo info;    // of a picture
  VideoProbe video;    // of a video
  int64_t bytes = 0;   // of a video; of pictures from HashFiles on
  std::string sha256;  // from HashFiles on
};

// Reads headers, and the first frame of videos. Same order as `files`. CANCELLED only.
Result<std::vector<ProbedFile>> ProbeFiles(const std::vector<FoundFile>& files, const CancelToken& cancel,
                                           const std::function<void(size_t done)>& progress);

// Fills in sha256 and bytes of pictures and videos; one that cannot be read becomes kFailed. `progress` gets the bytes of each file that
// was read. CANCELLED only.
Status HashFiles(std::vector<ProbedFile>* files, const CancelToken& cancel, const std::function<void(int64_t bytes)>& progress);

// Runs `work(i)` for i in [0, count) on as many threads as there are cores; stops early when cancelled.
Status ForEachInParallel(size_t count, const CancelToken& cancel, const std::function<void(size_t)>& work);

}  // namespace nsic

#endif  // NSIC_CLIENT_PROBE_INPUTS_H_
