// Spoils pictures with what spoils them in the world: libjpeg and libwebp, x264 and x265 through the program ffmpeg, and libvips' filters.
// For measuring, since the simulations on training's device (degrade.h) must not mark their own work; and to prepare versions of pictures
// that the scorer learns from (spoil_corpus.h).
#ifndef NSIC_MODELS_TRAIN_CORPORA_REAL_CODECS_H_
#define NSIC_MODELS_TRAIN_CORPORA_REAL_CODECS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/quality/metrics.h"

namespace nsic {

// Through a file and back. JPEG is 4:2:0; qualities are 1 to 100.
Result<Rgb8> ThroughJpeg(const Rgb8& picture, int quality);
Result<Rgb8> ThroughWebp(const Rgb8& picture, int quality);

enum class VideoCodec { kH264, kHevc };
// Each as a key frame of a video of constant rate factor `crf`, 4:2:0, preset "medium". All of one size, its sides even.
// FAILED_PRECONDITION when there is no ffmpeg, or it has no such encoder.
Result<std::vector<Rgb8>> ThroughVideo(const std::vector<Rgb8>& pictures, VideoCodec codec, int crf);

Result<Rgb8> Blurred(const Rgb8& picture, double sigma);       // a Gaussian, in pixels
Result<Rgb8> Rescaled(const Rgb8& picture, double scale);      // to that size and back: Lanczos, then cubic
Rgb8 Noisy(const Rgb8& picture, double sigma, uint64_t seed);  // Gaussian noise of its own on every channel
Rgb8 Mosaiced(const Rgb8& picture, int block);                 // squares of their mean colour, in pixels

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_CORPORA_REAL_CODECS_H_
