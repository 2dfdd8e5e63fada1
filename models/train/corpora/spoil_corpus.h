// Versions of a corpus's pictures, made by the codecs themselves: what the scorer learns of WebP and of video.
//
// The simulation on the device (video_simulation.h) leaves out what made the scorer call smooth frames good: HEVC's and WebP's loop
// filters. Files of versions take their place where nothing has to be drawn anew for each step.
#ifndef NSIC_MODELS_TRAIN_CORPORA_SPOIL_CORPUS_H_
#define NSIC_MODELS_TRAIN_CORPORA_SPOIL_CORPUS_H_

#include <cstdint>
#include <ostream>
#include <string>

#include "core/base/status.h"

namespace nsic {

struct SpoilOptions {
  std::string data;      // a packed corpus
  std::string out;       // the corpus to write
  int64_t pictures = 0;  // at most, evenly spaced in the collection; 0 = all
  int64_t versions = 4;  // of each picture by each codec, 2 to 16
  uint64_t seed = 1;
};

// Writes the middle of each picture, at most 512 pixels a side, with `versions` made by libwebp, x264 and x265 each: their qualities are
// random, one in each equal part of the range. Pictures smaller than the judges learn from are left out and named in `progress`.
// FAILED_PRECONDITION without ffmpeg or its encoders.
Status SpoilCorpus(const SpoilOptions& options, std::ostream& progress);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_CORPORA_SPOIL_CORPUS_H_
