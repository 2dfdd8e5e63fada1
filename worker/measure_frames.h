// What `nsic-client bench` wants to know of this worker: how fast its engine restores frames, and how near that is to what the device can
// do.
#ifndef NSIC_WORKER_MEASURE_FRAMES_H_
#define NSIC_WORKER_MEASURE_FRAMES_H_

#include "core/base/cancel.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/infer/engine.h"
#include "nsic/v1/work.pb.h"

namespace nsic {

// Takes some seconds a size of frame; where the network is so slow that a frame would take longer, some tiles of it. `peak_threads` is how
// many CPU threads the engine has; 0 on other devices, whose peak is not measured. Meant for a worker that does nothing else meanwhile.
// The frame of 3840x2160 takes 25 MB besides what the engine does. What Enhance returns, CANCELLED.
Result<v1::Measurement> MeasureFrames(Enhancer* enhancer, int peak_threads, const Clock& clock, const CancelToken& cancel);

}  // namespace nsic

#endif  // NSIC_WORKER_MEASURE_FRAMES_H_
