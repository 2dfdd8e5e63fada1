// Spoils good pictures on purpose: compression, mosaics, noise, blur, rescaling, on whatever device the pictures are.
//
// A degradation is a list of steps. Each picture draws, from a seed of its own, which steps it takes, in which order, and how strong each
// is. Between two steps a picture is what an 8-bit file would hold: whole numbers from 0 to 255.
#ifndef NSIC_MODELS_TRAIN_SAMPLES_DEGRADE_H_
#define NSIC_MODELS_TRAIN_SAMPLES_DEGRADE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <variant>
#include <vector>

namespace nsic {

// Values are drawn evenly from low to high, both included.
struct Range {
  double low = 0;
  double high = 0;
};

// How pictures are resampled, widened when they shrink (as Pillow does it); libraries differ, so a picture draws one of a step's.
enum class Resampling { kBox, kTriangle, kCubic, kLanczos };

// Through libjpeg once or twice, see SimulateJpeg.
struct JpegStep {
  Range quality{10, 95};        // of the last compression; 1 to 100
  double skew = 1;              // quality = low + (high - low) * u^skew: above 1, low qualities come more often
  Range first_quality{10, 95};  // of the compression before the last, where there is one
  double halved_chroma = 0.75;  // share of the compressions that are 4:2:0; the others are 4:4:4
  double shifted = 0;           // share of the pictures compressed, moved against the 8x8 grid by `shift`, and compressed again
  Range shift{0, 7};            // pixels, down and to the right, drawn for each; shift 0 is a second compression on the same grid
  double resized = 0;           // share of the pictures compressed at another size, resampled to their own and compressed again
  Range scale{0.5, 2};          // that other size over their own
  std::vector<Resampling> resampling = {Resampling::kBox, Resampling::kTriangle, Resampling::kCubic, Resampling::kLanczos};
};

// Square blocks of one colour, the rounded mean of their pixels.
struct MosaicStep {
  Range block{2, 8};  // pixels, up to 64
  double region = 0;  // share of the pictures where a rectangle of an eighth to all of each side is covered, from its corner on;
                      // in the others the blocks begin anywhere, as in a crop of a larger picture
};

struct GaussianNoiseStep {
  Range sigma{1, 20};  // standard deviation
  double grey = 0;     // share of the pictures whose three channels get the same noise
};

// Photon noise: a channel of value v had a Poisson number of photons with mean v / 255 * photons.
struct PoissonNoiseStep {
  Range photons{50, 2000};  // of a white pixel; the logarithm is drawn evenly
};

// A Gaussian, with the edge repeated outwards.
struct BlurStep {
  Range sigma{0.3, 2};   // pixels
  double stretched = 0;  // share of the pictures that draw another sigma for the vertical
};

// To another size and back.
struct RescaleStep {
  Range scale{0.5, 2};
  std::vector<Resampling> resampling = {Resampling::kBox, Resampling::kTriangle, Resampling::kCubic, Resampling::kLanczos};
};

// Through a video codec, see SimulateVideo.
struct VideoStep {
  Range quantiser{20, 40};  // H.264's QP, 0 to 51
  Range block{8, 32};       // side of the largest block, a power of two
  Range adaptive{0, 1};     // how far QP follows the texture
};

struct DegradationStep {
  std::variant<JpegStep, MosaicStep, GaussianNoiseStep, PoissonNoiseStep, BlurStep, RescaleStep, VideoStep> kind;
  double share = 1;  // of the pictures that take it
};

struct Degradation {
  double clean = 0;       // share of the pictures that stay as they are
  bool shuffled = false;  // each picture takes its steps in an order of its own; otherwise as listed
  std::vector<DegradationStep> steps;
};

// `rgb`: N x 3 x h x w, fp32, whole numbers 0 to 255. `seeds`: one for each picture. The degraded pictures, of the same kind.
// What becomes of a picture depends on it, its seed, the degradation and the kind of device; not on the others in the batch.
// Thread-safe. No gradients.
at::Tensor Degrade(const at::Tensor& rgb, const std::vector<uint64_t>& seeds, const Degradation& degradation);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_SAMPLES_DEGRADE_H_
