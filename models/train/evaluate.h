// Measures a model pack on real JPEG files: every picture is compressed by libjpeg, restored by the engine as a worker would, and compared
// with the original. One of two files implements it: evaluate.cc, or evaluate_absent.cc in a build for training only.
#ifndef NSIC_MODELS_TRAIN_EVALUATE_H_
#define NSIC_MODELS_TRAIN_EVALUATE_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"

namespace nsic {

struct EvaluateOptions {
  std::string pack;             // folder of an enhancer of scale 1
  std::string data;             // folder of pictures
  std::vector<int> qualities;   // 1 to 100; the JPEGs are 4:2:0
  std::string device = "auto";  // as the engine takes it
  int threads = 0;              // 0: all cores
  bool update_card = false;     // put the result into the pack's card; its identity stays
};

struct MeanScores {
  double psnr_rgb = 0;  // dB, mean of the pictures' values, as are the others; a value above 100 (equal pictures) counts as 100
  double psnr_y = 0;
  double ssim_y = 0;
  double psnr_b = 0;
};

struct EvaluateRow {
  int quality = 0;
  MeanScores jpeg;      // the compressed picture against the original
  MeanScores restored;  // the pack's output against the original
};

struct Evaluation {
  int64_t pictures = 0;
  double megapixels_per_second = 0;  // of the engine, over all qualities
  std::vector<EvaluateRow> rows;
};

// Pictures that cannot be decoded or are smaller than 11x11 (SSIM's window) are named in `progress` and left out.
Result<Evaluation> Evaluate(const EvaluateOptions& options, const Clock& clock, std::ostream& progress);

// A table with a row a quality: each score of the JPEG, of the restored picture, and the gain.
std::string EvaluationTable(const Evaluation& evaluation);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_EVALUATE_H_
