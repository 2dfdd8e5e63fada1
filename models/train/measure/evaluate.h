// Measures enhancers on pictures that real codecs spoilt: every picture is compressed, restored by the engine as a worker would, and
// compared with the original. One of two files implements it: evaluate.cc, or evaluate_absent.cc in a build for training only.
#ifndef NSIC_MODELS_TRAIN_MEASURE_EVALUATE_H_
#define NSIC_MODELS_TRAIN_MEASURE_EVALUATE_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/infer/engine.h"
#include "core/quality/metrics.h"
#include "models/io/model_pack.h"

namespace nsic {

// How a picture is spoilt. JPEGs are libjpeg's, 4:2:0.
struct Spoiling {
  enum class By {
    kNothing,
    kJpeg,
    kJpegTwice,  // cut at (4, 4) in between, so that the grids do not meet; the second time at quality 30
    kMosaic,
  };
  By by = By::kNothing;
  int degree = 0;  // quality, of the first JPEG; side of the mosaic's squares in pixels
};
std::string SpoilingName(const Spoiling& spoiling);  // "nothing", "JPEG 10", "JPEG 10, 30", "mosaic 4"

// The spoilt picture; `original` is cut where that is.
Result<Rgb8> Spoil(const Spoiling& spoiling, Rgb8* original);

// FAILED_PRECONDITION, NOT_FOUND and the like as ReadModelPack says; INVALID_ARGUMENT unless it is an enhancer of scale 1.
Result<ModelPack> ReadEnhancerToMeasure(const std::string& folder);

// The picture as a worker would restore it, by an enhancer of scale 1.
Result<Rgb8> Restore(Enhancer* enhancer, const Rgb8& picture);

struct EvaluateOptions {
  std::string pack;  // folder of an enhancer of scale 1
  std::string data;  // folder of pictures
  std::vector<Spoiling> spoilings;
  int64_t pictures = 0;         // at most so many, evenly spaced; 0: all
  std::string device = "auto";  // as the engine takes it
  int threads = 0;              // 0: all cores
  std::string state;            // folder of what is measured, see measured.h; empty: none
};

struct MeanScores {
  double psnr_rgb = 0;  // dB, mean of the pictures' values, as are the others; a value above 100 (equal pictures) counts as 100
  double psnr_y = 0;
  double ssim_y = 0;
  double psnr_b = 0;
};

struct EvaluateRow {
  Spoiling spoiling;
  MeanScores spoilt;    // against the original
  MeanScores restored;  // the pack's output for that, against the original
};

struct Evaluation {
  std::string data;  // the folder's name and its parent's
  int64_t pictures = 0;
  double megapixels_per_second = 0;  // of the engine, over all rows
  std::vector<EvaluateRow> rows;
};

// Pictures that cannot be decoded or are smaller than 16x16 are named in `progress` and left out. With a state, what a run that ended
// early had measured is not measured again, and the result, speed included, is that of both together.
Result<Evaluation> Evaluate(const EvaluateOptions& options, const Clock& clock, std::ostream& progress);

// A table with a row a spoiling: each score of the spoilt picture, of the restored one, and the gain.
std::string EvaluationTable(const Evaluation& evaluation);

// Puts the figures into the card of the pack in this folder, in place of those on the same data; its identity stays.
Status WriteToCard(const std::string& folder, const std::vector<Evaluation>& evaluations);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_MEASURE_EVALUATE_H_
