// Spearman's rank correlation.
#ifndef NSIC_MODELS_TRAIN_MEASURE_RANK_CORRELATION_H_
#define NSIC_MODELS_TRAIN_MEASURE_RANK_CORRELATION_H_

#include <vector>

namespace nsic {

// -1 to 1; equal values share the mean of their ranks. 0 when one side has no two different values. Both of one size, at least 2.
double RankCorrelation(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_MEASURE_RANK_CORRELATION_H_
