// Judges what goes through the worker: how good it looks, and what was done to it before. The networks see native resolution; what is large
// is looked at in parts, so that a picture of any size takes little memory.
#ifndef NSIC_WORKER_JUDGE_PICTURES_H_
#define NSIC_WORKER_JUDGE_PICTURES_H_

#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/cancel.h"
#include "core/base/geometry.h"
#include "core/base/status.h"
#include "core/infer/engine.h"

namespace nsic {

// Label and probability, the most probable first.
using Classes = std::vector<std::pair<std::string, double>>;

// The parts in which all of a picture is scored: as few of at most 1024x1024 as will do, of about the same size.
std::vector<Rect> BlocksToScore(Size picture);
// The parts from which a picture is classified: up to 4x4 of 256x256, spread evenly, on the grid of JPEG's blocks. They are those at which
// a Classifier looks that has the whole picture; of a smaller picture there is less.
std::vector<Rect> CropsToClassify(Size picture);
// Four of these, or as many as there are: what is looked at by the way, so that judging takes a small part of the time of restoring even
// where the network that restores is a light one.
std::vector<Rect> SampleCrops(Size picture);
// The parts from which a picture is scored by the way: all of it where that is no more than four crops are, else these. At the same places
// before and after.
std::vector<Rect> SamplesToScore(Size picture);

// What several parts come to, which must not be none: the mean of each label's probabilities; or their geometric mean, which is how a
// Classifier puts its crops together.
Classes MeanOfClasses(const std::vector<Classes>& parts);
Classes GeometricMeanOfClasses(const std::vector<Classes>& parts);

// From these crops of a picture that is in reach of `read`. `tables` when it is a JPEG file's.
Result<Classes> ClassifyPicture(Classifier* classifier, const std::vector<Rect>& crops, const ReadPixels& read,
                                const std::optional<JpegTables>& tables, const CancelToken& cancel);

// Thread-safe: scores and classifies for one thread at a time each, as scorers and classifiers want it.
class PictureJudge {
 public:
  // The mean over these parts of a picture, 0 to 100; each counts by its area.
  Result<double> Score(Scorer* scorer, const std::vector<Rect>& parts, const ReadPixels& read, const CancelToken& cancel);

  // What `look` says, which is asked once for each key of those that came lately: the tasks of one file look at the same bytes.
  Result<Classes> Classify(Classifier* classifier, const std::string& key, const std::function<Result<Classes>(Classifier*)>& look);

 private:
  std::mutex scoring_;
  std::mutex classifying_;
  std::mutex known_mutex_;
  std::list<std::pair<std::string, Classes>> known_;  // the latest first; guarded by known_mutex_
};

}  // namespace nsic

#endif  // NSIC_WORKER_JUDGE_PICTURES_H_
