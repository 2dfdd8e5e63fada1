#include "client/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "client/text.h"

namespace nsic {
namespace {

constexpr int64_t kWindowUs = 120'000'000;  // rates are those of the last two minutes
constexpr int64_t kTerminalIntervalUs = 100'000;
constexpr int64_t kPipeIntervalUs = 10'000'000;
constexpr int kBarWidth = 24;

int TerminalColumns() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

std::string Rounded(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, value < 10 ? "%.2f" : value < 100 ? "%.1f" : "%.0f", value);
  return buffer;
}

}  // namespace

void RateMeter::Add(int64_t monotonic_us, double done) {
  // A step of `done` is known only when it has happened, so the rate is taken between steps, plus the time since the last one.
  if (samples_.size() >= 2 && samples_.back().second == done) {
    samples_.back().first = std::max(samples_.back().first, monotonic_us);
  } else {
    samples_.emplace_back(monotonic_us, done);
  }
  while (samples_.size() > 2 && samples_[1].first < monotonic_us - kWindowUs) samples_.pop_front();
}

double RateMeter::PerSecond() const {
  if (samples_.size() < 2) return 0;
  const double seconds = static_cast<double>(samples_.back().first - samples_.front().first) * 1e-6;
  const double done = samples_.back().second - samples_.front().second;
  return seconds >= 2 && done > 0 ? done / seconds : 0;
}

std::string DescribeProgress(const ProgressState& state, double per_second, int bar_width, double frames_per_second) {
  const bool by_units = !state.unit.empty() && state.units_total > 0;
  const double ended = static_cast<double>(state.files_done + state.files_failed);
  const double part = by_units ? state.units_done / state.units_total : state.files > 0 ? ended / static_cast<double>(state.files) : 0;
  const double fraction = std::clamp(part, 0.0, 1.0);
  std::string line;
  if (bar_width > 0) {
    const int full = static_cast<int>(fraction * bar_width);
    line = "[" + std::string(static_cast<size_t>(full), '#') + std::string(static_cast<size_t>(bar_width - full), '.') + "] " +
           std::to_string(static_cast<int>(fraction * 100)) + "%  ";
  }
  line += state.activity + " " + std::to_string(state.files_done) + "/" + Count(state.files, state.noun);
  if (state.files_failed > 0) line += ", " + std::to_string(state.files_failed) + " failed";
  if (state.frames_total > 0) line += ", " + std::to_string(state.frames_done) + "/" + Count(state.frames_total, "frame");
  if (!state.remark.empty()) return line + ", " + ForTerminal(state.remark);
  if (state.frames_total > 0 && frames_per_second > 0) line += ", " + Rounded(frames_per_second) + " fps";
  if (by_units && per_second > 0) {
    line += ", " + Rounded(per_second) + " " + state.unit + "/s";
    if (fraction < 1) line += ", about " + FormatDuration(std::ceil((state.units_total - state.units_done) / per_second)) + " left";
  }
  return line;
}

Progress::Progress(std::FILE* out, bool terminal, const Clock* clock)
    : out_(out), terminal_(terminal), clock_(clock), last_drawn_us_(clock->MonotonicUs()) {}

Progress::~Progress() { Clear(); }

void Progress::Update(const ProgressState& state) {
  std::lock_guard<std::mutex> lock(mutex_);
  const int64_t now = clock_->MonotonicUs();
  if (state.activity != activity_) {
    rate_ = RateMeter();
    frame_rate_ = RateMeter();
    activity_ = state.activity;
  }
  rate_.Add(now, state.units_done);
  frame_rate_.Add(now, static_cast<double>(state.frames_done));
  if (now - last_drawn_us_ < (terminal_ ? kTerminalIntervalUs : kPipeIntervalUs)) return;
  last_drawn_us_ = now;
  std::string line = DescribeProgress(state, rate_.PerSecond(), terminal_ ? kBarWidth : 0, frame_rate_.PerSecond());
  if (terminal_) {
    // One column less than there are: a full line would wrap. What is left over is cut between characters.
    const size_t columns = static_cast<size_t>(std::max(20, TerminalColumns() - 1));
    size_t shown = 0;
    size_t end = 0;
    while (end < line.size()) {
      if ((static_cast<unsigned char>(line[end]) & 0xc0) != 0x80 && ++shown > columns) break;
      ++end;
    }
    Draw(line.substr(0, end));
  } else if (line != last_line_) {
    std::fprintf(out_, "%s\n", line.c_str());
    std::fflush(out_);
    last_line_ = line;
  }
}

void Progress::Notice(const std::string& line) {
  std::lock_guard<std::mutex> lock(mutex_);
  Erase();
  std::fprintf(out_, "%s\n", line.c_str());
  std::fflush(out_);
}

void Progress::Clear() {
  std::lock_guard<std::mutex> lock(mutex_);
  Erase();
  activity_.clear();
}

void Progress::Draw(const std::string& line) {
  std::fprintf(out_, "\r\x1b[K%s", line.c_str());
  std::fflush(out_);
  drawn_ = true;
}

void Progress::Erase() {
  if (drawn_) std::fputs("\r\x1b[K", out_);
  std::fflush(out_);
  drawn_ = false;
}

bool StandardErrorIsTerminal() {
  const char* kind = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && (kind == nullptr || std::string_view(kind) != "dumb");
}

}  // namespace nsic
