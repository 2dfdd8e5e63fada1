#include "core/infer/choose_precision.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

namespace nsic {
namespace {

// A step of 10-bit pictures for the mean error, so that most samples round to the same value, and two of 8-bit ones, which nobody sees, for
// the worst.
constexpr double kRmsTolerance = 1.0 / 1023;
constexpr double kLargestTolerance = 2.0 / 255;
// Precisions err in the steps of their own rounding: an output this flat has lost the picture.
constexpr double kFlatSpan = 1e-6;
constexpr double kWorthwhile = 1.2;
constexpr double kHopeless = 1.2;  // a candidate that was this much slower twice is not timed again
constexpr char kNotFaster[] = "it is not faster";
constexpr int kRounds = 5;            // after one to warm up,
constexpr int kMostRounds = 12;       // or so many while a candidate is neither hopeless nor worthwhile: others may have disturbed it
constexpr double kSlowSeconds = 2.0;  // a run of fp32 that takes longer is timed twice

double Span(const std::vector<float>& samples) {
  const auto [low, high] = std::minmax_element(samples.begin(), samples.end());
  return static_cast<double>(*high) - *low;
}

bool Finite(const std::vector<float>& samples) {
  return std::all_of(samples.begin(), samples.end(), [](float v) { return std::isfinite(v); });
}

std::string In255ths(double error) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f/255", 255 * error);
  return text;
}

void Compare(const std::vector<float>& exact, const std::vector<float>& output, PrecisionTrial* trial) {
  if (output.size() != exact.size()) {
    trial->refusal = "its output has another size";
    return;
  }
  if (!Finite(output)) {
    trial->refusal = "it gives NaN or Inf";
    return;
  }
  if (Span(output) <= kFlatSpan && Span(exact) > kFlatSpan) {
    trial->refusal = "it gives a flat picture";
    return;
  }
  double squares = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double error = std::fabs(static_cast<double>(output[i]) - exact[i]);
    squares += error * error;
    trial->largest_error = std::max(trial->largest_error, error);
  }
  trial->rms_error = std::sqrt(squares / static_cast<double>(exact.size()));
  if (trial->rms_error > kRmsTolerance || trial->largest_error > kLargestTolerance) {
    trial->refusal = "its error of " + In255ths(trial->rms_error) + " (largest " + In255ths(trial->largest_error) + ") is too large";
  }
}

}  // namespace

Result<PrecisionChoice> ChoosePrecision(PrecisionProbe* probe) {
  PrecisionChoice choice;
  const std::vector<Precision> candidates = probe->Candidates();
  if (candidates.empty()) return choice;  // nothing to compare

  NSIC_ASSIGN_OR_RETURN(const ProbeRun exact, probe->Run(Precision::kFloat32));
  if (exact.output.empty() || !Finite(exact.output)) return DataLossError("the network gives NaN or Inf for the probe, in fp32 too");
  choice.trials.emplace_back();
  for (const Precision precision : candidates) {
    PrecisionTrial trial;
    trial.precision = precision;
    const Result<ProbeRun> run = probe->Run(precision);
    if (run.ok()) {
      Compare(exact.output, run->output, &trial);
    } else {
      trial.refusal = run.status().message();
    }
    choice.trials.push_back(std::move(trial));
  }

  // In turns, so that what else the machine does falls on all alike.
  const bool slow = exact.seconds > kSlowSeconds;
  const int rounds = slow ? 2 : kRounds, most_rounds = slow ? rounds : kMostRounds;
  for (int round = 0; round < most_rounds; ++round) {
    for (size_t i = 0; i < choice.trials.size(); ++i) {
      PrecisionTrial& trial = choice.trials[i];
      if (!trial.refusal.empty()) continue;
      NSIC_ASSIGN_OR_RETURN(const ProbeRun run, probe->Run(trial.precision));
      trial.seconds = round == 0 ? run.seconds : std::min(trial.seconds, run.seconds);  // what else the machine does only adds
      if (i > 0 && round > 0 && trial.seconds > kHopeless * choice.trials[0].seconds) trial.refusal = kNotFaster;
    }
    const double fp32 = choice.trials[0].seconds;
    const bool decided = std::all_of(choice.trials.begin() + 1, choice.trials.end(), [&](const PrecisionTrial& trial) {
      return !trial.refusal.empty() || (round + 1 >= rounds && trial.seconds * kWorthwhile <= fp32);
    });
    if (decided) break;
  }
  double best = 0;
  for (size_t i = 0; i < choice.trials.size(); ++i) {
    PrecisionTrial& trial = choice.trials[i];
    if (!trial.refusal.empty()) continue;
    const double fp32 = choice.trials[0].seconds;
    if (i > 0 && trial.seconds * kWorthwhile > fp32) {
      trial.refusal = kNotFaster;
    } else if (i == 0 || trial.seconds < best) {
      choice.precision = trial.precision;
      best = trial.seconds;
    }
  }
  return choice;
}

std::string ChoiceText(const PrecisionChoice& choice) {
  std::string text(PrecisionName(choice.precision));
  const char* separator = ": ";
  for (const PrecisionTrial& trial : choice.trials) {
    text += separator;
    separator = "; ";
    text += PrecisionName(trial.precision);
    if (trial.seconds > 0) {
      char seconds[32];
      std::snprintf(seconds, sizeof seconds, " %.4f s", trial.seconds);
      text += seconds;
    }
    if (trial.rms_error > 0) text += ", error " + In255ths(trial.rms_error) + " (largest " + In255ths(trial.largest_error) + ")";
    if (!trial.refusal.empty()) text += ", refused: " + trial.refusal;
  }
  return text;
}

}  // namespace nsic
