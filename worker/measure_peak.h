// What a processor can do at most, measured: fp32 multiply-adds in registers, in the widest vectors there are.
#ifndef NSIC_WORKER_MEASURE_PEAK_H_
#define NSIC_WORKER_MEASURE_PEAK_H_

#include "core/base/clock.h"

namespace nsic {

// Multiply-adds a second (each is two operations) of `threads` threads together: the most of five tries of some ten milliseconds. Call it
// several times, on machines that do other things besides, and take the median.
double MeasureMultiplyAdds(int threads, const Clock& clock);

}  // namespace nsic

#endif  // NSIC_WORKER_MEASURE_PEAK_H_
