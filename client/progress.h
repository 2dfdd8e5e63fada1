// Shows how a job goes: one line that is redrawn on a terminal, a plain line now and then in a pipe. All on standard error.
#ifndef NSIC_CLIENT_PROGRESS_H_
#define NSIC_CLIENT_PROGRESS_H_

#include <cstdint>
#include <cstdio>
#include <deque>
#include <mutex>
#include <string>
#include <utility>

#include "core/base/clock.h"

namespace nsic {

// Work done over time, and from that the rate over the last minutes.
class RateMeter {
 public:
  // `done` never falls; calls in the order of time.
  void Add(int64_t monotonic_us, double done);
  // Units a second over the window, 0 until something was done over at least two seconds.
  double PerSecond() const;

 private:
  std::deque<std::pair<int64_t, double>> samples_;  // start and end of each step of `done`
};

struct ProgressState {
  std::string activity;          // "hashing", "restoring", "uploading": what the bar counts
  std::string noun = "picture";  // what the files are called
  int64_t files = 0;
  int64_t files_done = 0;
  int64_t files_failed = 0;
  double units_total = 0;  // megapixels, or mebibytes
  double units_done = 0;
  std::string unit;          // "MP", "MiB"; empty: files are counted, without a rate
  int64_t frames_total = 0;  // of videos; 0: there are none
  int64_t frames_done = 0;
  std::string remark;  // why nothing moves; empty when it does
};

// "restoring 27/60 files, 1 failed, 120/5000 frames, 12 fps, 3.2 MP/s, about 2 min 10 s left" and with a bar in front when
// `bar_width` > 0.
std::string DescribeProgress(const ProgressState& state, double per_second, int bar_width, double frames_per_second = 0);

// Thread-safe.
class Progress {
 public:
  // `out` is standard error but in tests; `terminal` whether to redraw.
  Progress(std::FILE* out, bool terminal, const Clock* clock);
  ~Progress();

  // Called often; draws when it is time to.
  void Update(const ProgressState& state);
  // A line that stays.
  void Notice(const std::string& line);
  // Takes the bar away. The next Update starts a new rate.
  void Clear();

 private:
  void Draw(const std::string& line);
  void Erase();

  std::FILE* const out_;
  const bool terminal_;
  const Clock* const clock_;
  std::mutex mutex_;
  RateMeter rate_;
  RateMeter frame_rate_;
  std::string activity_;
  std::string last_line_;
  int64_t last_drawn_us_;
  bool drawn_ = false;
};

// Standard error, redrawn if it is a terminal.
bool StandardErrorIsTerminal();

}  // namespace nsic

#endif  // NSIC_CLIENT_PROGRESS_H_
