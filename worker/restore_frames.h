// The frames of a segment on their way through the worker:
//
//   decode, to RGB -> enhance -> finish, encode
//
// each on a thread of its own, so that the compute device never waits while there are decoded frames. A frame whose decoded samples equal
// those of the frame before takes no part in that: its finished frame is encoded once more.
#ifndef NSIC_WORKER_RESTORE_FRAMES_H_
#define NSIC_WORKER_RESTORE_FRAMES_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "core/base/bounded_queue.h"
#include "core/base/cancel.h"
#include "core/base/clock.h"
#include "core/base/geometry.h"
#include "core/base/status.h"
#include "core/infer/engine.h"
#include "core/media/convert_frame.h"
#include "core/media/read_video.h"
#include "core/media/video_frame.h"
#include "core/media/write_segment.h"
#include "worker/judge_video.h"

namespace nsic {

// What a segment's way needs, each used by one thread only.
struct FrameStages {
  std::unique_ptr<VideoReader> reader;     // after Seek
  std::unique_ptr<FrameConverter> to_rgb;  // alike, but two
  std::unique_ptr<FrameConverter> finisher;
  std::unique_ptr<FrameEnhancer> enhancer;  // null, as are the converters: frames are encoded as they are
  std::unique_ptr<SegmentWriter> writer;
  std::unique_ptr<FrameJudge> judge;  // null: no frames are scored
};

// How many RGB frames are in memory at once, before and after the network: what is compared with, what is worked on, and for each of the
// stages beside the network one. At least two of each.
struct FrameBuffers {
  int before = 4;
  int after = 3;
  int64_t bytes(Size frame, int scale) const;
};

struct RestoreStats {
  int frames = 0;  // encoded
  int frames_repeated = 0;
  EnhanceStats tiles;
  double decode_seconds = 0;  // without waiting for the other stages, as below
  double compute_seconds = 0;
  double encode_seconds = 0;
};

// Used by one thread at a time.
class FramePipeline {
 public:
  enum class Stage { kDecode, kCompute, kEncode };
  struct Failure {
    Stage stage = Stage::kDecode;
    Status status;
  };

  // Frames of `frame` pixels, enlarged by `scale` in the network. `clock` and `cancel` must outlive the pipeline.
  FramePipeline(FrameStages stages, Size frame, int scale, FrameBuffers buffers, const Clock* clock, const CancelToken& cancel);
  ~FramePipeline();  // stops what still runs, and waits for it
  FramePipeline(const FramePipeline&) = delete;
  FramePipeline& operator=(const FramePipeline&) = delete;

  // Enhances all frames on the calling thread while others decode and encode. Returns when the last one has been enhanced; encoding goes
  // on.
  std::optional<Failure> Compute();
  // After Compute(): waits until the last frame is encoded and the file is closed.
  std::optional<Failure> Finish();

  // After Finish().
  const RestoreStats& stats() const { return stats_; }
  const std::vector<int>& concealed() const { return concealed_; }  // as VideoReader has them
  const FrameJudge* judge() const { return stages_.judge.get(); }

 private:
  using Planes = std::shared_ptr<float>;

  // A few buffers, made on first need. Those given back are used again: new ones would have to be cleared by the system.
  class Pool {
   public:
    Pool(int count, int64_t floats);
    Planes Take();  // waits for one; null once closed. Must not outlive the pool.
    void Close() { free_.Close(); }

   private:
    const int64_t floats_;
    BoundedQueue<std::unique_ptr<float[]>> free_;
  };

  struct Item {
    VideoFrame source;  // empty: repeats the one before
    Planes before;
    Planes after;
  };

  Status DecodeAll();
  Status EnhanceAll();
  Status EncodeAll();
  void Fail(Stage stage, const Status& status);
  void Stop();
  std::optional<Failure> failure();

  FrameStages stages_;
  const Clock* const clock_;
  Pool before_;
  Pool after_;
  BoundedQueue<Item> decoded_{2};
  BoundedQueue<Item> enhanced_{2};
  CancelToken stop_;
  std::thread decoder_;
  std::thread encoder_;
  RestoreStats stats_;  // each field belongs to one thread until that is joined
  std::vector<int> concealed_;
  std::mutex mutex_;
  std::optional<Failure> failure_;  // the first; guarded by mutex_
  std::optional<CancelCallback> on_cancel_;
};

}  // namespace nsic

#endif  // NSIC_WORKER_RESTORE_FRAMES_H_
