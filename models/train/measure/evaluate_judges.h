// Measures the models that judge pictures on files of real codecs. One of two files implements it: evaluate_judges.cc, or
// evaluate_absent.cc in a build for training only.
#ifndef NSIC_MODELS_TRAIN_MEASURE_EVALUATE_JUDGES_H_
#define NSIC_MODELS_TRAIN_MEASURE_EVALUATE_JUDGES_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"

namespace nsic {

struct EvaluateJudgesOptions {
  std::vector<std::string> scorers;      // folders of scorers' packs, side by side in one table; none: no table of scorers
  std::string classifier;                // folder of a pack with JudgeLabels, or empty
  std::vector<std::string> photographs;  // folders of pictures that neither has learnt from
  std::vector<std::string> drawings;
  int64_t pictures = 0;  // at most so many photographs and so many drawings, evenly spaced; 0: all
  std::string brisque;   // folder of OpenCV's model of BRISQUE, see brisque.h; empty: without
  std::string device = "auto";
  int threads = 0;            // 0: all cores
  std::string state;          // folder of what is measured, see measured.h; empty: none
  bool update_cards = false;  // put the results into the cards of the first scorer and the classifier; their identities stay
};

struct ScorerFigures {
  std::string name;                   // of the scorer
  double spearman = 0;                // with ReferenceQuality, over all versions of all pictures
  std::vector<double> kind_spearman;  // the same over each of ScorerEvaluation::kinds
  double pair_order = 0;  // share of pairs of JPEGs of a picture, of qualities 10 apart or more, where the better has the better score
  double monotone = 0;    // share of pictures whose JPEGs of quality 10, 20, .. 100 have rising scores
  double error = 0;       // mean distance from ReferenceQuality
  double megapixels_per_second = 0;
};

struct ScorerEvaluation {
  std::vector<std::string> kinds;
  std::vector<ScorerFigures> scorers;  // in the order given, BRISQUE last
  struct Degree {
    std::string name;      // "JPEG 10"
    double reference = 0;  // mean ReferenceQuality of the pictures spoilt so
    double score = 0;      // mean score of the first scorer
  };
  std::vector<Degree> degrees;
  double clean_score = 0;  // its mean score of the pictures as they are
};

struct ClassifierEvaluation {
  std::vector<std::string> labels;
  std::vector<std::vector<int64_t>> confusion;  // [what it is][what was said]
  double accuracy = 0;
  double accuracy_without_tables = 0;  // of the JPEGs alone when nothing is said of their tables
  double megapixels_per_second = 0;
};

struct JudgesEvaluation {
  int64_t photographs = 0;
  int64_t drawings = 0;
  ScorerEvaluation scorer;          // empty without one
  ClassifierEvaluation classifier;  // empty without one
};

// The middle of each picture, 768x768 at most, is what is measured. Pictures smaller than 64x64, and files that are none, are named in
// `progress` and left out. A state goes on as Evaluate's does (evaluate.h).
Result<JudgesEvaluation> EvaluateJudges(const EvaluateJudgesOptions& options, const Clock& clock, std::ostream& progress);

std::string JudgesTable(const JudgesEvaluation& evaluation);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_MEASURE_EVALUATE_JUDGES_H_
