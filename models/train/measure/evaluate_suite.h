// Measures all packs of a folder as restoration is measured in the literature: enhancers on JPEGs, JPEGs of JPEGs, mosaics and what was
// never spoilt, judges against reference qualities.
#ifndef NSIC_MODELS_TRAIN_MEASURE_EVALUATE_SUITE_H_
#define NSIC_MODELS_TRAIN_MEASURE_EVALUATE_SUITE_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"

namespace nsic {

struct SuiteOptions {
  std::string packs;        // folder with a folder a pack
  std::string photographs;  // folders of pictures that no pack has learnt from
  std::string drawings;
  int64_t pictures = 0;                    // at most so many of each, evenly spaced; 0: all
  std::vector<std::string> other_scorers;  // folders of packs to measure beside each scorer
  std::string brisque;                     // folder of OpenCV's model of BRISQUE, to measure it too; or empty
  std::string device = "auto";             // as the engine takes it
  int threads = 0;                         // 0: all cores
  std::string state;                       // folder of what is measured, see measured.h; empty: none
  bool update_cards = false;               // put the results into the packs' cards; their identities stay
};

// Writes each pack's tables to `tables` as soon as it is measured, with its parameters, its multiply-adds a pixel, and the engine's speed
// in this run. Each enhancer that keeps the size sees photographs and drawings; others are named in `progress` and left out.
Status EvaluateSuite(const SuiteOptions& options, const Clock& clock, std::ostream& progress, std::ostream& tables);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_MEASURE_EVALUATE_SUITE_H_
