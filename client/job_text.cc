#include "client/job_text.h"

#include <cmath>
#include <cstdint>
#include <cstdio>

#include "client/text.h"

namespace nsic {

std::string JobStateName(v1::JobState state) {
  switch (state) {
    case v1::JOB_STATE_RUNNING: return "running";
    case v1::JOB_STATE_SUCCEEDED: return "succeeded";
    case v1::JOB_STATE_FAILED: return "failed";
    case v1::JOB_STATE_CANCELLED: return "cancelled";
    default: return "unknown";  // of a later coordinator
  }
}

nlohmann::json ScoresToJson(const v1::Job& job) {
  if (!job.has_scores()) return nullptr;
  const v1::MeanScores& scores = job.scores();
  return {{"files", scores.files()}, {"before", scores.before()}, {"after", scores.after()}, {"change", scores.after() - scores.before()}};
}

nlohmann::json JobToJson(const v1::Job& job) {
  const v1::RestoreOptions& options = job.spec().options();
  return {{"job_id", job.job_id()},
          {"name", job.spec().name()},
          {"state", JobStateName(job.state())},
          {"paused", job.paused()},
          {"priority", job.spec().priority()},
          {"created_ms", job.created_ms()},
          {"ended_ms", job.ended_ms()},
          {"model", options.model_name()},
          {"model_id", options.model_id()},
          {"strength", options.strength()},
          {"sharpen", options.sharpen()},
          {"scale", options.scale()},
          {"width", options.width()},
          {"height", options.height()},
          {"format", options.format()},
          {"jpeg_quality", options.jpeg_quality()},
          {"split_pixels", options.split_pixels()},
          {"tasks_waiting", job.tasks_waiting()},
          {"tasks_queued", job.tasks_queued()},
          {"tasks_leased", job.tasks_leased()},
          {"tasks_done", job.tasks_done()},
          {"tasks_failed", job.tasks_failed()},
          {"tasks_cancelled", job.tasks_cancelled()},
          {"pixels_total", job.pixels_total()},
          {"pixels_done", job.pixels_done()},
          {"waiting_reason", job.waiting_reason()},
          {"scores", ScoresToJson(job)}};
}

std::string DescribeScores(double before, double after) {
  char text[80];
  std::snprintf(text, sizeof text, "%.1f -> %.1f (%+.1f NS-IQA)", before, after, after - before);
  return text;
}

std::string DescribeJob(const v1::Job& job) {
  const auto number = [](int64_t value) { return std::to_string(value); };
  char megapixels[64];
  std::snprintf(megapixels, sizeof megapixels, "%.1f of %.1f MP", static_cast<double>(job.pixels_done()) * 1e-6,
                static_cast<double>(job.pixels_total()) * 1e-6);
  std::string text = "job      " + ForTerminal(job.job_id()) + "\n";
  text += "name     " + ForTerminal(job.spec().name()) + "\n";
  text += "state    " + JobStateName(job.state()) + (job.paused() && job.state() == v1::JOB_STATE_RUNNING ? ", paused" : "") + "\n";
  if (!job.waiting_reason().empty()) text += "waits    " + ForTerminal(job.waiting_reason()) + "\n";
  text += "model    " + ForTerminal(job.spec().options().model_name()) + "\n";
  text += "tasks    " + number(job.tasks_done()) + " done, " + number(job.tasks_failed()) + " failed, " + number(job.tasks_leased()) +
          " running, " + number(job.tasks_queued()) + " queued, " + number(job.tasks_waiting()) + " waiting for their source";
  if (job.tasks_cancelled() > 0) text += ", " + number(job.tasks_cancelled()) + " cancelled";
  text += "\ndone     " + std::string(megapixels) + "\n";
  if (job.has_scores()) {
    const v1::MeanScores& scores = job.scores();
    text += "quality  " + DescribeScores(scores.before(), scores.after()) + " over " +
            Count(static_cast<int64_t>(std::ceil(scores.files())), "file") + "\n";
  }
  text += "created  " + FormatTime(job.created_ms()) + "\n";
  if (job.ended_ms() > 0) text += "ended    " + FormatTime(job.ended_ms()) + "\n";
  return text;
}

}  // namespace nsic
